"""What is asked of the service, ready to be sent by either client.

A case goes as JSON, unless it brings files (pictures, a CSV): then as a multipart form, which
carries them as they are instead of a third larger in base64.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from clients.errors import InvalidInput
from clients.parts import (
    Image,
    Tabular,
    Text,
    Timeseries,
    Upload,
    jsonable,
    notes,
    pictures,
    row,
    series,
    string,
)


@dataclass(frozen=True, slots=True)
class Request:
    """A method, a path and a body: JSON in `content`, or a form of `fields` and `files`.

    Attributes:
        id: sent as X-Request-ID, so that a request that got no answer can be found in the
            service's log.
    """

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None
    fields: Mapping[str, Any] | None = None
    files: tuple[tuple[str, Upload], ...] = ()
    id: str = field(default_factory=lambda: uuid4().hex)

    def arguments(self) -> dict[str, Any]:
        """Return the same as keyword arguments of httpx's `request`."""
        headers = {"X-Request-ID": self.id, "Accept": "application/json"}
        if self.content is not None:
            headers["Content-Type"] = "application/json"
        return {
            "method": self.method,
            "url": self.path,
            "params": self.query or None,
            "headers": headers,
            "content": self.content,
            "data": self.fields,
            # The name of a file on disk may name a patient, and the service needs none:
            # the part's own name stands in its place.
            "files": [(part, (part, up.content, up.media_type)) for part, up in self.files] or None,
        }


def predict(
    task: str,
    *,
    id: str | None,
    text: Text | None,
    image: Image | None,
    tabular: Tabular | None,
    timeseries: Timeseries | None,
    explain: bool,
    coverage: float | None,
) -> Request:
    """Return the request for one prediction. Reads files; raises `InvalidInput`."""
    values, files = _case(id=id, text=text, image=image, tabular=tabular, timeseries=timeseries)
    return _one(f"/predict/{_segment(task)}", _query(explain, coverage), values, files)


def embed(
    task: str,
    *,
    id: str | None,
    text: Text | None,
    image: Image | None,
    tabular: Tabular | None,
    timeseries: Timeseries | None,
) -> Request:
    """Return the request for one embedding. Reads files; raises `InvalidInput`."""
    values, files = _case(id=id, text=text, image=image, tabular=tabular, timeseries=timeseries)
    return _one(f"/embed/{_segment(task)}", {}, values, files)


def batch(
    task: str,
    cases: Sequence[Mapping[str, Any]],
    *,
    first: int,
    explain: bool,
    coverage: float | None,
) -> Request:
    """Return the request for the predictions of a list of cases, the first of which has a number.

    Raises:
        InvalidInput: of the first case that cannot be sent, with its number.
    """
    path = f"/predict/{_segment(task)}/batch"
    records = []
    for i, case in enumerate(cases, first):
        try:
            records.append(_record(case))
        except InvalidInput as error:
            field = f"cases[{i}].{error.field}"
            raise InvalidInput(field, error.message, accepted=error.accepted) from None
    return Request("POST", path, _query(explain, coverage), content=_json(records))


_PARTS = ("id", "text", "image", "tabular", "timeseries")


def _record(case: Mapping[str, Any]) -> dict[str, Any]:
    """Return a case as plain JSON values, pictures in base64."""
    for name in case:
        if name not in _PARTS:
            raise InvalidInput(str(name), "is no part of a case", accepted=", ".join(_PARTS))
    record, files = _case(**{name: case.get(name) for name in _PARTS})
    for name, file in files:
        if not file.media_type.startswith("image/"):
            raise InvalidInput(name, "is a file, which a list cannot carry", accepted="its rows")
        record.setdefault(name, []).append(base64.b64encode(file.content).decode())
    return record


def _case(
    *,
    id: str | None,
    text: Text | None,
    image: Image | None,
    tabular: Tabular | None,
    timeseries: Timeseries | None,
) -> tuple[dict[str, Any], list[tuple[str, Upload]]]:
    """Return the parts of a case: plain JSON values, and files."""
    values: dict[str, Any] = {}
    if id is not None:
        values["id"] = string(id, "id")
    if text is not None:
        values["text"] = notes(text)
    if tabular is not None:
        values["tabular"] = row(tabular)

    files: list[tuple[str, Upload]] = []
    if image is not None:
        files += [("image", each) for each in pictures(image)]
    if timeseries is not None:
        rows = series(timeseries)
        if isinstance(rows, Upload):
            files.append(("timeseries", rows))
        else:
            values["timeseries"] = rows
    return values, files


def _query(explain: bool, coverage: float | None) -> dict[str, str]:
    query = {}
    if explain:
        query["explain"] = "true"
    if coverage is not None:
        query["coverage"] = str(jsonable(coverage, "coverage"))
    return query


def _one(
    path: str, query: dict[str, str], values: dict[str, Any], files: list[tuple[str, Upload]]
) -> Request:
    if not files:
        return Request("POST", path, query, content=_json(values))
    fields: dict[str, Any] = {name: values.pop(name) for name in ("id", "text") if name in values}
    files += [(name, Upload(_json(each), "application/json")) for name, each in values.items()]
    return Request("POST", path, query, fields=fields, files=tuple(files))


def tasks() -> Request:
    """Return the request for the list of tasks."""
    return Request("GET", "/tasks")


def task(name: str) -> Request:
    """Return the request for what a task's fields mean. Raises `InvalidInput`."""
    return Request("GET", f"/tasks/{_segment(name)}")


def health() -> Request:
    """Return the request for whether the process lives."""
    return Request("GET", "/healthz")


def ready() -> Request:
    """Return the request for whether the models are loaded."""
    return Request("GET", "/readyz")


def _segment(name: str) -> str:
    if not name:
        raise InvalidInput("task", "is empty", accepted="the name of a task")
    return quote(string(name, "task"), safe="")


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
