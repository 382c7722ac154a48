"""Forms: each part of a record as a field or a file, under the name it has in JSON.

    text        a note a part, as often as there are notes
    image       a file a part, as often as there are pictures (or base64 in a field)
    tabular     JSON
    timeseries  JSON, or CSV with a column `hours`

A part without content is absent, as browsers send the inputs that nobody filled; among several of
one name it keeps its place, so that the others are called by theirs.
"""

from codecs import BOM_UTF8
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from lanistr.errors import InputError
from lanistr.modalities import Modality
from lanistr.tasks import TaskSpec
from service.inputs import csv, json
from service.inputs.limits import Limits

_AS_IT_IS = ("7bit", "8bit", "binary")
"""Transfer encodings that change nothing. Source: RFC 2045, section 6.2; RFC 7578, section 4.7."""


@dataclass(slots=True)
class Part:
    """One part of a form.

    Attributes:
        headers: by lower-case name.
        data: content.
        is_file: it came with a file's name.
    """

    headers: dict[str, str] = field(default_factory=dict)
    data: bytearray = field(default_factory=bytearray)
    name: str = ""
    file_name: str = ""
    is_file: bool = False

    @property
    def empty(self) -> bool:
        """Whether it has no content."""
        return not self.data.strip()

    @property
    def media_type(self) -> str:
        """Content type without parameters; empty where none was sent."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    def text(self, path: str) -> str:
        """Decode the content.

        Raises:
            InputError: not UTF-8.
        """
        try:
            return self.data.decode("utf-8-sig")
        except UnicodeDecodeError as exc:
            raise InputError(
                f"not UTF-8: {exc.reason} at byte {exc.start}",
                code="not_text",
                field=path,
                seen=bytes(self.data[exc.start : exc.start + 8]),
                accepted="text in UTF-8",
            ) from None  # the exception holds the text


def read(body: bytes, content_type: str, task: TaskSpec, limits: Limits) -> Any:
    """Read a record from a form. The type is `service.inputs.Reader`.

    Raises:
        InputError: not a form, too many parts, or a part that is encoded or cannot be read.
    """
    return record(_split(body, content_type, limits.form_parts), task, limits)


def record(found: Iterable[Part], task: TaskSpec, limits: Limits) -> Any:
    """Put a record together from named parts.

    Raises:
        InputError: a part cannot be read.
    """
    named: dict[str, list[Part]] = {}
    for part in found:
        named.setdefault(part.name, []).append(part)
    # A name that is not known keeps its place: the core says which one was meant.
    return {
        name: None
        if all(part.empty for part in parts)
        else _READ.get(name, _absent)(name, parts, task, limits)
        for name, parts in named.items()
    }


# ---- the parts of a record ----------------------------------------------------------------------


def _words(name: str, parts: Sequence[Part], task: TaskSpec, limits: Limits) -> Any:
    if len(parts) == 1:
        return parts[0].text(name)
    return [None if part.empty else part.text(f"{name}[{i}]") for i, part in enumerate(parts)]


def _pictures(name: str, parts: Sequence[Part], task: TaskSpec, limits: Limits) -> Any:
    if len(parts) == 1:
        return _picture(name, parts[0])
    return [None if part.empty else _picture(f"{name}[{i}]", part) for i, part in enumerate(parts)]


def _picture(path: str, part: Part) -> bytes | str:
    if part.is_file or part.media_type.startswith("image/"):
        return bytes(part.data)
    return part.text(path).strip()


def _one_word(name: str, parts: Sequence[Part], task: TaskSpec, limits: Limits) -> Any:
    return _only(name, parts).text(name)


def _json(name: str, parts: Sequence[Part], task: TaskSpec, limits: Limits) -> Any:
    return json.decode(bytes(_only(name, parts).data), limits, name)


def _rows(name: str, parts: Sequence[Part], task: TaskSpec, limits: Limits) -> Any:
    part = _only(name, parts)
    if _is_json(part):
        return _json(name, parts, task, limits)
    variables = task.timeseries.variables if task.timeseries else {}
    return csv.decode(part.text(name), name, limits.timeseries_items, variables)


def _is_json(part: Part) -> bool:
    """Tell JSON from CSV by media type, by the file's name, by the first character."""
    for mark in (part.media_type, part.file_name.lower()):
        if mark.endswith(("json", "csv")):
            return mark.endswith("json")
    content = part.data.removeprefix(BOM_UTF8).strip()
    return content[:1] in b"[{" or content == b"null"


def _absent(name: str, parts: Sequence[Part], task: TaskSpec, limits: Limits) -> Any:
    return None


def _only(name: str, parts: Sequence[Part]) -> Part:
    parts = [part for part in parts if not part.empty]
    if len(parts) > 1:
        raise InputError(
            "sent more than once",
            code="repeated_field",
            field=name,
            seen=f"{len(parts)} parts",
            accepted="one part with this name",
        )
    return parts[0]


_READ: Mapping[str, Callable[[str, Sequence[Part], TaskSpec, Limits], Any]] = {
    "id": _one_word,
    Modality.TEXT: _words,
    Modality.IMAGE: _pictures,
    Modality.TABULAR: _json,
    Modality.TIMESERIES: _rows,
}


# ---- the form itself ----------------------------------------------------------------------------


def _split(body: bytes, content_type: str, most: int) -> list[Part]:
    """Return the parts of a form, in order.

    starlette's parser would write files to disk and pass over a form that breaks off; the body is
    in memory already, and a missing end means that something is missing.
    """
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise _not_a_form("no boundary", "Content-Type", content_type)
    form = _Form(most)
    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": form.begin,
                "on_header_field": form.header_name,
                "on_header_value": form.header_value,
                "on_header_end": form.header,
                "on_headers_finished": form.headers,
                "on_part_data": form.content,
                "on_end": form.end,
            },
        )
    except FormParserError as exc:  # the boundary is too long
        raise _not_a_form(str(exc), "Content-Type", content_type) from None
    try:
        parser.write(body)
    except FormParserError as exc:
        at = max(getattr(exc, "offset", 0), 0)
        raise _not_a_form(str(exc), "body", body[at : at + 8]) from None
    if not form.complete:
        seen = f"{len(body):,} bytes, begun parts: {len(form.parts)}"
        raise _not_a_form("the form ends before its closing boundary", "body", seen)
    return form.parts


class _Form:
    """Collects what the parser finds; its methods are the parser's callbacks."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.parts: list[Part] = []
        self.complete = False
        self._name, self._value = b"", b""

    def begin(self) -> None:
        if len(self.parts) == self.most:
            raise InputError(
                "the form has too many parts",
                code="too_many",
                field="body",
                seen=f"more than {self.most:,} parts",
                accepted=f"at most {self.most:,} parts",
            )
        self.parts.append(Part())

    def header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def header(self) -> None:
        name = self._name.decode("latin-1").lower()
        self.parts[-1].headers[name] = self._value.decode("utf-8", "replace")
        self._name, self._value = b"", b""

    def headers(self) -> None:
        part = self.parts[-1]
        disposition = part.headers.get("content-disposition", "").encode("utf-8").decode("latin-1")
        options = parse_options_header(disposition)[1]
        if b"name" not in options:
            raise _not_a_form("a part has no name", "Content-Disposition", disposition)
        part.name = options[b"name"].decode("utf-8", "replace")
        part.is_file = b"filename" in options
        encoding = part.headers.get("content-transfer-encoding", "binary").strip().lower()
        if encoding not in _AS_IT_IS:
            raise InputError(
                "encoded parts are not supported",
                code="unsupported_media_type",
                field=part.name,
                seen=f"Content-Transfer-Encoding: {encoding}",
                accepted="a part without an encoding",
            )
        part.file_name = options.get(b"filename", b"").decode("utf-8", "replace")

    def content(self, data: bytes, start: int, end: int) -> None:
        self.parts[-1].data += data[start:end]

    def end(self) -> None:
        self.complete = True


def _not_a_form(fault: str, field: str, seen: Any) -> InputError:
    return InputError(
        f"not a form: {fault}",
        code="not_a_form",
        field=field,
        seen=seen,
        accepted="complete multipart/form-data with its boundary",
    )
