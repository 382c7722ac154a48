"""Prepared data, runs and bundles that the tests of training and export share.

Everything is made by the real commands, once a session, and must not be changed by a test. The
conftest of each folder that needs them loads this file as a plugin.
"""

import contextlib
import io
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lanistr.modalities import Modality
from lanistr.preprocess import PreprocessOptions
from lanistr.tasks import LabelSpec, TaskSpec, find_task
from training.data.store import Dataset
from training.prepare.prepared import SplitOptions, prepare
from training.prepare.synthetic import SyntheticOptions, draw

Command = Callable[..., str]

CASES = 125  # an odd number, so that no batch size divides it
SMALL = (
    "model.text.layers=1",
    "model.image.layers=1",
    "model.tabular.steps=2",
    "model.fusion.layers=1",
)
"""Overrides that make the `demo` model smaller still."""
SMALLEST = (*SMALL, "model.tabular.shared=1", "model.tabular.independent=1")
"""Those of runs that are only compared with each other; the series keep two layers, for what wraps
or shards layer by layer."""


SHORTCUT = "model.fusion.shortcut.hidden=8"
"""Of stays: the graphs and bundles of everything else are as the paper has them, without."""


@pytest.fixture(scope="session")
def one_thread() -> Iterator[None]:
    """On tiny tensors a second thread only waits for the first."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def command() -> Command:
    """Return a function that runs a command's `main` with arguments and returns what it said."""

    def run(main: Callable[[], None], *arguments: object, overrides: tuple[str, ...] = ()) -> str:
        flags = [flag for each in overrides for flag in ("--set", each)]
        said = io.StringIO()
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(said):
            patch.setattr(sys, "argv", ["command", *map(str, arguments), *flags])
            main()
        return said.getvalue()

    return run


# ---- stays and reviews, as the synthetic generator makes them -----------------------------------


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which everything below stands."""
    return tmp_path_factory.mktemp("shop")


@pytest.fixture(scope="session")
def make_data(shop: Path, command: Command) -> Callable[..., Path]:
    """Return a function that prepares synthetic records."""
    from training.prepare.__main__ import main

    def make(task: str, seed: int = 0) -> Path:
        out = shop / f"{task}-{seed}"
        sizes = ("--image-size", 16, "--vocabulary-size", 400, "--max-tokens", 64)
        command(
            main, "synthetic", "--task", task, "--samples", CASES, "--seed", seed, *sizes,
            "--out", out,
        )  # fmt: skip
        return out

    return make


@pytest.fixture(scope="session")
def stays(make_data: Callable[..., Path]) -> Path:
    return make_data("mortality")


@pytest.fixture(scope="session")
def other_stays(make_data: Callable[..., Path]) -> Path:
    """Stays of other patients, hence preprocessed with other statistics and another vocabulary."""
    return make_data("mortality", seed=1)


@pytest.fixture(scope="session")
def reviews(make_data: Callable[..., Path]) -> Path:
    return make_data("rating")


@pytest.fixture(scope="session")
def make_pretrained(shop: Path, command: Command) -> Callable[..., Path]:
    """Return a function that pretrains a small model."""
    from training.pretrain import main

    def make(data: Path, name: str, *overrides: str) -> Path:
        out = shop / name
        command(
            main, "--recipe", "demo", "--data", data, "--out", out,
            overrides=(*SMALL, "optim.batch_size=16", *overrides),
        )  # fmt: skip
        return out

    return make


@pytest.fixture(scope="session")
def make_finetuned(shop: Path, command: Command) -> Callable[..., Path]:
    """Return a function that fine-tunes, from a run or, if that is None, from nothing."""
    from training.finetune import main

    def make(data: Path, name: str, init: Path | None, *overrides: str) -> Path:
        out = shop / name
        start = SMALL if init is None else ()
        flags = () if init is None else ("--init", init)
        command(
            main, "--recipe", "demo", "--data", data, "--out", out, *flags,
            overrides=(*start, "optim.batch_size=16", *overrides),
        )  # fmt: skip
        return out

    return make


@pytest.fixture(scope="session")
def make_baseline(shop: Path, command: Command) -> Callable[..., Path]:
    """Return a function that trains a small baseline, each by its name once."""
    from training.finetune import main

    def make(system: str, data: Path, name: str, *overrides: str) -> Path:
        if not (shop / name).exists():
            settings = (f"system={system}", "optim.epochs=3", "optim.batch_size=16", *overrides)
            command(
                main, "--recipe", "demo", "--data", data, "--out", shop / name, overrides=settings
            )
        return shop / name

    return make


@pytest.fixture(scope="session")
def stays_pretrained(stays: Path, make_pretrained: Callable[..., Path]) -> Path:
    return make_pretrained(stays, "stays-pretrained", "optim.epochs=3", SHORTCUT)


@pytest.fixture(scope="session")
def stays_finetuned(
    stays: Path, stays_pretrained: Path, make_finetuned: Callable[..., Path]
) -> Path:
    """Nothing frozen."""
    return make_finetuned(stays, "stays-finetuned", stays_pretrained, "optim.epochs=3")


@pytest.fixture(scope="session")
def reviews_pretrained(reviews: Path, make_pretrained: Callable[..., Path]) -> Path:
    return make_pretrained(reviews, "reviews-pretrained", "optim.epochs=1")


@pytest.fixture(scope="session")
def reviews_finetuned(
    reviews: Path, reviews_pretrained: Path, make_finetuned: Callable[..., Path]
) -> Path:
    """Encoders frozen, an ordinal head."""
    return make_finetuned(
        reviews, "reviews-finetuned", reviews_pretrained, "optim.epochs=2", "freeze_encoders=true"
    )


# ---- rows of reviews alone: the quickest to train and export, under any label -------------------

STARS = LabelSpec(kind="regression", name="stars", unit="stars")
VERDICT = LabelSpec(kind="binary", name="verdict", classes=("poor", "good"))


def table_task(label: LabelSpec, metric: str) -> TaskSpec:
    """The rating task without words and pictures, with another label."""
    rating = find_task("rating").model_dump()
    changes = {"name": label.name, "text": None, "image": None, "metric": metric, "label": label}
    return TaskSpec.model_validate(rating | changes)


@pytest.fixture(scope="session")
def make_table(shop: Path) -> Callable[..., Path]:
    """Return a function that prepares the rows of reviews, labelled by a function of the stars."""

    def make(name: str, label: LabelSpec, metric: str, read: Callable[[str], str | float]) -> Path:
        samples = [
            replace(
                each,
                parts={Modality.TABULAR: each.parts[Modality.TABULAR]},
                label=read(str(each.label)),
                subgroups={},
            )
            for each in draw("rating", SyntheticOptions(samples=CASES, missing=0))
        ]
        prepare(
            lambda: samples,
            table_task(label, metric),
            shop / name,
            options=PreprocessOptions(),
            splits=SplitOptions(),
            source={"from": "synthetic"},
        )
        return shop / name

    return make


@pytest.fixture(scope="session")
def stars(make_table: Callable[..., Path]) -> Path:
    """Rows with a number to predict."""
    return make_table("stars", STARS, "mae", float)


@pytest.fixture(scope="session")
def verdicts(make_table: Callable[..., Path]) -> Path:
    """The same rows with two classes to predict."""
    return make_table("verdicts", VERDICT, "auroc", lambda s: "good" if s in "45" else "poor")


@pytest.fixture(scope="session")
def stars_finetuned(stars: Path, make_finetuned: Callable[..., Path]) -> Path:
    """From nothing."""
    return make_finetuned(stars, "stars-finetuned", None, "optim.epochs=3")


@pytest.fixture(scope="session")
def ranks(make_table: Callable[..., Path]) -> Path:
    """The same rows with the stars as classes in order."""
    return make_table("ranks", find_task("rating").label, "quadratic_kappa", str)


@pytest.fixture(scope="session")
def ranks_finetuned(ranks: Path, make_finetuned: Callable[..., Path]) -> Path:
    """From nothing, with an ordinal head."""
    return make_finetuned(ranks, "ranks-finetuned", None, "optim.epochs=2")


@pytest.fixture(scope="session")
def alike(make_table: Callable[..., Path]) -> Path:
    """The same rows again, all with five stars: nothing can be told from how they are ranked."""
    return make_table("alike", find_task("rating").label, "quadratic_kappa", lambda stars: "5")


# ---- bundles ------------------------------------------------------------------------------------

LICENCE = "CC0-1.0, as the records are made up"
EVERYTHING = (
    "--formats", "onnx", "torchscript", "--precision", "fp32", "int8", "fp16", "bf16",
    "--license", LICENCE,
)  # fmt: skip
HOWEVER_BAD = ("--most-fall", "1000")  # a metric on a dozen cases jumps


@pytest.fixture(scope="session")
def make_bundle(shop: Path, command: Command) -> Callable[..., Path]:
    """Return a function that exports a run."""
    from export.__main__ import main

    def make(run: Path, name: str, *options: str) -> Path:
        command(main, "--run", run, "--out", shop / name, *HOWEVER_BAD, *options)
        return shop / name

    return make


@pytest.fixture(scope="session")
def stays_bundle(stays_finetuned: Path, make_bundle: Callable[..., Path]) -> Path:
    """Every build that there is."""
    return make_bundle(stays_finetuned, "stays-bundle", *EVERYTHING)


@pytest.fixture(scope="session")
def ranks_bundle(ranks_finetuned: Path, make_bundle: Callable[..., Path]) -> Path:
    """In ONNX alone."""
    return make_bundle(ranks_finetuned, "ranks-bundle", "--formats", "onnx")


@pytest.fixture(scope="session")
def stars_bundle(stars_finetuned: Path, make_bundle: Callable[..., Path]) -> Path:
    """The builds that an export makes when it is asked for nothing."""
    return make_bundle(stars_finetuned, "stars-bundle")


# ---- what is read from them ---------------------------------------------------------------------


@pytest.fixture(scope="session")
def stays_dataset(stays: Path) -> Dataset:
    return Dataset.open(stays)


@pytest.fixture(scope="session")
def stars_dataset(stars: Path) -> Dataset:
    return Dataset.open(stars)
