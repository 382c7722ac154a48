"""The parts of a case as the caller has them, made fit for sending.

What cannot be sent is refused here, by the path of the value, before anything leaves the machine.
Whether a value makes sense for the task is the service's to judge.
"""

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from clients.errors import InvalidInput

FilePath = str | os.PathLike[str]
Text = str | Sequence[str]
Bytes = bytes | bytearray | memoryview
Image = Bytes | FilePath | Sequence[Bytes | FilePath]
Tabular = Mapping[str, Any]
Timeseries = Sequence[Mapping[str, Any]] | FilePath

# The first bytes of the formats that the service reads. A file's name says less: it may be wrong,
# and bytes have none.
_SIGNATURES = {
    b"\xff\xd8\xff": "image/jpeg",
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"II*\x00": "image/tiff",
    b"MM\x00*": "image/tiff",
    b"II+\x00": "image/tiff",  # BigTIFF
    b"MM\x00+": "image/tiff",
    b"BM": "image/bmp",
}


@dataclass(frozen=True, slots=True)
class Upload:
    """A part, or one of several, that travels as a file of its own."""

    content: bytes
    media_type: str


def notes(text: Text) -> str | list[str]:
    """Return the note or notes. Raises `InvalidInput`."""
    if isinstance(text, str):
        return string(text, "text")
    if not isinstance(text, Sequence):
        raise InvalidInput("text", _is_a(text), accepted="a string or a list of strings")
    _refuse_empty(text, "text")
    return [string(note, f"text[{i}]") for i, note in enumerate(text)]


def pictures(image: Image) -> list[Upload]:
    """Return the picture or pictures, those given by path read. Raises `InvalidInput`."""
    if isinstance(image, Bytes | str | os.PathLike):
        return [_picture(image, "image")]
    if not isinstance(image, Sequence):
        raise InvalidInput("image", _is_a(image), accepted="a path, bytes, or a list of them")
    _refuse_empty(image, "image")
    return [_picture(each, f"image[{i}]") for i, each in enumerate(image)]


def row(tabular: Tabular) -> dict[str, Any]:
    """Return the table row as plain JSON values. Raises `InvalidInput`."""
    if not isinstance(tabular, Mapping):
        raise InvalidInput(
            "tabular", _is_a(tabular), accepted="an object of field names and values"
        )
    plain: dict[str, Any] = jsonable(tabular, "tabular")
    return plain


def series(timeseries: Timeseries) -> list[Any] | Upload:
    """Return the rows as plain JSON values, or a CSV file as it is.

    CSV is left to the service to read, so that a cell means the same from every client.

    Raises:
        InvalidInput: a file cannot be read, or a row is not a mapping or cannot be sent.
    """
    rows: Any = timeseries
    if isinstance(timeseries, str | os.PathLike):
        match Path(timeseries).suffix.lower():
            case ".csv":
                return Upload(read_file(timeseries, "timeseries"), "text/csv")
            case ".json":
                rows = read_json(timeseries, "timeseries")
            case suffix:
                seen = f"cannot tell what {os.fspath(timeseries)} ({suffix or 'no suffix'}) holds"
                raise InvalidInput("timeseries", seen, accepted="a .csv or .json file")
    if not isinstance(rows, Sequence) or isinstance(rows, bytes | str):
        raise InvalidInput(
            "timeseries", _is_a(rows), accepted="a list of rows, or a .csv or .json file"
        )
    for i, measurements in enumerate(rows):
        if not isinstance(measurements, Mapping):
            raise InvalidInput(
                f"timeseries[{i}]",
                _is_a(measurements),
                accepted="an object of variable names and values, with `hours`",
            )
    plain: list[Any] = jsonable(rows, "timeseries")
    return plain


def string(value: object, field: str) -> str:
    """Return `value` if it is a string that can be sent. Raises `InvalidInput`."""
    if not isinstance(value, str):
        raise InvalidInput(field, _is_a(value), accepted="a string")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(field, f"is not valid Unicode: {error}") from None
    return value


def jsonable(value: Any, field: str) -> Any:
    """Return `value` in JSON's own types; numpy's numbers, true and false become Python's.

    Of a `Decimal` the digits that a float holds are sent, of a whole number all.

    Raises:
        InvalidInput: a number is not finite (JSON has no NaN) or beyond all that a float holds, a
            string is not valid Unicode, a name is not a string, a value is of a type that JSON has
            not, or nested too deep.
    """
    try:
        return _jsonable(value, field)
    except RecursionError:
        raise InvalidInput(field, "is nested too deep") from None


def _jsonable(value: Any, field: str) -> Any:
    match value:
        case None | bool():
            return value
        case str():
            return string(value, field)
        case Integral():
            _finite(value, field)
            return int(value)
        case Real():
            return _finite(value, field)
        case Decimal():  # no float has 20 digits
            number = _finite(value, field)
            return int(value) if value == value.to_integral_value() else number
        case Mapping():
            return {
                _name(name, field): each if _is_plain(each) else _jsonable(each, f"{field}.{name}")
                for name, each in value.items()
            }
        case list() | tuple():
            return [
                each if _is_plain(each) else _jsonable(each, f"{field}[{i}]")
                for i, each in enumerate(value)
            ]
        case _ if _is_bool(value):
            return bool(value)
    raise InvalidInput(field, _is_a(value), accepted="a number, a string, true, false or None")


def _is_bool(value: Any) -> bool:
    """Whether a value is numpy's true or false, which is of no type that Python has for numbers."""
    kind = getattr(getattr(value, "dtype", None), "kind", None)
    return kind == "b" and getattr(value, "shape", None) == ()


def _name(name: object, field: str) -> str:
    if isinstance(name, str) and name.isascii():
        return name
    return string(name, f"{field}, name {name!r}")


def _is_plain(value: Any) -> bool:
    """Whether a value goes as it is. Most do, and need no path for a message."""
    kind = type(value)
    return (
        (kind is float and math.isfinite(value))
        or (kind is int and value.bit_length() < 64)
        or value is None
        or (kind is str and value.isascii())
    )


def read_json(path: FilePath, field: str) -> Any:
    """Return what a JSON file holds. Raises `InvalidInput`."""
    try:
        # utf-8-sig: spreadsheets and Windows editors write a byte order mark.
        return from_json(read_file(path, field).decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InvalidInput(field, f"{os.fspath(path)} is not JSON: {error}") from None


def from_json(text: str) -> Any:
    """Return what a text in JSON holds, in whose objects a name stands once, as the service has it.

    Raises:
        ValueError, RecursionError: it is not JSON, or nested too deep.
    """
    return json.loads(text, object_pairs_hook=_once)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(each for each in names if names.count(each) > 1)!r} appears twice")
    return found


def read_text(path: FilePath, field: str) -> str:
    """Return what a text file holds. Raises `InvalidInput`."""
    return decode(read_file(path, field), os.fspath(path), field)


def decode(content: bytes, name: str, field: str) -> str:
    """Return the text in the bytes of the file called `name`. Raises `InvalidInput`."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInput(field, f"{name}: {error}", accepted="text in UTF-8") from None


def read_file(path: FilePath, field: str) -> bytes:
    """Return the bytes of a file. Raises `InvalidInput`."""
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: no file can be called so
        reason = getattr(error, "strerror", None) or str(error)
        raise InvalidInput(field, f"cannot read {os.fspath(path)}: {reason}") from error


def _picture(image: object, field: str) -> Upload:
    if not isinstance(image, Bytes | str | os.PathLike):
        raise InvalidInput(field, _is_a(image), accepted="a path or bytes")
    content = bytes(image) if isinstance(image, Bytes) else read_file(image, field)
    return Upload(content, _media_type(content))


def _media_type(content: bytes) -> str:
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "image/webp"
    kinds = (kind for start, kind in _SIGNATURES.items() if content.startswith(start))
    return next(kinds, "application/octet-stream")


def _finite(value: Any, field: str) -> float:
    accepted = "a finite number, or None for a missing value"
    try:
        number = float(value)
    except OverflowError:  # nor would Python write all its digits
        raise InvalidInput(field, "is beyond 1.8e308", accepted=accepted) from None
    if not math.isfinite(number):
        raise InvalidInput(field, f"{number} cannot be sent", accepted=accepted)
    return number


def _refuse_empty(values: Sequence[Any], field: str) -> None:
    if not values:
        raise InvalidInput(field, "is an empty list", accepted="None for a missing modality")


def _is_a(value: Any) -> str:
    return f"is of type {type(value).__name__}"
