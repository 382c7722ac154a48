"""From a record to features: one preprocessor a modality, fitted once, saved with the model."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from lanistr.batch import Arrays, Features
from lanistr.draft import draft_file
from lanistr.errors import BundleError, InputError, unknown_name
from lanistr.issues import IssueLog
from lanistr.jsonfile import write_json
from lanistr.modalities import Modality
from lanistr.preprocess.base import STATE_FILE, ModalityPreprocessor
from lanistr.preprocess.image import ImageOptions, ImagePreprocessor
from lanistr.preprocess.tabular import TabularOptions, TabularPreprocessor
from lanistr.preprocess.text import TextOptions, TextPreprocessor
from lanistr.preprocess.timeseries import TimeseriesOptions, TimeseriesPreprocessor
from lanistr.sample import Sample
from lanistr.schema import Schema
from lanistr.tasks import TaskSpec

PREPROCESSORS: Mapping[Modality, type[ModalityPreprocessor[Any, Any]]] = {
    each.modality: each
    for each in (TextPreprocessor, ImagePreprocessor, TabularPreprocessor, TimeseriesPreprocessor)
}


class PreprocessOptions(Schema):
    """The options of every modality; one that a task does not take is left unused."""

    text: TextOptions = TextOptions()
    image: ImageOptions = ImageOptions()
    tabular: TabularOptions = TabularOptions()
    timeseries: TimeseriesOptions = TimeseriesOptions()


def read_record(record: Any, task: TaskSpec, log: IssueLog) -> Sample:
    """Turn a decoded JSON record into a `Sample`.

    A part that is missing, null, or holds nothing is absent.

    Args:
        record: an object with `id` and the parts of the task; `image` may also be bytes.
        task: what the record is checked against.
        log: takes what was found wrong and could be passed over.

    Raises:
        InputError: the first thing that cannot be used, with its path.
    """
    accepted = ("id", *task.modalities)
    if not isinstance(record, Mapping):
        raise InputError(
            "not a record",
            code="wrong_type",
            seen=record,
            accepted="an object with " + ", ".join(accepted),
        )
    for name in record:
        if name not in accepted:
            raise InputError(
                f"unknown field for {task.name}",
                code="unknown_field",
                field=str(name),
                seen=name,
                accepted=unknown_name(name, accepted),
            )
    case_id = record.get("id")
    if case_id is not None and not isinstance(case_id, str):
        raise InputError(
            "the ID is not a string",
            code="wrong_type",
            field="id",
            seen=case_id,
            accepted="a string",
        )
    parts: dict[Modality, Any] = {}
    for modality in task.modalities:
        part = PREPROCESSORS[modality].read(record.get(modality), task, log)
        if part is not None:
            parts[modality] = part
    if not parts:
        raise InputError(
            "the record is empty",
            code="nothing_present",
            accepted="at least one of " + ", ".join(task.modalities),
        )
    return Sample(parts, id=case_id)


@dataclass(frozen=True)
class _Parts:
    """One modality's parts of the samples, as often as they are asked for."""

    samples: Callable[[], Iterable[Sample]]
    modality: Modality

    def __iter__(self) -> Iterator[Any]:
        for sample in self.samples():
            if self.modality in sample.parts:
                yield sample.parts[self.modality]


class Preprocessor:
    """The fitted preprocessors of a task's modalities."""

    def __init__(
        self, task: TaskSpec, parts: Mapping[Modality, ModalityPreprocessor[Any, Any]]
    ) -> None:
        self.task = task
        self.parts = parts

    @classmethod
    def fit(
        cls,
        samples: Callable[[], Iterable[Sample]],
        task: TaskSpec,
        options: PreprocessOptions,
    ) -> Self:
        """Fit on the training split.

        Args:
            samples: returns the training cases from the start, each time it is called the same.
            task: says which modalities there are.
            options: how each is preprocessed.
        """
        fitted: dict[Modality, ModalityPreprocessor[Any, Any]] = {}
        for modality in task.modalities:
            parts = _Parts(samples, modality)
            fitted[modality] = PREPROCESSORS[modality].fit(parts, task, getattr(options, modality))
        return cls(task, fitted)

    def apply(self, sample: Sample, log: IssueLog) -> Features:
        """Turn a case into arrays.

        Raises:
            InputError: a value cannot be used at all, or nothing usable is left of the case.
        """
        rows: dict[Modality, tuple[Arrays, ...]] = {}
        for modality, part in sample.parts.items():
            applied = self.parts[modality].apply(part, log)
            if applied:
                rows[modality] = applied
        if not rows:
            raise InputError(
                "nothing in the record can be used",
                code="nothing_usable",
                seen=", ".join(sample.parts),
                accepted="at least one usable value in one of " + ", ".join(self.task.modalities),
            )
        return Features(rows, log.issues)

    def restrict(self, **limits: int) -> None:
        """From now on refuse what exceeds the caller's limits, such as `pixels`."""
        for part in self.parts.values():
            part.restrict(limits)

    def dimensions(self) -> dict[Modality, dict[str, Any]]:
        """Return, by modality, the sizes that the model's encoder must have."""
        return {modality: dict(part.dimensions()) for modality, part in self.parts.items()}

    def describe(self) -> dict[str, Any]:
        """Return, by modality, how its arrays are made, for readers without this code.

        JSON values; `lanistr.bundle` says what they mean.
        """
        return {str(modality): part.describe() for modality, part in self.parts.items()}

    def save(self, folder: Path) -> None:
        """Write `preprocessing.json` and the files it names into a folder."""
        state = {modality: part.save(folder) for modality, part in self.parts.items()}
        with draft_file(folder / STATE_FILE) as draft:
            write_json(draft, state)

    @classmethod
    def load(cls, folder: Path, task: TaskSpec) -> Self:
        """Read what `save` wrote.

        Raises:
            BundleError: a file is missing or does not fit the task.
        """
        try:
            state = json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))
            parts = {
                modality: PREPROCESSORS[modality].load(state[modality], task, folder)
                for modality in task.modalities
            }
        except (OSError, ValueError, TypeError, LookupError, AttributeError, OverflowError) as exc:
            raise BundleError(
                f"cannot read the preprocessing state: {type(exc).__name__}: {exc}",
                code="bad_preprocessing",
                field=str(folder / STATE_FILE),
            ) from exc
        return cls(task, parts)
