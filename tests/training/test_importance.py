"""What modalities will bring: told by probes on the frozen model, and fairly shared out."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lanistr.errors import CheckpointError, ConfigError, DataError
from lanistr.importance import subsets
from lanistr.modalities import Modality
from lanistr.model.checkpoint import from_pretrained, read_config
from lanistr.model.lanistr import Lanistr
from lanistr.model.tensors import TensorBatch, to_tensors
from lanistr.tasks import LabelSpec, find_task
from training.data.store import Dataset
from training.importance import View, Worth, embed, main, probe, summarised
from training.metrics import measure

Command = Callable[..., str]
CPU = torch.device("cpu")
EVERYTHING = "text+image+tabular+timeseries"


def report_of(folder: Path) -> Any:
    return json.loads((folder / "importance.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def estimated(stays: Path, stays_pretrained: Path, shop: Path, command: Command) -> tuple[Any, str]:
    flags = ("--labels", 40, "--draws", 2, "--seed", 3)
    out = shop / "importance"
    said = command(main, "--run", stays_pretrained, "--data", stays, "--out", out, *flags)
    return report_of(out), said


def test_shares_add_up_to_what_everything_is_worth_more_than_nothing(
    estimated: tuple[Any, str], stays_dataset: Dataset
) -> None:
    found, _ = estimated
    assert len(found["values"]) == 2**4
    assert list(found["modalities"]) == list(stays_dataset.task.modalities)
    worth = found["values"][EVERYTHING]["value"] - found["values"][""]["value"]
    shares = [each["share"] for each in found["modalities"].values()]
    assert sum(shares) == pytest.approx(worth, abs=1e-5)
    assert found["values"][""]["value"] == 0.5  # AUROC of saying the same of all
    for each in [*found["values"].values(), *found["modalities"].values()]:
        low, high = each["interval"]
        assert low <= high
    means = np.mean([each["text"] for each in found["draws"]])
    assert found["values"]["text"]["value"] == pytest.approx(means, abs=1e-5)
    assert len(found["draws"]) == 2


def test_the_table_says_it_all_the_best_first(estimated: tuple[Any, str]) -> None:
    found, said = estimated
    lines = said.splitlines()
    assert "auroc of a probe" in lines[0]
    assert "40 labels, 2 draws" in lines[0]
    names = [line.split()[0] for line in lines[2:6]]
    assert names == sorted(names, key=lambda name: -found["modalities"][name]["share"])
    assert [line.split()[0] for line in lines[6:8]] == ["nothing", "everything"]
    assert "mean nothing" in lines[8]  # synthetic


def test_a_view_is_what_the_model_makes_of_cases_that_bring_that_alone(
    stays_dataset: Dataset, stays_finetuned: Path
) -> None:
    model = from_pretrained(stays_finetuned / "model", Lanistr)
    positions = stays_dataset.rows("test")
    views = embed(model, stays_dataset, positions, CPU)
    assert views.keys() == set(subsets(stays_dataset.task.modalities))
    batch = to_tensors(stays_dataset.batch(positions.tolist()))
    for chosen, view in views.items():
        shown = {each: part for each, part in batch.parts.items() if each in chosen}
        with torch.no_grad():
            expected = model(TensorBatch(batch.size, shown)).embedding.numpy()
        np.testing.assert_allclose(view.vectors, expected, atol=1e-5)
        brought = [bool(chosen & set(stays_dataset.features(int(i)).rows)) for i in positions]
        assert view.brought.tolist() == brought


def test_what_a_model_fills_in_for_absent_parts_is_seen_by_its_probe(
    stays_dataset: Dataset, stays_pretrained: Path
) -> None:
    config = read_config(stays_pretrained / "model").config
    torch.manual_seed(0)
    fusion = config.fusion.model_copy(update={"shortcut": None})
    model = Lanistr(config.model_copy(update={"compat": "release", "fusion": fusion})).eval()
    positions = stays_dataset.rows("test")[:5]
    views = embed(model, stays_dataset, positions, CPU)
    batch = to_tensors(stays_dataset.batch(positions.tolist()))
    for chosen in (frozenset({Modality.TEXT}), frozenset(stays_dataset.task.modalities)):
        parts = {each: part for each, part in batch.parts.items() if each in chosen}
        whole = model.complete(TensorBatch(batch.size, parts))
        with torch.no_grad():
            gathered = model.fusion.gather(*model.assemble(whole, model.encode(whole.parts)))
        expected = torch.nn.functional.normalize(gathered, dim=-1).numpy()
        np.testing.assert_allclose(views[chosen].vectors, expected, atol=1e-5)


# ---- probes -------------------------------------------------------------------------------------

YES_NO = find_task("mortality").label


def drawn(cases: int, label: LabelSpec, seed: int = 0) -> tuple[View, Any]:
    """Vectors whose first number tells the label; the last fifth bring nothing."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(cases, 6)).astype(np.float32)
    targets = vectors[:, 0]
    if label.kind != "regression":
        targets = np.digitize(
            targets, np.quantile(targets, np.arange(1, label.outputs) / label.outputs)
        )
    brought = np.arange(cases) < 0.8 * cases
    return View(vectors, brought), targets.astype(np.float32)


@pytest.mark.parametrize(
    ("label", "metric", "least"),
    [
        (YES_NO, "auroc", 0.9),
        (find_task("rating").label, "quadratic_kappa", 0.8),
        (LabelSpec(kind="regression", name="size"), "mae", None),
    ],
)
def test_a_probe_finds_what_is_there_and_says_what_is_usual_of_who_brings_nothing(
    label: LabelSpec, metric: str, least: float | None
) -> None:
    view, targets = drawn(300, label)
    train, test = np.arange(0, 300, 2), np.arange(1, 300, 2)
    said = probe(view, targets, train, test, label, seed=0)
    assert said.shape == (150, label.outputs)
    none = said[~view.brought[test]]
    assert (none == none[0]).all()
    if label.kind == "regression":
        assert none[0, 0] == pytest.approx(targets[train].mean(), abs=1e-5)
    else:
        shares = np.bincount(targets[train].astype(int), minlength=label.outputs) / len(train)
        np.testing.assert_allclose(np.exp(none[0]), shares, atol=1e-5)
    some = view.brought[test]
    found = measure(said[some], targets[test][some], label)[metric]
    assert found < 0.1 if least is None else found > least


def test_a_probe_of_noise_says_little_and_of_nearly_no_cases_what_is_usual() -> None:
    view, targets = drawn(300, YES_NO)
    noise = np.random.default_rng(1).permutation(targets)
    train, test = np.arange(0, 300, 2), np.arange(1, 300, 2)
    said = probe(view, noise, train, test, YES_NO, seed=0)
    assert np.abs(said[:, 1] - said[:, 0]).mean() < 0.5
    few = View(view.vectors, np.isin(np.arange(300), [0, 2, 1, 3]))
    said = probe(few, targets, train, test, YES_NO, seed=0)
    assert (said == said[0]).all()


def test_a_class_of_one_case_stops_no_probe() -> None:
    view, targets = drawn(60, YES_NO)
    targets[:] = 0
    targets[4] = 1
    said = probe(view, targets, np.arange(40), np.arange(40, 60), YES_NO, seed=0)
    assert np.isfinite(said).all()


def test_a_share_is_positive_where_errors_shrink() -> None:
    task = find_task("rating").model_copy(
        update={
            "label": LabelSpec(kind="regression", name="size"),
            "metric": "mae",
            "text": None,
        }
    )
    truth = np.linspace(-1, 1, 40, dtype=np.float32)
    image, tabular = Modality.IMAGE, Modality.TABULAR
    said = {
        subset: (truth if tabular in subset else 0 * truth)[:, None]
        for subset in subsets([image, tabular])
    }
    alone = np.arange(40).astype(str)
    found = summarised([Worth.of(said, truth, alone, task)], {image: 0.5, tabular: 1.0}, task)
    assert not found["higher_is_better"]
    assert found["modalities"]["image"]["share"] == 0
    assert found["modalities"]["tabular"]["share"] == pytest.approx(np.abs(truth).mean(), abs=1e-5)
    low, high = found["modalities"]["tabular"]["interval"]
    assert 0 < low < high
    assert found["modalities"]["tabular"]["alone"] == 0


# ---- runs and mistakes --------------------------------------------------------------------------


def test_runs_of_any_stage_and_system_can_be_asked(
    stays: Path,
    stars: Path,
    stars_finetuned: Path,
    make_baseline: Callable[..., Path],
    tmp_path: Path,
    command: Command,
) -> None:
    late = make_baseline("late-fusion", stays, "late-for-importance", "optim.epochs=1")
    said = command(
        main, "--run", late, "--data", stays, "--out", tmp_path / "late",
        "--labels", 30, "--draws", 1, "--split", "test",
    )  # fmt: skip
    assert "cases of the test split" in said
    assert "was already trained with labels" in said
    command(main, "--run", stars_finetuned, "--data", stars, "--out", tmp_path / "stars")
    found = report_of(tmp_path / "stars")
    labelled = len(Dataset.open(stars).rows("train", labelled=True))
    assert found["about"]["labels"] == labelled  # fewer than asked for, and always the same
    assert len(found["draws"]) == 1
    worth = found["values"][""]["value"] - found["values"]["tabular"]["value"]
    assert found["modalities"]["tabular"]["share"] == pytest.approx(worth, abs=1e-5)


def test_what_cannot_be_asked_is_refused(
    stays: Path,
    other_stays: Path,
    stars: Path,
    stars_finetuned: Path,
    stays_pretrained: Path,
    make_table: Callable[..., Path],
    tmp_path: Path,
    command: Command,
) -> None:
    out = tmp_path / "out"
    asked = ("--run", stays_pretrained, "--data", stays, "--out", out)
    with pytest.raises(ConfigError, match="--draws: too few"):
        command(main, *asked, "--draws", 0)
    with pytest.raises(DataError, match="of one class"):
        command(main, *asked, "--labels", 1)
    with pytest.raises(DataError, match="not preprocessed as for the run:"):
        command(main, "--run", stays_pretrained, "--data", other_stays, "--out", out)
    with pytest.raises(CheckpointError, match="not a finished run"):
        command(main, "--run", stays, "--data", stays, "--out", out)
    label = LabelSpec(kind="regression", name="stars", unit="stars")
    unlabelled = make_table("unlabelled", label, "mae", lambda stars: None)
    with pytest.raises(DataError, match="no labelled cases"):
        command(main, "--run", stars_finetuned, "--data", unlabelled, "--out", out)
    assert not out.exists()
