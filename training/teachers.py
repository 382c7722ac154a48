"""What others say of cases, for a model to learn where there are no labels.

A teacher is a fine-tuned run, or another method that stored its answers (`training.yardsticks
--answers`). That teachers see cases otherwise than the student is what it gains by.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from lanistr.calibration import softmax
from lanistr.errors import CheckpointError, DataError
from lanistr.model.checkpoint import from_pretrained
from lanistr.model.lanistr import Lanistr
from training.baselines import ANSWERS, REPORT
from training.cases import draw_labelled
from training.compatibility import check_fits, check_predicts
from training.data.store import Dataset, data_hash, file_hash
from training.outputs import read_outputs
from training.predict import predict
from training.run import CONFIG, Run

Positions = NDArray[np.int64]


class Teacher(Protocol):
    """Who says something of cases."""

    @property
    def folder(self) -> Path:
        """Where it stands."""
        ...

    @property
    def digest(self) -> str:
        """Sha256 of what it says it by."""
        ...

    def check(self, dataset: Dataset, labelled: Positions, others: Positions) -> None:
        """Check that it speaks of these data and labels.

        Args:
            dataset: where the cases stand.
            labelled: of the cases whose label the student learns.
            others: of those that it is to be taught.

        Raises:
            DataError: it does not, or it learned labels of these data that the student does not.
        """
        ...

    def learned(self, dataset: Dataset) -> Positions:
        """Return whose labels, of these data, are in what it says."""
        ...

    def sees(self, dataset: Dataset, positions: Positions) -> NDArray[np.bool_]:
        """Return (N,) whether a case brings anything of what it reads."""
        ...

    def say(
        self, dataset: Dataset, positions: Positions, device: torch.device, workers: int
    ) -> NDArray[np.floating[Any]]:
        """Return (N, C) logits over the temperature, or (N, 1) numbers."""
        ...


@dataclass(frozen=True)
class FinetunedRun:
    """A model of ours; see `Teacher`."""

    run: Run

    @property
    def folder(self) -> Path:
        """See `Teacher`."""
        return self.run.folder

    @property
    def digest(self) -> str:
        """See `Teacher`."""
        return self.run.weights_hash()

    def check(self, dataset: Dataset, labelled: Positions, others: Positions) -> None:
        """See `Teacher`."""
        check_fits(self.run, self._read(dataset))
        check_predicts(self.run, dataset)
        learned = self.learned(dataset)
        further = np.setdiff1d(learned, labelled)
        if len(further):
            raise DataError(
                "the teacher, or a run that it builds on, learned from labels that the student "
                "must not use",
                code="bad_fit",
                field=str(self.folder),
                seen=f"{len(further)} of {len(learned)}",
                accepted="a run with the same `seed` and no more `labels`, or on other data",
            )

    def learned(self, dataset: Dataset) -> Positions:
        """See `Teacher`."""
        return learned_by(self.run, dataset)

    def sees(self, dataset: Dataset, positions: Positions) -> NDArray[np.bool_]:
        """See `Teacher`."""
        return self._read(dataset).patterns(positions) != ""

    def say(
        self, dataset: Dataset, positions: Positions, device: torch.device, workers: int
    ) -> NDArray[np.floating[Any]]:
        """See `Teacher`."""
        model = from_pretrained(self.run.model_folder, Lanistr).to(device)
        outputs = predict(model, self._read(dataset), positions, device, workers=workers)
        return outputs / self.run.calibration().temperature

    def _read(self, dataset: Dataset) -> Dataset:
        """Return the data as this run sees them, which may be with less than its student does."""
        return dataset.only(self.run.task.modalities)


def learned_by(run: Run, dataset: Dataset) -> Positions:
    """Return whose labels, of these data, a run learned: it, what it started from, who taught it.

    Raises:
        DataError: a run behind it cannot be read, so that nobody knows what that learned.
    """
    config, known = run.config, [np.empty(0, np.int64)]
    if config.stage == "finetune" and config.data_hash == data_hash(dataset):
        seen = Dataset.open(dataset.folder).only(run.task.modalities)
        labels, seed = config.recipe["labels"], config.recipe["seed"]
        complete = config.recipe.get("complete", False)  # which runs of old do not tell
        known.append(draw_labelled(seen, labels, seed, complete=complete))
    for folder in [*filter(None, [config.init]), *config.encoders, *config.teachers]:
        try:
            behind = open_teacher(Path(folder))
        except CheckpointError as exc:
            raise DataError(
                "a run that the teacher builds on cannot be read, so it is unknown which labels "
                "that used",
                code="bad_fit",
                field=str(run.folder),
                seen=str(exc),
                accepted=f"{folder} at its old place, or a run that builds on no other",
            ) from exc
        known.append(behind.learned(dataset))
    return np.unique(np.concatenate(known))


@dataclass(frozen=True)
class StoredAnswers:
    """What another method said once; see `Teacher`."""

    folder: Path
    about: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """See `Teacher`."""
        return file_hash(self.folder / ANSWERS)

    def check(self, dataset: Dataset, labelled: Positions, others: Positions) -> None:
        """See `Teacher`."""
        if self.about["data_hash"] != data_hash(dataset):
            raise DataError(
                "the predictions are for other data",
                code="bad_fit",
                field=str(self.folder),
                seen=self.about["data"],
                accepted=str(dataset.folder),
            )
        known, _ = read_outputs(self.folder / ANSWERS)
        lacking = np.setdiff1d(others, known)
        if len(lacking):
            raise DataError(
                "the teacher has no predictions for training cases whose label is not used here",
                code="bad_fit",
                field=str(self.folder),
                seen=f"{len(lacking)} of {len(others)}, as it was trained with "
                f"{self.about['labels']} labels and seed {self.about['seed']}",
                accepted="one with the same number of labels and seed, for all training cases",
            )

    def learned(self, dataset: Dataset) -> Positions:
        """See `Teacher`."""
        if self.about["data_hash"] != data_hash(dataset):
            return np.empty(0, np.int64)
        known, _ = read_outputs(self.folder / ANSWERS)
        return np.setdiff1d(dataset.rows("train", labelled=True), known)

    def sees(self, dataset: Dataset, positions: Positions) -> NDArray[np.bool_]:
        """See `Teacher`: what it read is not noted, so that anything counts."""
        return dataset.patterns(positions) != ""

    def say(
        self, dataset: Dataset, positions: Positions, device: torch.device, workers: int
    ) -> NDArray[np.floating[Any]]:
        """See `Teacher`."""
        known, outputs = read_outputs(self.folder / ANSWERS)
        found: NDArray[np.floating[Any]] = outputs[np.searchsorted(known, positions)]
        return found


def open_teacher(folder: Path) -> Teacher:
    """Open what stands in a folder.

    Raises:
        CheckpointError: neither a finished run nor stored answers, which is said of a yardstick.
    """
    if not (folder / ANSWERS).is_file():
        if (folder / REPORT).is_file() and not (folder / CONFIG).is_file():
            raise CheckpointError(
                "a yardstick that did not store predictions for the other training cases",
                code="no_answers",
                field=str(folder),
                accepted="one trained with --answers, or a finished run",
            )
        return FinetunedRun(Run.open(folder))
    return StoredAnswers(folder, json.loads((folder / REPORT).read_text("utf-8"))["about"])


def cases_to_teach(
    teachers: Sequence[Teacher], dataset: Dataset, positions: Positions, labelled: Positions
) -> Positions:
    """Return those cases that are learned as the teachers say: of which any sees something.

    Args:
        teachers: see `open_teacher`.
        dataset: where the cases stand.
        positions: of those to be learned.
        labelled: of those among them that are learned as their label says.

    Raises:
        DataError: a teacher is of other labels, data or preprocessing, learned more of the labels,
            or says too little; or there is nothing to be taught.
    """
    others = np.setdiff1d(positions, labelled)
    for each in teachers:
        each.check(dataset, labelled, others)
    if not len(others):
        raise DataError(
            "no case is left to be taught: all training labels are used",
            field=str(dataset.folder),
            seen=f"{len(labelled)} labelled cases",
            accepted="fewer `labels`, or data with unlabelled training cases",
        )
    seen = np.any([each.sees(dataset, others) for each in teachers], axis=0)
    if not seen.any():
        raise DataError(
            "no case to be taught has a modality that the teachers use",
            code="bad_fit",
            field=str(dataset.folder),
            seen=f"{len(others)} cases without a label to learn from",
            accepted="teachers of modalities that these cases have",
        )
    return others[seen]


def teach(
    teachers: Sequence[Teacher],
    dataset: Dataset,
    others: Positions,
    labelled: Positions,
    *,
    device: torch.device,
    workers: int,
) -> NDArray[np.float32]:
    """Return what each case of a data set is to be learned as.

    Args:
        teachers: see `open_teacher`.
        dataset: where the cases stand.
        others: of those that are learned as the teachers say on average who see something of
            them; see `cases_to_teach`.
        labelled: of those that are learned as their label says.
        device: where the teachers run.
        workers: processes that read ahead.

    Returns:
        (N, C) probability of each class, or (N,) number, by position in the data set; NaN for a
        case that is not to be learned.
    """
    label = dataset.task.label
    targets = np.full((len(dataset), label.outputs), np.nan)
    targets[others] = 0
    seen = np.stack([each.sees(dataset, others) for each in teachers])
    for each, sees in zip(teachers, seen, strict=True):
        if not sees.any():
            continue
        outputs = each.say(dataset, others[sees], device, workers)
        said = outputs if label.kind == "regression" else softmax(outputs)
        targets[others[sees]] += said / seen[:, sees].sum(axis=0)[:, None]
    known = dataset.labels[labelled]
    if label.kind == "regression":
        targets[labelled, 0] = known
        return targets[:, 0].astype(np.float32)
    targets[labelled] = np.eye(label.outputs)[known.astype(np.int64)]
    return targets.astype(np.float32)
