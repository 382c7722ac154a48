"""Duplicates: the same content in several cases, within a split and across splits."""

from array import array
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import numpy as np

from training.data.store import SPLITS
from training.prepare.report.part import Check, Verdict

_EXAMPLES = 5


def digest(content: bytes) -> bytes:
    """Return eight bytes that stand for a content."""
    return blake2b(content, digest_size=8).digest()


class Duplicates:
    """Keeps eight bytes of a hash, the case and the split of every item: seventeen bytes an item.

    Two different items of ten million are taken for the same with a chance of 3 in a million.
    """

    def __init__(self) -> None:
        self._hashes, self._cases, self._splits = array("Q"), array("L"), array("B")

    def add(self, hashed: bytes, case: int, split: int) -> None:
        """Take one item: the `digest` of its content, the number of its case, and the split's."""
        self._hashes.append(int.from_bytes(hashed, "little"))
        self._cases.append(case)
        self._splits.append(split)

    def report(self, ids: Sequence[str]) -> dict[str, Any]:
        """Count what is there more than once.

        Args:
            ids: of the cases, by number.

        Returns:
            ``items``; ``distinct`` ones; ``repeated`` by split, items whose content an earlier item
            of the split has; ``across``, contents that occur in more than one split; ``touched`` by
            split, cases with such a content; ``examples``, each the cases that share one.
        """
        hashes = np.array(self._hashes, dtype=np.uint64)
        cases, splits = np.array(self._cases, dtype=np.int64), np.array(self._splits)
        contents, content = np.unique(hashes, return_inverse=True)
        by_split = np.stack(
            [np.bincount(content[splits == s], minlength=len(contents)) for s in range(len(SPLITS))]
        )
        across = (by_split > 0).sum(axis=0) > 1
        shared = across[content] if len(content) else np.zeros(0, dtype=bool)
        examples = []
        first_seen = dict.fromkeys(content[shared].tolist())
        for number in list(first_seen)[:_EXAMPLES]:
            same = np.flatnonzero(content == number)
            named = dict.fromkeys(f"{ids[cases[i]]} ({SPLITS[splits[i]]})" for i in same)
            more = f" and {len(named) - 6} more" if len(named) > 6 else ""
            examples.append(", ".join(list(named)[:6]) + more)
        return {
            "items": len(hashes),
            "distinct": len(contents),
            "repeated": {
                split: int(np.maximum(by_split[s] - 1, 0).sum()) for s, split in enumerate(SPLITS)
            },
            "across": int(across.sum()),
            "touched": {
                split: len(np.unique(cases[shared & (splits == s)]))
                for s, split in enumerate(SPLITS)
            },
            "examples": examples,
        }


def same_across(items: str, found: dict[str, Any], verdict: Verdict, compared: str) -> Check:
    """Return the check for contents that occur in more than one split.

    Args:
        items: what they are called.
        found: what `Duplicates.report` returned.
        verdict: of the check if some do.
        compared: how, in words.
    """
    name = f"{items.capitalize()} in several splits"
    repeated = sum(found["repeated"].values())
    within = f"; {repeated:,} repeat an earlier one in the same split" if repeated else ""
    if not found["across"]:
        said = f"{found['items']:,} {items}, {found['distinct']:,} distinct{within}"
        return Check(name, "ok", 0, f"{said} ({compared})")
    touched = ", ".join(f"{n:,} of {split}" for split, n in found["touched"].items() if n)
    said = (
        f"of {found['distinct']:,} distinct {items}, {found['across']:,} are in several splits; "
        f"cases with one of these: {touched}{within} ({compared})"
    )
    return Check(name, verdict, found["across"], said, found["examples"])
