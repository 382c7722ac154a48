"""From the bytes of a request to a record that `lanistr.preprocess.read_record` takes.

One module a media type; each has a function of the type `Reader`.
"""

from collections.abc import Callable, Mapping
from typing import Any

from lanistr.errors import InputError
from lanistr.tasks import TaskSpec
from service.inputs import json, multipart
from service.inputs.limits import Limits

Reader = Callable[[bytes, str, TaskSpec, Limits], Any]
"""Takes body, Content-Type, task and limits; returns a record. Raises `InputError`."""

READERS: Mapping[str, Reader] = {
    "application/json": json.read,
    "multipart/form-data": multipart.read,
}


def find_reader(content_type: str, content_encoding: str = "") -> Reader:
    """Return what reads bodies of a Content-Type.

    Raises:
        InputError: nothing does, or the body is compressed.
    """
    reader = READERS.get(content_type.partition(";")[0].strip().lower())
    if reader is None:
        raise InputError(
            "no such media type is read here",
            code="unsupported_media_type",
            field="Content-Type",
            seen=content_type or None,
            accepted=" or ".join(READERS),
        )
    if content_encoding.strip().lower() not in ("", "identity"):
        raise InputError(
            "compressed bodies are not read here",
            code="unsupported_media_type",
            field="Content-Encoding",
            seen=content_encoding,
            accepted="a body as it is",
        )
    return reader
