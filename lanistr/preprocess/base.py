"""What every modality's preprocessor does: read, fit, apply, save, load."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar

from lanistr.batch import Arrays
from lanistr.issues import IssueLog
from lanistr.modalities import Modality
from lanistr.schema import Schema
from lanistr.tasks import TaskSpec

STATE_FILE = "preprocessing.json"

PartT = TypeVar("PartT")
OptionsT = TypeVar("OptionsT", bound=Schema)


@dataclass(frozen=True, slots=True)
class ArraySpec:
    """What one array of a row looks like.

    Attributes:
        dtype: numpy's name of the type.
        shape: without the axis of rows; -1 where rows differ in length.
        limit: for whole numbers, the first that does not occur; 0 for real ones.
    """

    dtype: str
    shape: tuple[int, ...]
    limit: int = 0


class ModalityPreprocessor(ABC, Generic[PartT, OptionsT]):
    """Turns one modality's part of a `Sample` into arrays.

    `read` needs no fitted state and checks structure and types; `apply` needs what `fit` learned
    from the training split and checks values.
    """

    modality: ClassVar[Modality]

    @staticmethod
    @abstractmethod
    def read(value: Any, task: TaskSpec, log: IssueLog) -> PartT | None:
        """Check a part as it stands in a decoded JSON record; None if it holds nothing.

        Raises:
            InputError: the value cannot be a part of this modality.
        """

    @classmethod
    @abstractmethod
    def fit(cls, parts: Iterable[PartT], task: TaskSpec, options: OptionsT) -> Self:
        """Learn vocabulary, categories, means and the like from the training split's parts.

        Args:
            parts: may be gone through more than once, so no iterator.
            task: the task that the parts are of.
            options: how they are preprocessed.
        """

    @abstractmethod
    def apply(self, part: PartT, log: IssueLog) -> tuple[Arrays, ...]:
        """Return the part's rows, see `lanistr.batch`; none if nothing usable is left of it.

        Raises:
            InputError: a value of the part cannot be used at all.
        """

    def restrict(self, limits: Mapping[str, int]) -> None:
        """Adopt the caller's limits on this modality where they are stricter; most have none.

        Args:
            limits: by name, such as `pixels`.
        """

    @abstractmethod
    def dimensions(self) -> Mapping[str, Any]:
        """Return the sizes that the model's encoder of this modality must have."""

    @abstractmethod
    def layout(self) -> Mapping[str, ArraySpec]:
        """Return what each array of a row looks like, by its name in `lanistr.batch`."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Return how each array of a row is made of clean values, for readers without this code.

        JSON values, by the array's name; `lanistr.bundle` says what they mean.
        """

    @abstractmethod
    def save(self, folder: Path) -> dict[str, Any]:
        """Return the fitted state as JSON values; what fits badly in JSON goes beside it."""

    @classmethod
    @abstractmethod
    def load(cls, state: Mapping[str, Any], task: TaskSpec, folder: Path) -> Self:
        """Restore what `save` wrote."""
