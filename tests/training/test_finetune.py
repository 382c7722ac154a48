"""Fine-tuning through its command: what moves, what is kept, what is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from lanistr.calibration import softmax
from lanistr.errors import CheckpointError, ConfigError, DataError
from lanistr.model.checkpoint import from_pretrained, read_config
from lanistr.model.lanistr import Lanistr
from lanistr.tasks import LabelSpec, find_task
from tests.fixtures_runs import SMALL
from training.class_weights import weigh_classes
from training.data.store import Dataset
from training.decide import calibrate, validated
from training.experiments.results import best_validation
from training.finetune import main
from training.loop import NonFiniteLossError
from training.metrics import measure
from training.predict import predict
from training.recipe import FinetuneRecipe, load_recipe
from training.run import Run

Make = Callable[..., Path]
CPU = torch.device("cpu")


def entries(run: Path, kind: str = "loss") -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [each for each in lines if kind in each]


def stored(run: Path, part: str = "") -> dict[str, Tensor]:
    tensors = load_file(run / "model" / "model.safetensors")
    plain = {name.removeprefix("core."): each for name, each in tensors.items()}
    return {name: each for name, each in plain.items() if name.startswith(part)}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(
        torch.equal(first[each], second[each]) for each in first
    )


# ---- dry runs -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recipe", "total", "trained", "head"),
    [
        ("mortality", 241_619_646, 45_543_170, 1_182_722),
        ("amazon-beauty", 241_972_709 + 3 * 4, 45_536_261, 1_185_029),  # four columns of one code
    ],
)
def test_the_papers_recipes_have_the_papers_parameters(
    recipe: str, total: int, trained: int, head: int, command: Callable[..., str]
) -> None:
    plan = json.loads(command(main, "--recipe", recipe, "--dry-run"))
    counts = plan["parameters"]
    assert (counts["total"], counts["trained"]) == (total, trained)
    assert sum(counts["by_module"].values()) == total
    assert counts["by_module"]["head"] == head
    assert plan["model"]["head"]["kind"] == "classes"


def test_a_dry_run_from_another_run_plans_what_would_be_built(
    stays_pretrained: Path, stays: Path, stays_finetuned: Path, command: Callable[..., str]
) -> None:
    built = Run.open(stays_finetuned).config.parameters
    for data in ((), ("--data", stays)):
        plan = json.loads(
            command(main, "--recipe", "demo", "--init", stays_pretrained, "--dry-run", *data)
        )
        assert plan["parameters"]["by_module"] == built
    assert plan["model"] == read_config(stays_finetuned / "model").config.model_dump(mode="json")


# ---- what moves ---------------------------------------------------------------------------------


def test_frozen_encoders_do_not_change_and_the_rest_does(
    reviews_pretrained: Path, reviews_finetuned: Path
) -> None:
    before, after = stored(reviews_pretrained, "encoders."), stored(reviews_finetuned, "encoders.")
    assert any("running_mean" in name for name in after)  # statistics would move outside eval mode
    assert same(before, after)
    for part in ("projections.", "fusion."):
        assert not same(stored(reviews_pretrained, part), stored(reviews_finetuned, part))


def test_unfrozen_encoders_change_all(stays_pretrained: Path, stays_finetuned: Path) -> None:
    for modality in Dataset.open(Path(Run.open(stays_finetuned).config.data)).task.modalities:
        part = f"encoders.{modality}."
        assert not same(stored(stays_pretrained, part), stored(stays_finetuned, part))


def test_without_a_run_to_start_from_all_starts_fresh(stars_finetuned: Path, stars: Path) -> None:
    assert Run.open(stars_finetuned).config.init is None
    losses = [each["loss"] for each in entries(stars_finetuned)]
    assert len(losses) == 3 * 7
    assert np.mean(losses[-7:]) < np.mean(losses[:7])


def test_the_same_seed_gives_the_same_weights_bit_by_bit_and_another_gives_others(
    stays: Path, stays_pretrained: Path, make_finetuned: Make
) -> None:
    runs = [
        make_finetuned(stays, f"tuned-{n}", stays_pretrained, "optim.epochs=1", f"seed={seed}")
        for n, seed in enumerate((3, 3, 4))
    ]
    assert same(stored(runs[0]), stored(runs[1]))
    assert not same(stored(runs[0]), stored(runs[2]))


# ---- what is kept -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fives_finetuned(make_table: Make, make_finetuned: Make) -> Path:
    """Of an order of classes the last one is by far the most frequent."""
    label = find_task("rating").label
    data = make_table("fives", label, "macro_f1", lambda s: s if int(s) < 3 else "5")
    return make_finetuned(data, "fives-finetuned", None, "optim.epochs=3")


@pytest.mark.parametrize(
    ("run", "metric", "best", "epochs"),
    [
        ("stays_finetuned", "auroc", max, 3),
        ("stars_finetuned", "mae", min, 3),
        ("fives_finetuned", "macro_f1", max, 3),
    ],
)
def test_the_epoch_that_is_best_on_the_validation_split_is_kept(
    run: str,
    metric: str,
    best: Callable[..., float],
    epochs: int,
    request: pytest.FixtureRequest,
) -> None:
    folder = request.getfixturevalue(run)
    dataset = Dataset.open(Path(Run.open(folder).config.data))
    seen = [each["validation"][metric] for each in entries(folder, "validation")]
    assert len(seen) == epochs
    rows = dataset.rows("validation", labelled=True)
    outputs = predict(from_pretrained(folder / "model", Lanistr), dataset, rows, CPU)
    decision = Run.open(folder).calibration().decision
    assert decision == calibrate(outputs, dataset.labels[rows], dataset.task).decision
    assert decision.likeliest == (metric != "macro_f1")
    kept = validated(outputs, dataset.labels[rows], dataset.task)[metric]
    assert kept == pytest.approx(best(seen), abs=1e-6)


def test_training_stops_when_the_validation_metric_stays_as_it_is(
    reviews: Path, reviews_pretrained: Path, make_finetuned: Make
) -> None:
    run = make_finetuned(
        reviews, "patient", reviews_pretrained,
        "optim.epochs=9", "optim.lr=1e-30", "freeze_encoders=true", "patience=2",
    )  # fmt: skip
    assert [each["epoch"] for each in entries(run, "validation")] == [0, 1, 2]


def test_encoders_with_random_weights_are_not_frozen(
    stars: Path, shop: Path, command: Callable[..., str]
) -> None:
    with pytest.raises(ConfigError, match="would be frozen with random weights:"):
        command(
            main, "--recipe", "demo", "--data", stars, "--out", shop / "random",
            overrides=("freeze_encoders=true",),
        )  # fmt: skip
    assert not (shop / "random").exists()


def test_the_calibration_is_that_of_the_validation_split(
    stays_finetuned: Path, stars_finetuned: Path
) -> None:
    for folder in (stays_finetuned, stars_finetuned):
        run = Run.open(folder)
        labelled = Dataset.open(Path(run.config.data)).card.labelled["validation"]
        assert len(run.calibration().scores) == labelled
    assert Run.open(stars_finetuned).calibration().temperature == 1


def test_no_more_labels_are_used_than_asked_for(
    stars: Path, shop: Path, command: Callable[..., str]
) -> None:
    def learn(name: str, labels: str) -> Path:
        said = command(
            main, "--recipe", "demo", "--data", stars, "--out", shop / name,
            overrides=("optim.epochs=1", "optim.batch_size=4", f"labels={labels}"),
        )  # fmt: skip
        assert f"{labels} labelled cases" in said
        return shop / name

    run = learn("ten", "10")
    assert len(entries(run)) == 3  # batches of 4, 4 and 2
    assert same(stored(run), stored(learn("ten-again", "10")))


def test_the_figure_of_several_validations_mean_is_that_of_what_is_handed_out(
    stars: Path, shop: Path, command: Callable[..., str]
) -> None:
    run = shop / "stars-mean"
    said = command(
        main, "--recipe", "demo", "--data", stars, "--out", run,
        overrides=(*SMALL, "optim.epochs=4", "optim.batch_size=16", "average=3"),
    )  # fmt: skip
    dataset = Dataset.open(stars)
    rows = dataset.rows("validation", labelled=True)
    outputs = predict(from_pretrained(run / "model", Lanistr), dataset, rows, CPU)
    figures = measure(outputs, dataset.labels[rows], dataset.task.label)
    (noted,) = entries(run, "mean_of")
    assert noted["mean_of"] > 1
    assert noted["mean_validation"] == pytest.approx(figures)
    assert figures["mae"] < min(e["validation"]["mae"] for e in entries(run, "validation"))
    assert f"validation mae {figures['mae']:.4f}, weights averaged over {noted['mean_of']}" in said
    assert best_validation(run, "mae") == pytest.approx(-figures["mae"])


@pytest.mark.parametrize(("ordinal", "kind"), [("score", "ordinal"), ("classes", "classes")])
def test_an_order_of_classes_may_be_learned_with_and_without_it(
    ordinal: str, kind: str, reviews: Path, reviews_pretrained: Path, make_finetuned: Make
) -> None:
    run = make_finetuned(
        reviews, f"as-{kind}", reviews_pretrained,
        "optim.epochs=1", f"ordinal={ordinal}", "freeze_encoders=true",
    )  # fmt: skip
    model = from_pretrained(run / "model", Lanistr)
    assert model.config.head is not None
    assert (model.config.head.kind, model.config.head.outputs) == (kind, 5)
    dataset = Dataset.open(reviews)
    assert predict(model, dataset, dataset.rows("test"), CPU).shape[1] == 5
    (found,) = entries(run, "validation")
    assert 0 <= found["validation"]["accuracy"] <= 1
    assert found["validation"]["mae"] < 4


# ---- classes that are rare ----------------------------------------------------------------------


def recipe(*overrides: str) -> FinetuneRecipe:
    return load_recipe("demo", "finetune", FinetuneRecipe, overrides)


def test_balanced_classes_weigh_the_same_in_all_and_1_on_average() -> None:
    label = LabelSpec(kind="multiclass", name="colour", classes=("red", "green", "blue"))
    targets = np.array([0] * 80 + [1] * 15 + [2] * 5, np.float32)
    weights = np.array(weigh_classes(recipe("class_weights=balanced"), label, targets))
    counts = np.array([80, 15, 5])
    assert weights * counts == pytest.approx([100 / 3] * 3)
    given = weigh_classes(recipe("class_weights=[1, 2, 4]"), label, targets)
    assert np.array(given) @ counts == pytest.approx(100)
    assert np.array(given) / given[0] == pytest.approx([1, 2, 4])
    assert weigh_classes(recipe(), label, targets) is None


def test_what_class_weights_shift_is_taken_back_from_the_head(
    verdicts: Path, shop: Path, command: Callable[..., str]
) -> None:
    # A head that has learned nothing but the odds: as weighted, it says one in two.
    dataset = Dataset.open(verdicts)
    rows = dataset.rows("train", labelled=True)
    share = float(dataset.labels[rows].mean())
    found = {}
    for name in ("equal", "balanced"):
        out = shop / f"weights-{name}"
        command(
            main, "--recipe", "demo", "--data", verdicts, "--out", out,
            overrides=(
                "model.tabular.steps=2", "optim.epochs=12", "optim.batch_size=50", "patience=12",
                f"class_weights={name}", "optim.rates={encoders: 0, projections: 0, fusion: 0}",
                "optim.lr=1e-2", "modality_dropout=0",
            ),
        )  # fmt: skip
        outputs = predict(from_pretrained(out / "model", Lanistr), dataset, rows, CPU)
        found[name] = float(softmax(outputs)[:, 1].mean())
    assert share > 0.6
    assert found["balanced"] == pytest.approx(share, abs=0.12)
    assert found["equal"] == pytest.approx(share, abs=0.12)


@pytest.mark.parametrize(
    ("data", "weights", "message"),
    [
        ("stars", "balanced", "class weights do not apply to this label"),
        ("ranks", "balanced", "class weights do not apply to this label"),
        ("verdicts", "[1, 2, 3]", "not one weight per class.*2 numbers, for poor, good"),
    ],
)
def test_class_weights_that_cannot_be_are_refused_before_anything_is_made(
    data: str, weights: str, message: str, shop: Path, command: Callable[..., str],
    request: pytest.FixtureRequest,
) -> None:  # fmt: skip
    out = shop / "never-weighed"
    with pytest.raises(ConfigError, match=message):
        command(
            main, "--recipe", "demo", "--data", request.getfixturevalue(data), "--out", out,
            overrides=(f"class_weights={weights}",),
        )  # fmt: skip
    assert not out.exists()


def test_several_classes_without_order_are_learned(make_table: Make, make_finetuned: Make) -> None:
    label = LabelSpec(kind="multiclass", name="mood", classes=("low", "middle", "high"))

    def mood(stars: str) -> str:
        return {"1": "low", "2": "low", "3": "middle"}.get(stars, "high")

    data = make_table("moods", label, "accuracy", mood)
    run = make_finetuned(
        data, "moods-finetuned", None, "optim.epochs=2", "class_weights=balanced",
        "optim.rates={encoders: 0.5, head: 2}",
    )  # fmt: skip
    outputs = predict(from_pretrained(run / "model", Lanistr), Dataset.open(data), [0, 1, 2], CPU)
    assert outputs.shape == (3, 3)
    assert all("accuracy" in each["validation"] for each in entries(run, "validation"))


# ---- what is refused ----------------------------------------------------------------------------


def test_what_does_not_fit_is_refused_before_anything_is_made(
    stays: Path, other_stays: Path, stays_pretrained: Path, shop: Path, command: Callable[..., str]
) -> None:
    out = shop / "never-tuned"
    given = ("--recipe", "demo", "--out", out, "--init", stays_pretrained)
    with pytest.raises(DataError, match="not preprocessed as for the run:"):
        command(main, *given, "--data", other_stays)
    with pytest.raises(ConfigError, match=r"another task.*accepted: mortality"):
        command(main, *given, "--data", stays, overrides=("task=rating",))
    with pytest.raises(CheckpointError, match="not a finished run"):
        command(main, "--recipe", "demo", "--out", out, "--init", stays, "--data", stays)
    for size in ("model.text.layers=9", "model={text: {layers: 9}}", "model.heads.layers=5"):
        with pytest.raises(ConfigError, match="sizes are determined by the run given with --init"):
            command(main, *given, "--data", stays, overrides=(size,))
    assert not out.exists()


def test_a_validation_split_of_one_class_is_refused_before_anything_is_made(
    make_table: Make, shop: Path, command: Callable[..., str]
) -> None:
    from tests.fixtures_runs import VERDICT

    data = make_table("one-class", VERDICT, "auroc", lambda stars: "good")
    with pytest.raises(DataError, match="does not determine the task's metric"):
        command(main, "--recipe", "demo", "--data", data, "--out", shop / "never-judged")
    assert not (shop / "never-judged").exists()


def test_outputs_that_are_not_finite_stop_the_run_and_name_the_cases(
    stars: Path, shop: Path, command: Callable[..., str]
) -> None:
    # One step an epoch: what it spoils is validated before another step would see it.
    changes = ("optim.lr=1e30", "optim.batch_size=1000")
    with pytest.raises(
        NonFiniteLossError, match="the model's outputs for validation cases"
    ) as said:
        command(
            main,
            *("--recipe", "demo", "--data", stars, "--out", shop / "spoilt"),
            overrides=(*SMALL, *changes),
        )
    dataset = Dataset.open(stars)
    assert dataset.ids(dataset.rows("validation", labelled=True)[:1].tolist())[0] in str(said.value)


# ---- numbers ------------------------------------------------------------------------------------


def test_a_number_is_learned_alike_in_any_unit(
    stars: Path, stars_finetuned: Path, make_table: Make, make_finetuned: Make
) -> None:
    label = LabelSpec(kind="regression", name="stay", unit="h")
    hours = make_table("hours", label, "mae", lambda s: 1000 + 50 * float(s))
    learned = make_finetuned(hours, "hours-finetuned", None, "optim.epochs=3")
    rows = Dataset.open(stars).rows("test")
    in_stars, in_hours = (
        predict(from_pretrained(run / "model", Lanistr), Dataset.open(data), rows, CPU)
        for run, data in ((stars_finetuned, stars), (learned, hours))
    )
    assert in_hours == pytest.approx(1000 + 50 * in_stars, abs=0.05)
    # From the first epoch on no worse than always the same number, whatever its size.
    labels = Dataset.open(hours).labels
    train, validation = (labels[Dataset.open(hours).rows(s)] for s in ("train", "validation"))
    first = entries(learned, "validation")[0]["validation"]["mae"]
    assert first < 1.2 * np.abs(validation - np.median(train)).mean()
