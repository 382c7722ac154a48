"""Every error that this software raises on purpose.

    LanistrError              a user's mistake, always with what is accepted instead
    ├── InputError            a record cannot be used (the service answers it as a problem)
    ├── TaskError             a task file is wrong
    ├── ConfigError           a recipe, a setting or an override is wrong
    ├── DataError             a prepared data set is missing, damaged or does not fit
    ├── CheckpointError       a run or its weights are missing, damaged or do not fit
    └── BundleError           an exported model is missing, damaged or not what its manifest says
        └── ParityError       an exported graph does not compute what the model computes

The service and training derive errors of their own from LanistrError, beside what raises them.
A programmer's mistake is an assert, never one of these.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from reprlib import repr as short_repr
from typing import Any

_LONGEST_SEEN = 80
LONGEST_FIELD = 300
_MOST_NAMES = 60


class LanistrError(Exception):
    """Something the user can mend.

    Attributes:
        code: stable short name of the kind of error, for programs.
        field: path of the offending value, such as ``timeseries[3].heart_rate``; empty if none.
        seen: what stood there, shortened; None when nothing did.
        accepted: what would have been taken, in words.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str = "invalid",
        field: str = "",
        seen: Any = None,
        accepted: str = "",
    ) -> None:
        self.message = message
        self.code = code
        self.field = shorten(field, LONGEST_FIELD)
        self.seen = shorten(seen)
        self.accepted = accepted
        super().__init__(message)

    def __str__(self) -> str:
        where = f"{self.field}: " if self.field else ""
        seen = "" if self.seen is None else f"; seen {self.seen!r}"
        accepted = f"; accepted: {self.accepted}" if self.accepted else ""
        return f"{where}{self.message}{seen}{accepted}"


class InputError(LanistrError):
    """A record cannot be used."""


class TaskError(LanistrError):
    """A task file is wrong."""


class ConfigError(LanistrError):
    """A recipe, a setting or an override is wrong."""


class DataError(LanistrError):
    """A prepared data set is missing, damaged or does not fit."""


class CheckpointError(LanistrError):
    """A run or its weights are missing, damaged or do not fit."""


class BundleError(LanistrError):
    """An exported model is missing, damaged or not what its manifest says."""


class ParityError(BundleError):
    """An exported graph does not compute what the model computes."""


def shorten(value: Any, longest: int = _LONGEST_SEEN) -> Any:
    """Return a value fit for a message or a log: scalars as they are, the rest cut short."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, bytes):
        return f"{len(value)} bytes starting {value[:8].hex(' ')}"
    if not isinstance(value, str):
        return short_repr(value)  # bounded in depth too: a hostile record may nest without end
    return value if len(value) <= longest else f"{value[:longest]}… ({len(value)} long)"


def one_line(said: object) -> str:
    """Return what an error or another library says, on one line."""
    return " ".join(str(said).split())


def unknown_name(name: object, known: Iterable[object]) -> str:
    """Say which names are accepted, the nearest to `name` first."""
    names = [str(each) for each in known]
    close = get_close_matches(str(name)[:_LONGEST_SEEN], names, n=1, cutoff=0.6)
    hint = f"did you mean {close[0]!r}? " if close else ""
    shown = [*names[:_MOST_NAMES], "…"] if len(names) > _MOST_NAMES else names
    return hint + "one of " + ", ".join(shown)
