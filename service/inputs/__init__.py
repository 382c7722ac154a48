"""From the bytes of a request to a record that `lanistr.preprocess.read_record` takes.

One module a media type; each has a function of the type `Reader`.
"""

from collections.abc import Callable, Collection, Mapping
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


def find_reader(headers: Mapping[str, str]) -> Reader:
    """Return what reads bodies with such headers, which go by lower-case names.

    Raises:
        InputError: nothing does, or the body is compressed.
    """
    return READERS[check_type(headers, READERS)]


def check_type(headers: Mapping[str, str], accepted: Collection[str]) -> str:
    """Return the media type of a body.

    Raises:
        InputError: it is not among those accepted, or the body is compressed.
    """
    content_type = headers.get("content-type", "")
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type not in accepted:
        raise InputError(
            "unsupported media type",
            code="unsupported_media_type",
            field="Content-Type",
            seen=content_type or None,
            accepted=" or ".join(accepted),
        )
    check_plain(headers)
    return media_type


def check_plain(headers: Mapping[str, str]) -> None:
    """Check that a body comes as it is.

    Raises:
        InputError: it is compressed.
    """
    content_encoding = headers.get("content-encoding", "")
    if content_encoding.strip().lower() not in ("", "identity"):
        raise InputError(
            "compressed bodies are not supported",
            code="unsupported_media_type",
            field="Content-Encoding",
            seen=content_encoding,
            accepted="an uncompressed body",
        )
