"""A JSON object from the service, read by name and type.

Reading says exactly what is wrong and where; a KeyError never reaches the caller.
"""

import math
from dataclasses import dataclass
from typing import Any


class MalformedError(ValueError):
    """A document lacks a member, or one is of another type than the contract says."""


@dataclass(frozen=True, slots=True)
class Document:
    """A JSON object and its path within the answer (empty at the top).

    Every reading method raises `MalformedError` when the member is missing or of another type.
    Members that the contract does not name are let be: the service may say more tomorrow.
    """

    raw: dict[str, Any]
    path: str = ""

    def has(self, name: str) -> bool:
        """Say whether the member is there and not null."""
        return self.raw.get(name) is not None

    def text(self, name: str) -> str:
        """Return a string."""
        return _text(self._member(name), self._at(name))

    def flag(self, name: str) -> bool:
        """Return true or false."""
        value = self._member(name)
        if not isinstance(value, bool):
            raise _wrong(self._at(name), value, "true or false")
        return value

    def number(self, name: str) -> float:
        """Return a number."""
        return _number(self._member(name), self._at(name))

    def pair(self, name: str) -> tuple[float, float]:
        """Return a list of two numbers."""
        path, values = self._at(name), self._list(name)
        if len(values) != 2:
            raise _wrong(path, values, "two numbers")
        return _number(values[0], f"{path}[0]"), _number(values[1], f"{path}[1]")

    def vector(self, name: str) -> tuple[float, ...]:
        """Return a list of numbers."""
        path = self._at(name)
        return tuple(_number(each, f"{path}[{i}]") for i, each in enumerate(self._list(name)))

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a list of strings."""
        path = self._at(name)
        return tuple(_text(each, f"{path}[{i}]") for i, each in enumerate(self._list(name)))

    def numbers(self, name: str) -> dict[str, float]:
        """Return an object whose members are all numbers."""
        inner = self.document(name)
        return {key: inner.number(key) for key in inner.raw}

    def document(self, name: str) -> "Document":
        """Return an object."""
        return _document(self._member(name), self._at(name))

    def documents(self, name: str) -> list["Document"]:
        """Return a list of objects."""
        path = self._at(name)
        return [_document(each, f"{path}[{i}]") for i, each in enumerate(self._list(name))]

    def _at(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path else name

    def _member(self, name: str) -> Any:
        if name not in self.raw:
            raise MalformedError(f"{self._at(name)} is missing")
        return self.raw[name]

    def _list(self, name: str) -> list[Any]:
        value = self._member(name)
        if not isinstance(value, list):
            raise _wrong(self._at(name), value, "a list")
        return value


def _text(value: Any, path: str) -> str:
    if not isinstance(value, str):
        raise _wrong(path, value, "a string")
    return value


def _number(value: Any, path: str) -> float:
    # A bool is an int in Python but not in JSON.
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong(path, value, "a number")
    try:
        number = float(value)
    except OverflowError:  # whole numbers have no end in Python; what 1e400 is, JSON leaves open
        number = math.inf
    if not math.isfinite(number):
        raise _wrong(path, value, "a number up to 1.8e308")
    return number


def _document(value: Any, path: str) -> Document:
    if not isinstance(value, dict):
        raise _wrong(path, value, "an object")
    return Document(value, path)


def _wrong(path: str, value: Any, expected: str) -> MalformedError:
    return MalformedError(f"{path} is {str(value)[:40]!r}, not {expected}")
