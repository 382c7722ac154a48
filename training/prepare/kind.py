"""What every kind of raw records brings to `python -m training.prepare`."""

import argparse
from pathlib import Path
from typing import Any, Protocol, TypeVar

from lanistr.errors import ConfigError
from lanistr.preprocess import PreprocessOptions, Preprocessor
from lanistr.schema import Schema
from lanistr.tasks import TaskSpec
from training.data.store import Dataset
from training.prepare.fitted import take_fitted
from training.prepare.prepared import SplitOptions
from training.prepare.report.survey import ReportOptions

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
        """Prepare the data set that the command line asks for; None where it asks for none."""
        ...


class Step(Protocol):
    """A module with something that is done to raw records before they are prepared.

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


def add_shared_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that all kinds share."""
    parser.add_argument("--out", required=True, type=Path, help="folder to make")
    parser.add_argument("--seed", type=int, default=0, help="of all that is drawn (0)")
    parser.add_argument(
        "--splits",
        type=float,
        nargs=3,
        default=SplitOptions().shares,
        metavar=("TRAIN", "VALIDATION", "TEST"),
        help="shares of the groups (0.8 0.1 0.1)",
    )
    parser.add_argument("--vocabulary", type=Path, help="a BERT vocab.txt (default: trained)")
    parser.add_argument("--vocabulary-size", type=int, default=4000, help="of a trained one (4000)")
    parser.add_argument("--max-tokens", type=int, default=512, help="longest note, in tokens (512)")
    parser.add_argument("--image-size", type=int, default=224, help="side of a picture (224)")
    parser.add_argument(
        "--preprocessing",
        type=Path,
        metavar="RUN-OR-FOLDER",
        help="run, bundle or data set whose vocabulary, means and codes are used, as a model that"
        " was pretrained with them needs; the four options above do not count then",
    )
    parser.add_argument(
        "--most-problems",
        type=int,
        default=1000,
        help="stop, and leave nothing, when more values or records cannot be used (1000)",
    )
    parser.add_argument(
        "--no-thumbnails", action="store_true", help="show no pictures in the data report"
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


def taken_preprocessing(arguments: argparse.Namespace, task: TaskSpec) -> Preprocessor | None:
    """Return the preprocessing that the command line names, which was fitted elsewhere.

    Raises:
        ConfigError: see `take_fitted`.
    """
    return take_fitted(arguments.preprocessing, task) if arguments.preprocessing else None


def split_options(arguments: argparse.Namespace) -> SplitOptions:
    """Return how the command line wants the groups dealt out."""
    return options(SplitOptions, shares=tuple(arguments.splits), seed=arguments.seed)


def report_options(arguments: argparse.Namespace) -> ReportOptions:
    """Return what the command line wants the data report to show."""
    return ReportOptions(thumbnails=0) if arguments.no_thumbnails else ReportOptions()


def options(kind: type[SchemaT], **given: Any) -> SchemaT:
    """Check options that the command line gives.

    Raises:
        ConfigError: one is not what is accepted.
    """
    return kind.parse(given, ConfigError, "command line")
