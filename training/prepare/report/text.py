"""How long notes are, and how many of their words are known."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lanistr.preprocess.base import ModalityPreprocessor
from lanistr.preprocess.text import TextPreprocessor
from training.prepare.report.part import PartSurvey, Records
from training.prepare.report.summaries import Numbers

_WAITING = 1024


class TextSurvey(PartSurvey):
    """Counts notes, tokens and letters."""

    alike = "warning"  # short texts are alike by chance
    items = "notes"
    compared = "ignoring case and white space"
    signals = ("tokens",)

    def __init__(self, preprocessor: ModalityPreprocessor[Any, Any]) -> None:
        assert isinstance(preprocessor, TextPreprocessor)
        sizes = preprocessor.dimensions()
        self._unknown = preprocessor.tokenizer.token_to_id("[UNK]")
        self._most = sizes["max_tokens"]
        self._vocabulary = sizes["vocab_size"]
        self._summaries = {name: Numbers() for name in ("tokens", "letters", "notes")}
        self._waiting: dict[str, list[int]] = {name: [] for name in self._summaries}
        self._unknowns = self._tokens = 0

    def add(self, part: Any, records: Records, case: str, split: int) -> None:
        """Count the notes that are stored, and the letters of all."""
        self._waiting["letters"] += [len(note) for note in part]
        self._waiting["notes"].append(len(records))
        for record in records:
            ids = record["token_ids"]
            self._waiting["tokens"].append(len(ids))
            self._tokens += len(ids)
            self._unknowns += int(np.count_nonzero(ids == self._unknown))
        if len(self._waiting["letters"]) >= _WAITING:
            self._flush()

    def signal(self, records: Records) -> NDArray[np.float64]:
        """Return the number of tokens."""
        return np.array([sum(len(record["token_ids"]) for record in records)], dtype=np.float64)

    def contents(self, part: Any, records: Records) -> Sequence[bytes]:
        """Fold case and white space."""
        return [" ".join(note.casefold().split()).encode(errors="replace") for note in part]

    def report(self) -> dict[str, Any]:
        """Return the lengths."""
        self._flush()
        return {
            "tokens of a note": {**self._summaries["tokens"].summary(), "most": self._most},
            "letters of a note": self._summaries["letters"].summary(),
            "notes of a case": self._summaries["notes"].summary(),
            "vocabulary": self._vocabulary,
            "unknown tokens": round(self._unknowns / self._tokens, 6) if self._tokens else None,
        }

    def _flush(self) -> None:
        for name, waiting in self._waiting.items():
            self._summaries[name].extend(np.array(waiting, dtype=np.float64))
            waiting.clear()
