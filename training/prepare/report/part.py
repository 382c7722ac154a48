"""What the survey of every modality does."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from lanistr.preprocess.base import ModalityPreprocessor

Records = Sequence[Mapping[str, Any]]
"""Rows of a modality's table, as its codec made them of one case."""

Verdict = Literal["ok", "warning", "leak", "not checked"]


class Check(dict[str, Any]):
    """One thing that was looked for: `name`, `verdict`, `found` (a number), `said`, `examples`.

    Attributes:
        told: what the terminal says of it; "": nothing.
    """

    def __init__(
        self,
        name: str,
        verdict: Verdict,
        found: int | None,
        said: str,
        examples: Sequence[str] = (),
        *,
        told: str = "",
        **more: Any,
    ) -> None:
        super().__init__(
            name=name, verdict=verdict, found=found, said=said, examples=list(examples), **more
        )
        leak = f"leak: {name}: {said}; report.html shows some"
        self.told = leak if verdict == "leak" else told


class PartSurvey(ABC):
    """Counts what the cases bring of one modality.

    Attributes:
        alike: what it is if two cases of different splits bring the same; None: it happens, and
            means nothing.
        items: what a row of the modality's table is called.
        compared: how `contents` compares them, in words.
        signals: names of the numbers that `signal` returns; a name that ends in `=` is of codes, in
            which more means nothing.
    """

    alike: ClassVar[Verdict | None]
    items: ClassVar[str]
    compared: ClassVar[str] = "as stored"
    signals: Sequence[str]

    @abstractmethod
    def __init__(self, preprocessor: ModalityPreprocessor[Any, Any]) -> None: ...

    @abstractmethod
    def add(self, part: Any, records: Records, case: str, split: int) -> None:
        """Count the part of one case: as its owner has it, and what is stored of it."""

    @abstractmethod
    def signal(self, records: Records) -> NDArray[np.float64]:
        """Return what the part added last is judged by, (len(signals),); NaN for missing."""

    @abstractmethod
    def contents(self, part: Any, records: Records) -> Sequence[bytes]:
        """Return what makes each item the same as another."""

    @abstractmethod
    def report(self) -> dict[str, Any]:
        """Return what was counted."""

    def checks(self) -> Sequence[Check]:
        """Return what only this modality can be checked for."""
        return ()
