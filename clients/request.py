"""A request to the service, ready to be sent, and how a case is put into it.

A case goes as JSON, unless it brings files (pictures, a CSV): then as a multipart form, which
carries them as they are instead of a third larger in base64.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from clients.errors import InvalidInput
from clients.parts import (
    Bytes,
    Image,
    Tabular,
    Text,
    Timeseries,
    Upload,
    notes,
    pictures,
    row,
    series,
    string,
)

File = tuple[str, Upload]
"""A part's name, and what it brings."""


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
    files: tuple[File, ...] = ()
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


PARTS = ("id", "text", "image", "tabular", "timeseries")
"""Names in a case, in the order in which they are sent."""


def record(case: Mapping[str, Any]) -> dict[str, Any]:
    """Return a case as plain JSON values, pictures in base64: as a list of cases carries it.

    Raises:
        InvalidInput: of the first value that cannot be sent.
    """
    for name in case:
        if name not in PARTS:
            raise InvalidInput(str(name), "is not part of a case", accepted=", ".join(PARTS))
    values, files = parts(**{name: case.get(name) for name in PARTS})
    for name, file in files:
        if file.media_type == "text/csv":
            raise InvalidInput(
                name,
                "is a file, which cannot be sent in a list of cases",
                accepted="the file's rows",
            )
        before: list[str] = values.setdefault(name, [])
        if not file.media_type.startswith("image/"):
            single = isinstance(case[name], Bytes | str | PathLike)
            place = name if single else f"{name}[{len(before)}]"
            raise InvalidInput(place, "is not an image", accepted="JPEG, PNG, WebP, TIFF or BMP")
        before.append(base64.b64encode(file.content).decode())
    return values


def parts(
    *,
    id: str | None,
    text: Text | None,
    image: Image | None,
    tabular: Tabular | None,
    timeseries: Timeseries | None,
) -> tuple[dict[str, Any], list[File]]:
    """Return what a case brings: plain JSON values, and files. Reads these.

    Raises:
        InvalidInput: of the first value that cannot be sent.
    """
    values: dict[str, Any] = {}
    if id is not None:
        values["id"] = string(id, "id")
    if text is not None:
        values["text"] = notes(text)
    if tabular is not None:
        values["tabular"] = row(tabular)

    files: list[File] = []
    if image is not None:
        files += [("image", each) for each in pictures(image)]
    if timeseries is not None:
        rows = series(timeseries)
        if isinstance(rows, Upload):
            files.append(("timeseries", rows))
        else:
            values["timeseries"] = rows
    return values, files


def of_case(
    path: str, query: Mapping[str, str], values: dict[str, Any], files: Sequence[File]
) -> Request:
    """Return the request that carries one case, as `parts` gives it."""
    if not files:
        return Request("POST", path, query, content=to_json(values))
    fields: dict[str, Any] = {name: values.pop(name) for name in ("id", "text") if name in values}
    rest = [(name, Upload(to_json(each), "application/json")) for name, each in values.items()]
    return Request("POST", path, query, fields=fields, files=(*files, *rest))


def segment(name: str, field: str = "task") -> str:
    """Return a name as one segment of a path. Raises `InvalidInput`."""
    if not name:
        raise InvalidInput(field, "is empty", accepted="the name of a task")
    return quote(string(name, field), safe="")


def to_json(value: Any) -> bytes:
    """Return plain values as JSON."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
