"""What every kind of raw records brings to `python -m training.prepare`."""

import argparse
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from lanistr.draft import make_parent
from lanistr.errors import ConfigError
from lanistr.preprocess import PreprocessOptions, Preprocessor
from lanistr.preprocess.text import read_vocabulary
from lanistr.sample import Sample
from lanistr.schema import Schema
from lanistr.tasks import TaskSpec
from training.data.store import Dataset, Split, refuse_filled
from training.prepare import prepared
from training.prepare.fitted import take_fitted
from training.prepare.prepared import Place, SplitOptions, check_shares, no_place
from training.prepare.problems import Problems, problems_path
from training.prepare.report.survey import ReportOptions
from training.prepare.tab2txt import Tab2Txt

SchemaT = TypeVar("SchemaT", bound=Schema)


class Kind(Protocol):
    """A module that reads one kind of raw records.

    Attributes:
        HELP: what it reads, in a few words.
        EXAMPLE: a command line.
    """

    HELP: str
    EXAMPLE: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the options of this kind; those that all share are there already."""
        ...

    def prepare(self, arguments: argparse.Namespace) -> Dataset | None:
        """Prepare the data set that the command line asks for; None if it asks for none."""
        ...


class Step(Protocol):
    """A module that does something to raw records before they are prepared.

    Attributes:
        HELP: what it gets ready, in a few words.
        EXAMPLE: a command line.
    """

    HELP: str
    EXAMPLE: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add all options; none are there already."""
        ...

    def run(self, arguments: argparse.Namespace) -> None:
        """Do what the command line asks for."""
        ...


def folder(word: str) -> Path:
    """Return the path of a folder; one that has a name, also of `.`: files are put beside it."""
    path = Path(word)
    return path.resolve() if path.name in ("", "..") else path


def add_shared_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that all kinds share."""
    parser.add_argument("--out", required=True, type=folder, help="folder to create")
    parser.add_argument("--seed", type=int, default=0, help="random seed (0)")
    parser.add_argument(
        "--splits",
        type=float,
        nargs=3,
        default=SplitOptions().shares,
        metavar=("TRAIN", "VALIDATION", "TEST"),
        help="share of the groups in each split (0.8 0.1 0.1)",
    )
    parser.add_argument(
        "--vocabulary", type=Path, help="a BERT vocab.txt (default: trained on the notes)"
    )
    parser.add_argument(
        "--vocabulary-size", type=int, default=4000, help="size of a trained vocabulary (4000)"
    )
    parser.add_argument("--max-tokens", type=int, default=512, help="maximum tokens per note (512)")
    parser.add_argument(
        "--image-size", type=int, default=224, help="width and height of an image, in pixels (224)"
    )
    parser.add_argument(
        "--preprocessing",
        type=Path,
        metavar="RUN-OR-FOLDER",
        help="run, bundle or data set whose vocabulary, means and codes to reuse, as needed for a "
        "model pretrained with them; the four options above are then ignored",
    )
    parser.add_argument(
        "--tab2txt",
        action="store_true",
        help="replace each table row by text in front of the notes",
    )
    parser.add_argument(
        "--most-problems",
        type=int,
        default=1000,
        help="stop, and write nothing, if more values or records than this cannot be used (1000)",
    )
    parser.add_argument(
        "--no-thumbnails", action="store_true", help="show no images in the data report"
    )


@dataclass(frozen=True)
class Preparation:
    """What the command line says of the preparation of any kind of records.

    Attributes:
        task: what the records are of.
        out: the folder to make.
        options: how each modality is preprocessed.
        splits: how the groups are dealt out.
        report: what the data report shows.
        fitted: preprocessing that was fitted elsewhere; None: it is fitted here.
        tab2txt: puts table rows into words; None: they stay rows.
        problems: takes what is wrong with the raw files.
    """

    task: TaskSpec
    out: Path
    options: PreprocessOptions
    splits: SplitOptions
    report: ReportOptions
    fitted: Preprocessor | None
    tab2txt: Tab2Txt | None
    problems: Problems

    def run(
        self,
        samples: Callable[[], Iterable[Sample]],
        *,
        source: Mapping[str, Any],
        place_of: Callable[[Sample], Place] = no_place,
        split_of: Mapping[str, Split] | None = None,
    ) -> Dataset:
        """Prepare the data set; see `training.prepare.prepared.prepare`."""
        return prepared.prepare(
            samples,
            self.task,
            self.out,
            options=self.options,
            splits=self.splits,
            source=source,
            problems=self.problems,
            place_of=place_of,
            split_of=split_of,
            fitted=self.fitted,
            tab2txt=self.tab2txt,
            report=self.report,
        )


def begin(
    arguments: argparse.Namespace, task: TaskSpec, most_problems: int | None = None
) -> Preparation:
    """Check what can be checked before anything is read, and begin the problems file.

    Args:
        arguments: of the command line.
        task: what the records are of.
        most_problems: problems beyond which the run stops; None: as the command line says.

    Raises:
        ConfigError: an option is not what is accepted, or see `take_fitted` and `Tab2Txt`.
        DataError: the folder to make is there already.
    """
    with _naming_options():
        options = preprocess_options(arguments)
        if options.text.vocabulary is not None:
            read_vocabulary(options.text.vocabulary, options.text.lowercase)
        splits = split_options(arguments)
        check_shares(splits)
    tab2txt = Tab2Txt(task) if arguments.tab2txt else None
    stored = tab2txt.task if tab2txt else task
    fitted = take_fitted(arguments.preprocessing, stored) if arguments.preprocessing else None
    if fitted is None and not splits.shares[0]:
        raise ConfigError(
            "the training split is empty",
            code="no_training",
            field="--splits",
            seen=arguments.splits,
            accepted="a share for training above 0; or --preprocessing from elsewhere",
        )
    out: Path = arguments.out
    refuse_filled(out)
    make_parent(out)
    limit = arguments.most_problems if most_problems is None else most_problems
    return Preparation(
        task=task,
        out=out,
        options=options,
        splits=splits,
        report=ReportOptions(thumbnails=0) if arguments.no_thumbnails else ReportOptions(),
        fitted=fitted,
        tab2txt=tab2txt,
        problems=Problems(problems_path(out), limit),
    )


def preprocess_options(arguments: argparse.Namespace) -> PreprocessOptions:
    """Return how the command line wants the modalities preprocessed."""
    return options(
        PreprocessOptions,
        text={
            "vocabulary": arguments.vocabulary,
            "vocabulary_size": arguments.vocabulary_size,
            "max_tokens": arguments.max_tokens,
        },
        image={"size": arguments.image_size},
    )


def split_options(arguments: argparse.Namespace) -> SplitOptions:
    """Return how the command line wants the groups dealt out."""
    return options(SplitOptions, shares=tuple(arguments.splits), seed=arguments.seed)


def options(kind: type[SchemaT], **given: Any) -> SchemaT:
    """Check options that the command line gives.

    Raises:
        ConfigError: one is not what is accepted.
    """
    with _naming_options():
        return kind.parse(given, ConfigError, "command line")


@contextmanager
def _naming_options() -> Iterator[None]:
    """Name a refused setting by its command-line option."""
    try:
        yield
    except ConfigError as exc:
        if not exc.field.startswith("--"):
            named = (option for path, option in _OPTIONS.items() if exc.field.startswith(path))
            first = exc.field.partition(".")[0].replace("_", "-")
            exc.field = next(named, f"--{first}")
        raise


_OPTIONS: Mapping[str, str] = {
    "image.size": "--image-size",
    "shares": "--splits",
    "splits.shares": "--splits",
    "text.max_tokens": "--max-tokens",
    "text.vocabulary_size": "--vocabulary-size",
    "text.vocabulary": "--vocabulary",
}
"""Command-line options of settings that go by another name."""
