"""JSON bodies and JSON parts of forms: bytes to objects, with the place of what is wrong."""

import json
import math
import re
from collections.abc import Iterator
from typing import Any

import orjson

from lanistr.errors import InputError
from lanistr.tasks import TaskSpec
from service.inputs.limits import Limits, over

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

_SMALL = 2**18
"""Bytes that are read a second time to name the path of a fault; in more, its position must do."""

_TOO_DEEP = ("depth limit", "failed to allocate")
"""What orjson says of more than 1,024 levels, and of some hundreds in data that end before them."""

_REPEATED = object()
"""Stands for the value of a name that an object holds twice."""


def read(body: bytes, content_type: str, task: TaskSpec, limits: Limits) -> Any:
    """Read a record from a JSON body. The type is `service.inputs.Reader`.

    Raises:
        InputError: not JSON, too many lists and objects or nested too deep, a number that is not
            finite, or a name that stands twice in an object.
    """
    return decode(body, limits)


def decode(data: bytes, limits: Limits, field: str = "", whole: str = "body") -> Any:
    """Decode JSON.

    Args:
        data: UTF-8, with or without a byte order mark.
        limits: for the depth, and how many lists and objects there may be.
        field: what the data are a part of, for messages.
        whole: what they are called where paths inside begin with nothing.

    Raises:
        InputError: see `read`.
    """
    named = field or whole
    data = data.removeprefix(_BYTE_ORDER_MARK)
    # The parser keeps everybody waiting while it makes them. Some may stand in texts.
    opened = data.count(b"[") + data.count(b"{")
    if opened > limits.json_containers:
        seen, most = f"{opened:,} lists and objects", f"{limits.json_containers:,}"
        raise over("too_many", named, seen, most)
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as exc:
        if opened > limits.json_depth and exc.msg.startswith(_TOO_DEEP):
            raise _too_deep(limits.json_depth, named) from None
        # None of them holds on to the exception: it has the whole body.
        raise (
            _not_text(data, named) or _not_finite(exc, data, field, named) or _not_json(exc, named)
        ) from None
    containers = _containers(value, limits.json_depth, named)
    if _repeats(data, containers):
        raise _repeated(data, field, named)
    return value


# ---- no JSON, or nearly -------------------------------------------------------------------------


def _not_text(data: bytes, named: str) -> InputError | None:
    """Say where the data are no UTF-8, of which the parser names no place."""
    try:
        data.decode()
    except UnicodeDecodeError as exc:
        return InputError(
            f"not JSON: not UTF-8: {exc.reason} at byte {exc.start}",
            code="not_json",
            field=named,
            seen=data[exc.start : exc.start + 8],
            accepted="JSON in UTF-8",
        )
    return None


def _not_json(exc: orjson.JSONDecodeError, named: str) -> InputError:
    return InputError(
        f"not JSON: {exc.msg} (line {exc.lineno}, column {exc.colno})",
        code="not_json",
        field=named,
        seen=exc.doc[exc.pos : exc.pos + 20] or "nothing more",
        accepted="JSON in UTF-8",
    )


def _not_finite(
    exc: orjson.JSONDecodeError, data: bytes, field: str, named: str
) -> InputError | None:
    """Say which number is not finite, where that keeps the data from being JSON.

    In small data, where that alone does; in large ones, where it is what the parser met first.
    """
    found: tuple[str, str] | None
    if len(data) <= _SMALL:
        found = _find_not_finite(data, field)
        place = ""
    else:
        before = exc.pos - exc.doc.startswith("-", exc.pos - 1)
        word = re.match(r"-?(NaN|Infinity|[0-9][0-9.eE+-]*)", exc.doc[before : before + 30])
        huge = exc.msg.startswith("number is infinity")
        found = (field, word[0]) if word and (huge or word[1].isalpha()) else None
        place = f" (line {exc.lineno}, column {exc.colno})"
    if found is None:
        return None
    path, seen = found
    return InputError(
        "not a finite number" + place,
        code="not_finite",
        field=path or named,
        seen=seen,
        accepted="a finite number; for a missing value, send null or omit the field",
    )


def _find_not_finite(data: bytes, field: str) -> tuple[str, str] | None:
    """Return path and value of the first number that is not finite."""
    try:
        leaves = _leaves(json.loads(data), field)  # Python's own parser takes NaN and 1e999
        return next(
            (path, str(each))
            for path, each in leaves
            if isinstance(each, float) and not math.isfinite(each)
        )
    except (ValueError, RecursionError, StopIteration):
        return None


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, list):
        for i, each in enumerate(value):
            yield from _leaves(each, f"{path}[{i}]")
    elif isinstance(value, dict):
        for name, each in value.items():
            yield from _leaves(each, f"{path}.{name}" if path else name)
    else:
        yield path, value


# ---- JSON, but not what anyone can mean ---------------------------------------------------------


def _containers(value: Any, most: int, named: str) -> list[list[Any] | dict[str, Any]]:
    """Return every list and object, a list around the value before all.

    Raises:
        InputError: they are nested too deep.
    """
    level: list[list[Any] | dict[str, Any]] = [[value]]
    found = list(level)
    for _ in range(most + 1):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if type(outer) is dict else outer)
            if type(inner) is list or type(inner) is dict  # twice as quick as isinstance
        ]
        if not level:
            return found
        found += level
    raise _too_deep(most, named)


def _too_deep(most: int, named: str) -> InputError:
    return InputError(
        "nested too deep",
        code="too_deep",
        field=named,
        seen=f"more than {most} levels",
        accepted=f"at most {most} levels",
    )


def _repeats(data: bytes, containers: list[list[Any] | dict[str, Any]]) -> bool:
    """Whether an object holds a name twice, of which the parser keeps the last.

    Every name is followed by a colon, and every other colon stands in a string: if there are more
    of them than names and strings account for, some were lost. (A colon written as an escape can
    hide a repetition, never feign one.)
    """
    lost = data.count(b":") - sum(len(each) for each in containers if isinstance(each, dict))
    for each in containers:  # the outer ones first, where the notes stand
        if lost <= 0:
            break
        texts = (*each, *each.values()) if isinstance(each, dict) else each
        lost -= sum(text.count(":") for text in texts if isinstance(text, str))
    return lost > 0


def _repeated(data: bytes, field: str, named: str) -> InputError:
    path = named
    if len(data) <= _SMALL:
        marked = json.loads(data, object_pairs_hook=_mark_repeated)
        path = next(path for path, each in _leaves(marked, field) if each is _REPEATED)
    return InputError(
        "an object has the same key twice",
        code="repeated_field",
        field=path,
        seen="two values" if len(data) <= _SMALL else f"somewhere in {len(data):,} bytes",
        accepted="each key once",
    )


def _mark_repeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        found[name] = _REPEATED if name in found else value
    return found
