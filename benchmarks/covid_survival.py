"""Survival from X-ray, note and row of the COVID-19 image data collection, by cross-validation.

    python -m benchmarks.covid_survival --source ../shared/data/covid_cxr --out runs/covid

The ordinary commands, once for each part of the patients and each seed: prepare, fine-tune. What
was made before in the same folder with the same settings is not made again. Every patient is in the
test split once; what the models say there is put together. With 8 patients who died the figures
show that the way works, and are no basis for any conclusion.
"""

import argparse
import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from benchmarks.commands import check_source, made
from lanistr.command import CommandParser, run_command
from lanistr.model.checkpoint import from_pretrained
from lanistr.model.lanistr import Lanistr
from lanistr.tasks import LabelSpec, read_task
from training.bootstrap import bootstrap
from training.data.store import Dataset
from training.experiments.jobs import overrides
from training.metrics import measure as measure_all
from training.predict import predict
from training.run import Run

TASK = Path(__file__).resolve().parents[1] / "examples" / "covid" / "task.yaml"
FOLDS, SEEDS, ROUNDS = 4, (0, 1, 2), 2000


def main() -> None:
    """Cross-validate, print the figures, write them to `figures.json`."""
    arguments = _parser().parse_args()
    out: Path = arguments.out
    check_source(arguments.source, ["metadata.csv"])
    with (arguments.source / "metadata.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))

    # ---- one data set a fold: the same table with a column that says the split -----------------
    fold_of = deal(rows, np.random.default_rng(0))
    patient_of = {row["filename"]: row["patientid"] for row in rows}
    out.mkdir(parents=True, exist_ok=True)
    task = yaml.safe_load(TASK.read_text(encoding="utf-8"))
    task["source"]["split"] = "fold split"
    (out / "task.yaml").write_text(yaml.safe_dump(task, sort_keys=False), encoding="utf-8")
    threads = torch.get_num_threads()
    folds: list[Path] = []
    for fold in range(FOLDS):
        folded = out / f"fold-{fold}.csv"
        write_fold(rows, fold_of, fold, folded)
        folds.append(
            made(
                out,
                f"data-{fold}",
                *("training.prepare", "table", "--source", folded),
                *("--files", arguments.source, "--task", out / "task.yaml", "--image-size", 64),
                *("--max-tokens", 128, "--vocabulary-size", 1000),
                threads=threads,
            )
        )

    # ---- one model a fold and seed --------------------------------------------------------------
    found: dict[int, list[dict[str, Any]]] = {}
    for seed in SEEDS:
        found[seed] = []
        for fold, data in enumerate(folds):
            run = made(
                out,
                f"run-{fold}-{seed}",
                *("training.finetune", "--recipe", "demo", "--data", data, "--device", "cpu"),
                *overrides([f"seed={seed}", f"optim.epochs={arguments.epochs}"]),
                threads=threads,
            )
            cases = said(Run.open(run), Dataset.open(data), patient_of)
            found[seed] += [{**case, "fold": fold} for case in cases]

    # ---- how good that is -----------------------------------------------------------------------
    label = read_task(TASK).label
    figures = {f"seed {seed}": measure(cases, label) for seed, cases in found.items()}
    figures["mean over seeds"] = measure(mean_over_seeds(list(found.values())), label)
    text = json.dumps(figures, indent=1)
    (out / "figures.json").write_text(text + "\n", encoding="utf-8")
    print(text)


def deal(rows: list[dict[str, str]], rng: np.random.Generator) -> dict[str, int]:
    """Deal the patients out to the folds, those who died, survived, and unknown each evenly."""
    outcome = {row["patientid"]: "" for row in rows}
    outcome |= {r["patientid"]: r["survival"] for r in rows if r["survival"] in ("Y", "N")}
    fold_of: dict[str, int] = {}
    for kind in ("N", "Y", ""):
        patients = sorted(patient for patient, found in outcome.items() if found == kind)
        for place, patient in enumerate(rng.permutation(patients)):
            fold_of[str(patient)] = place % FOLDS
    return fold_of


def write_fold(rows: list[dict[str, str]], fold_of: dict[str, int], fold: int, path: Path) -> None:
    """Write the table with each row's split: the fold tests, the next validates."""
    splits = {fold: "test", (fold + 1) % FOLDS: "validation"}
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0], "fold split"])
        writer.writeheader()
        for row in rows:
            split = splits.get(fold_of[row["patientid"]], "train")
            writer.writerow({**row, "fold split": split})


def said(run: Run, data: Dataset, patient_of: dict[str, str]) -> list[dict[str, Any]]:
    """Return for each labelled test case its id, patient, truth and calibrated probability."""
    positions = data.rows("test", labelled=True)
    model = from_pretrained(run.model_folder, Lanistr)
    logits = predict(model, data, positions, torch.device("cpu"))
    logits = logits / run.calibration().temperature
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = (shifted / shifted.sum(axis=1, keepdims=True))[:, 1]
    return [
        {"id": case, "patient": patient_of[case], "died": int(data.labels[at]), "probability": p}
        for case, at, p in zip(
            data.ids(positions.tolist()), positions, probabilities.tolist(), strict=True
        )
    ]


def mean_over_seeds(found: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return the cases with the mean of what the seeds' models say."""
    return [
        {**same[0], "probability": float(np.mean([each["probability"] for each in same]))}
        for same in zip(*found, strict=True)
    ]


def measure(cases: list[dict[str, Any]], label: LabelSpec) -> dict[str, Any]:
    """Return figures over pictures, with 95% intervals from patients drawn again."""
    truth, outputs = _arrays(cases)
    patients = np.array([each["patient"] for each in cases])
    drawn = bootstrap(outputs, truth, label, patients, rounds=ROUNDS)
    found: dict[str, Any] = {
        "pictures": len(cases),
        "died": int(truth.sum()),
        "patients": len(np.unique(patients)),
        "brier of the base rate": round(float(np.mean((truth - truth.mean()) ** 2)), 3),
    }
    # Models of several folds differ in what they call likely, which ranks put together suffer from.
    within = [[case for case in cases if case["fold"] == fold] for fold in range(FOLDS)]
    ranks = [measure_all(*_arrays(fold)[::-1], label)["auroc"] for fold in within]
    found["auroc in each fold"] = [round(value, 3) for value in ranks]
    found["auroc in a fold, mean"] = round(float(np.mean(ranks)), 3)
    for name, value in measure_all(outputs, truth, label).items():
        low, high = drawn[name]
        found[name] = {"value": round(value, 3), "interval": [round(low, 3), round(high, 3)]}
    return found


def _arrays(cases: list[dict[str, Any]]) -> tuple[Any, Any]:
    """Return (N,) what came true and (N, 2) log-probabilities."""
    truth = np.array([each["died"] for each in cases], dtype=np.float32)
    died = np.array([each["probability"] for each in cases]).clip(1e-9, 1 - 1e-9)
    return truth, np.log(np.stack([1 - died, died], axis=1))


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="python -m benchmarks.covid_survival",
        description="Cross-validate survival on the COVID-19 image data collection.",
    )
    parser.add_argument("--source", required=True, type=Path, help="the folder covid_cxr")
    parser.add_argument("--out", required=True, type=Path, help="folder for data sets and runs")
    parser.add_argument("--epochs", type=int, default=12, help="at most, each model (12)")
    return parser


if __name__ == "__main__":
    run_command(main)
