"""The playground: a page that sends a case and shows what comes back, at `/`.

Its files are plain HTML, CSS and ES modules in `service/playground/`, read once. They use the
public API alone and fetch nothing from elsewhere. The page itself needs no key: it has a field for
one.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

router = APIRouter(include_in_schema=False)

_FOLDER = Path(__file__).resolve().parents[1] / "playground"

# Named here, since Python asks the machine, and some call a script plain text.
_MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

_HEADERS = {
    # Scripts and styles from files alone; no text may become markup, so that nothing which stands
    # in a task, an answer or a note is ever run. Pictures are shown from what was dropped.
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; object-src 'none'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",  # ask each time; the tag says whether anything changed
}


@dataclass(frozen=True, slots=True)
class _File:
    body: bytes
    media_type: str
    tag: str


def _read(folder: Path) -> Mapping[str, _File]:
    """Return every file of the page by its name."""
    found = {}
    for path in sorted(folder.iterdir()):
        if path.suffix in _MEDIA_TYPES:
            body = path.read_bytes()
            tag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
            found[path.name] = _File(body, _MEDIA_TYPES[path.suffix], tag)
    return found


_FILES = _read(_FOLDER)


@router.get("/")
async def page(request: Request) -> Response:
    """Send the page."""
    return _send("index.html", request)


@router.get("/playground/{name}")
async def file(request: Request, name: str) -> Response:
    """Send a file of the page."""
    return _send(name, request)


def _send(name: str, request: Request) -> Response:
    found = _FILES.get(name)
    if found is None:
        raise HTTPException(404)
    headers = _HEADERS | {"ETag": found.tag}
    known = request.headers.get("if-none-match", "")
    if known.strip() == "*" or found.tag in (
        each.strip().removeprefix("W/") for each in known.split(",")
    ):
        return Response(status_code=304, headers=headers)
    return Response(found.body, headers=headers, media_type=found.media_type)
