"""What every modality's reader of a table does, and what all of them need."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lanistr.tasks import TaskSpec
from training.prepare.problems import Problems
from training.prepare.table.columns import TableSource
from training.prepare.table.rows import MissingWords, Row
from training.prepare.table.store import CaseStore


@dataclass(frozen=True)
class Setting:
    """What the readers share.

    Attributes:
        task: what is prepared for.
        source: which column is what.
        files: the folder below which pictures and series lie.
        missing: which words mean a missing value.
        problems: takes what is wrong.
        store: keeps what could be used.
        max_pixels: the largest picture.
    """

    task: TaskSpec
    source: TableSource
    files: Path
    missing: MissingWords
    problems: Problems
    store: CaseStore
    max_pixels: int


@dataclass(frozen=True, slots=True)
class CaseName:
    """Which case a row is.

    Attributes:
        position: counted from 0 over the rows that are used.
        id: its owner's name for it.
    """

    position: int
    id: str


class PartReader(ABC):
    """Reads one modality's part of each row.

    Attributes:
        columns: the columns of the main table that it needs.
    """

    columns: tuple[str, ...] = ()

    @abstractmethod
    def __init__(self, setting: Setting) -> None: ...

    @abstractmethod
    def read(self, row: Row, case: CaseName) -> Any:
        """Return the row's part as JSON values without what cannot be used; None for nothing."""

    @abstractmethod
    def restore(self, kept: Any, position: int) -> Any:
        """Return the part of a `Sample` from what `read` returned; None where there is none."""

    def finish(self) -> None:  # noqa: B027, most have nothing to do
        """Read what comes after the main table.

        Raises:
            DataError: it cannot be made sense of.
        """

    def provenance(self) -> dict[str, Any]:
        """Say what was read beside the main table, with its hash."""
        return {}
