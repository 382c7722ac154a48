"""What `training.yardsticks` and `training.autogluon` share: the cases, and the report on them.

So that figures can stand side by side: the cases learned from are those that `training.finetune`
takes with the same number and seed, and the report is that of `training.evaluate`. What a
baseline says of the other training cases can be stored, for a model to learn (`training.teachers`).
"""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from lanistr import __version__
from lanistr.command import CommandParser
from lanistr.errors import DataError
from lanistr.jsonfile import write_json
from lanistr.modalities import Modality
from training.arguments import check_count, check_seed
from training.cases import draw_labelled, refuse_one_class
from training.data.store import Dataset, data_hash
from training.decide import calibrate, validated
from training.evaluate import evaluate
from training.initial import refuse_lacking
from training.metrics import check_metric, goodness
from training.outputs import outputs_file, write_outputs

REPORT = "report-test.json"
ANSWERS = "answers.npz"
"""What is said of the other training cases, see `training.outputs`."""

Positions = NDArray[np.int64]
Outputs = NDArray[np.float32]


@dataclass(frozen=True)
class Cases:
    """The cases that a method learns from, chooses by, and is judged on.

    Attributes:
        dataset: where they stand.
        train, validation, test: positions of labelled cases, ascending.
        seed: of the draw of those learned from.
        others: positions of training cases that are not learned from and are to be answered,
            ascending.
    """

    dataset: Dataset
    train: Positions
    validation: Positions
    test: Positions
    seed: int
    others: Positions = field(default_factory=lambda: np.empty(0, dtype=np.int64))

    @classmethod
    def open(cls, arguments: argparse.Namespace, *, answered: bool = False) -> Self:
        """Find what the command line asks for, see `baseline_parser`.

        Args:
            arguments: as parsed.
            answered: whether the training cases that are not learned from are to be answered.

        Raises:
            ConfigError: an impossible number of labels, or the data lack a modality.
            DataError: the data are none or lack labels, those learned from are all of
                one class, or nothing is left to be answered.
        """
        check_count("--labels", arguments.labels)
        check_seed("--seed", arguments.seed)
        dataset = Dataset.open(arguments.data)
        if arguments.modalities:
            wanted = [Modality(each) for each in arguments.modalities]
            refuse_lacking("--modalities", wanted, dataset)
            dataset = dataset.only(wanted)
        validation, test = (dataset.rows(each, labelled=True) for each in ("validation", "test"))
        label = dataset.task.label
        check_metric(dataset.task.metric, dataset.labels[validation], label)
        train = draw_labelled(dataset, arguments.labels, arguments.seed)
        refuse_one_class(dataset, train)
        others = np.setdiff1d(dataset.rows("train"), train) if answered else train[:0]
        if answered and not len(others):
            raise DataError(
                "no training case is left to predict: all their labels are used for training",
                field=str(dataset.folder),
                seen=f"{len(train)} labelled cases",
                accepted="fewer --labels, or data with unlabelled training cases",
            )
        return cls(dataset, train, validation, test, arguments.seed, others)

    @property
    def everyone(self) -> Positions:
        """Positions of all: those learned from, of validation, of test, and the others."""
        return np.concatenate([self.train, self.validation, self.test, self.others])

    def dealt(self, rows: Any) -> tuple[Any, Any, Any, Any]:
        """Deal out what was made of `everyone` to train, validation, test and others."""
        ends = np.cumsum([len(self.train), len(self.validation), len(self.test)])
        first, second, third = ends.tolist()
        return rows[:first], rows[first:second], rows[second:third], rows[third:]

    def validated(self, outputs: Outputs) -> tuple[float, float]:
        """Return the metric of outputs (N, C) for the validation cases, and how good that is."""
        task = self.dataset.task
        found = validated(outputs, self.dataset.labels[self.validation], task)
        return found[task.metric], goodness(found, task.metric)

    def report(
        self, about: Mapping[str, Any], package: str, validation: Outputs, test: Outputs
    ) -> dict[str, Any]:
        """Return what is written into `REPORT`.

        Args:
            about: what is to be said of the method.
            package: that has it, whose version is told.
            validation: (N, C) logits or log-probabilities, or (N, 1) numbers, which the
                temperature and the decision are fitted to.
            test: the same of the test cases.
        """
        dataset, task = self.dataset, self.dataset.task
        calibration = calibrate(validation, dataset.labels[self.validation], task)
        said = {
            "task": task.name,
            "title": task.title,
            "label": task.label.model_dump(mode="json"),
            "metric": task.metric,
            "split": "test",
            "modalities": task.modalities,
            "labels": len(self.train),
            "seed": self.seed,
            "data": str(dataset.folder),
            "data_hash": data_hash(dataset),
            "synthetic": dataset.synthetic,
            "temperature": calibration.temperature,
            "created": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            "versions": {"lanistr": __version__, package: version(package)},
        }
        return {"about": said | dict(about)} | evaluate(
            test / np.float32(calibration.temperature), dataset, self.test, calibration.decision
        )


def write_report(report: Mapping[str, Any], cases: Cases, test: Outputs, folder: Path) -> None:
    """Write a report of `Cases.report`, and what it is of, into a folder.

    Args:
        report: what it says.
        cases: those of the method.
        test: outputs (N, C) for the test cases, as `Cases.report` has them.
        folder: of the method.
    """
    write_outputs(folder / outputs_file("test"), cases.test, _over_temperature(test, report))
    write_json(folder / REPORT, report)


def write_answers(report: Mapping[str, Any], cases: Cases, outputs: Outputs, folder: Path) -> None:
    """Write what a method says of the other training cases, outputs (N, C), into its folder."""
    write_outputs(folder / ANSWERS, cases.others, _over_temperature(outputs, report))


def _over_temperature(outputs: Outputs, report: Mapping[str, Any]) -> Outputs:
    return outputs / np.float32(report["about"]["temperature"])


def baseline_parser(name: str, description: str, example: str) -> argparse.ArgumentParser:
    """Return a parser with the options that `Cases.open` reads, and `--out`."""
    parser = CommandParser(
        prog=f"python -m training.{name}",
        description=description,
        epilog=f"example:\n  {example}",
    )
    parser.add_argument("--data", required=True, type=Path, help="prepared data set")
    parser.add_argument("--out", required=True, type=Path, help="folder to create")
    parser.add_argument(
        "--labels",
        type=int,
        help="number of labelled cases to learn from, the same as training.finetune draws with "
        "these `labels` and `seed` (all)",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the draw and the method (0)")
    parser.add_argument(
        "--modalities",
        nargs="+",
        choices=tuple(Modality),
        metavar="MODALITY",
        help=f"modalities to use: {', '.join(Modality)} (all in the data)",
    )
    return parser
