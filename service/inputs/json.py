"""JSON bodies and JSON parts of forms: bytes to objects, with the place of what is wrong."""

import json
import math
from collections.abc import Iterator
from typing import Any

import orjson

from lanistr.errors import InputError
from lanistr.tasks import TaskSpec
from service.inputs.limits import Limits

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def read(body: bytes, content_type: str, task: TaskSpec, limits: Limits) -> Any:
    """Read a record from a JSON body. The type is `service.inputs.Reader`.

    Raises:
        InputError: not JSON, nested too deep, or a number that is not finite.
    """
    return decode(body, limits)


def decode(data: bytes, limits: Limits, field: str = "") -> Any:
    """Decode JSON.

    Args:
        data: UTF-8, with or without a byte order mark.
        limits: for the depth.
        field: what the data are a part of, for messages.

    Raises:
        InputError: see `read`.
    """
    data = data.removeprefix(_BYTE_ORDER_MARK)
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as exc:
        if exc.msg.startswith("depth limit"):  # orjson's own, 1024
            raise _too_deep(limits.json_depth, field) from None
        raise _not_finite(data, field) or InputError(
            f"not JSON: {exc.msg} (line {exc.lineno}, column {exc.colno})",
            code="not_json",
            field=field,
            accepted="JSON in UTF-8",
        ) from None  # the exception holds the whole body
    _check_depth(value, limits.json_depth, field)
    return value


def _not_finite(data: bytes, field: str) -> InputError | None:
    """Say which number is not finite, where that alone keeps the data from being JSON."""
    try:
        value = json.loads(data)  # Python's own parser takes NaN, Infinity and 1e999
        path, number = next(each for each in _numbers(value, field) if not math.isfinite(each[1]))
    except (ValueError, RecursionError, StopIteration):
        return None
    return InputError(
        "not a finite number",
        code="not_finite",
        field=path,
        seen=str(number),
        accepted="a finite number; leave a missing value out, or send null",
    )


def _numbers(value: Any, path: str) -> Iterator[tuple[str, float]]:
    if isinstance(value, float):
        yield path, value
    elif isinstance(value, list):
        for i, each in enumerate(value):
            yield from _numbers(each, f"{path}[{i}]")
    elif isinstance(value, dict):
        for name, each in value.items():
            yield from _numbers(each, f"{path}.{name}" if path else name)


def _check_depth(value: Any, most: int, field: str) -> None:
    level = [value]
    for _ in range(most):
        level = [
            inner
            for outer in level
            if isinstance(outer, list | dict)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, list | dict)
        ]
        if not level:
            return
    raise _too_deep(most, field)


def _too_deep(most: int, field: str) -> InputError:
    return InputError(
        "nested too deep", code="too_deep", field=field, accepted=f"at most {most} levels"
    )
