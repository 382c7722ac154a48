"""`python -m export`: turn a fine-tuned run into a bundle."""

import argparse
import json
import logging
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from export.card import model_card
from export.graphs import graph_sources
from export.onnx import export_onnx
from export.parity import BATCH_SIZES, prove_parity
from lanistr.bundle import CALIBRATION, CARD, TASK, Graph, write_bundle
from lanistr.command import CommandParser, run_command
from lanistr.errors import DataError
from lanistr.model.checkpoint import from_pretrained
from lanistr.model.lanistr import Lanistr
from training.data.store import Dataset
from training.evaluate import evaluate
from training.predict import predict
from training.run import Run, check_fits, check_predicts, versions

EXAMPLE = "python -m export --run runs/stays-ft --out bundles/mortality"


def main() -> None:
    """Export as the command line says."""
    arguments = _parser().parse_args()
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)

    # ---- the run and real cases ----------------------------------------------------------------
    run = Run.open(arguments.run)
    dataset = Dataset.open(arguments.data or Path(run.config.data))
    check_predicts(run, dataset)
    check_fits(run, dataset)
    model = from_pretrained(run.model_folder, Lanistr)
    test = dataset.rows("test", labelled=True)
    outputs = predict(model, dataset, test, torch.device("cpu")) / run.calibration().temperature
    report = evaluate(outputs, dataset, test)

    # ---- the bundle, whole or not at all -------------------------------------------------------
    graphs: dict[str, Graph] = {}
    parity: dict[str, float] = {}

    def fill(draft: Path) -> None:
        (draft / TASK).write_text(_json(run.task.model_dump(mode="json")), encoding="utf-8")
        run.preprocessor().save(draft)
        calibration = run.calibration().model_dump(mode="json")
        (draft / CALIBRATION).write_text(_json(calibration), encoding="utf-8")
        (draft / CARD).write_text(model_card(run, dataset, report), encoding="utf-8")
        examples, complete = _examples(dataset, test), _complete_first(dataset, test)
        for name, source in graph_sources(model, dataset.batch(examples)).items():
            graphs[name] = export_onnx(name, source, draft)
        files = {name: draft / graph.file for name, graph in graphs.items()}
        # The largest batch starts with the examples, so that it brings every modality.
        cases = [*complete[: sum(BATCH_SIZES[:-1])], *examples, *complete]
        parity.update(prove_parity(model, dataset, cases, files))

    bundle = write_bundle(
        arguments.out,
        fill,
        lambda: {
            "task": run.task.name,
            "name": arguments.name or arguments.run.name,
            "source_run": str(arguments.run),
            "precision": "fp32",
            "width": model.config.fusion.width,
            "demo": run.config.synthetic,
            "graphs": graphs,
            "parity": parity,
            "metrics": {n: v for n, v in report["all"]["metrics"].items() if v is not None},
            "software": versions() | {each: version(each) for each in ("onnx", "onnxruntime")},
        },
    )
    size = sum(entry.bytes for entry in bundle.manifest.files.values()) / 2**20
    worst = max(bundle.manifest.parity.values())
    print(
        f"{arguments.out}: {bundle.task.name} {bundle.manifest.version}, {size:.1f} MiB, "
        f"largest difference from the model {worst:.1e}"
    )


def _examples(dataset: Dataset, rows: np.ndarray) -> list[int]:
    """Return cases that together bring every modality at least twice.

    Raises:
        DataError: a modality occurs in fewer than two cases of the split.
    """
    chosen: set[int] = set()
    for modality in dataset.task.modalities:
        bringing = [int(row) for row in rows if dataset.brings(int(row), modality)][:2]
        if len(bringing) < 2:
            raise DataError(
                "too few cases bring a modality to prove its graph on",
                field=modality,
                seen=len(bringing),
                accepted="at least two labelled cases of the test split",
            )
        chosen.update(bringing)
    return sorted(chosen)


def _complete_first(dataset: Dataset, rows: np.ndarray) -> list[int]:
    """Return the cases that bring the most modalities first."""
    brought = [sum(dataset.brings(int(row), m) for m in dataset.task.modalities) for row in rows]
    return [int(rows[i]) for i in np.argsort(brought, kind="stable")[::-1]]


def _json(value: object) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="python -m export",
        description="Turn a fine-tuned run into a bundle, and prove that it computes the same.",
        epilog=f"example:\n  {EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--run", required=True, type=Path, help="fine-tuned run")
    parser.add_argument("--out", required=True, type=Path, help="bundle to write")
    parser.add_argument("--data", type=Path, help="prepared data (default: the run's)")
    parser.add_argument("--name", help="name of the model (default: the run's)")
    parser.add_argument("--formats", nargs="+", choices=["onnx"], default=["onnx"])
    parser.add_argument("--precision", nargs="+", choices=["fp32"], default=["fp32"])
    return parser


if __name__ == "__main__":
    run_command(main)
