"""Keys by name, in a file of their hashes that is read again when it changes.

    - {name: ward-7, sha256: 9f86d0..., tasks: [mortality], per_minute: 120}
    - {name: prometheus, sha256: 60303a..., tasks: [], metrics: true}

A key is 256 random bits, so that there is no list of likely ones to try against the file, and plain
SHA-256 protects it; the slow hashes that passwords need would only slow every request down.
"""

import asyncio
import logging
import math
import secrets
from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationInfo, field_validator

from lanistr.document import RepeatedKeyError, read_yaml
from lanistr.errors import ConfigError
from lanistr.schema import Schema
from service.logs import place_of

_PREFIX = "lanistr_"
"""Prefix by which scanners for leaked keys recognise one."""

_LOOK_SECONDS = 1.0
"""How often the file is looked at."""

_NAME = r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$"

_Mark = tuple[int, int, int]
"""What changes when a file does: its time, its place on the disk and its size."""

_log = logging.getLogger(__name__)


class Key(Schema):
    """One line of the file.

    Attributes:
        name: of its holder, for logs.
        sha256: of the key, hexadecimal.
        tasks: that it may ask; all if left out.
        metrics: whether it may read /metrics.
        per_minute: requests, on average; without end if left out.
        burst: requests that may come at once, of those `per_minute`; as many if left out.
    """

    name: str = Field(pattern=_NAME)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    tasks: tuple[str, ...] | None = None
    metrics: bool = False
    per_minute: float | None = Field(default=None, gt=0)
    burst: int | None = Field(default=None, ge=1)

    @field_validator("burst")
    @classmethod
    def _of_a_rate(cls, burst: int | None, found: ValidationInfo) -> int | None:
        if burst is not None and found.data.get("per_minute") is None:
            raise ValueError("a burst needs per_minute")
        return burst

    def reaches(self, task: str) -> bool:
        """Whether it may ask for a task."""
        return self.tasks is None or task in self.tasks


class _File(Schema):
    keys: tuple[Key, ...] = Field(min_length=1)


class KeyFile:
    """The keys of a file, which is read again when it changes.

    Args:
        path: of the file.

    Raises:
        ConfigError: the file cannot be read, is no list of keys, or names one twice.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._mark = _mark(path)
        """Of the file as it was when it was last read."""
        self._said: tuple[_Mark | None, str] | None = None
        self._keys = _read(path)
        self._look = asyncio.Event()

    def __iter__(self) -> Iterator[Key]:
        return iter(self._keys)

    def reload(self) -> None:
        """Read the file again; if it is bad, keep what was read before and say so.

        One that could not be read at all is read again at the next look: a key that it revokes
        would stay valid, and the obstacle may pass without the file changing.
        """
        mark = _mark(self._path)
        try:
            self._keys = _read(self._path)
        except ConfigError as exc:
            if not isinstance(exc.__cause__, OSError):
                self._mark = mark
            self._complain(mark, str(exc))
        except Exception as exc:  # out of memory, for one
            self._complain(mark, place_of(exc))
        else:
            self._mark, self._said = mark, None
            _log.info("keys reloaded: %d", len(self._keys))

    def _complain(self, mark: _Mark | None, words: str) -> None:
        """Log why the old keys stay, unless that was logged of this file."""
        if self._said != (mark, words):
            self._said = mark, words
            _log.error(
                "the key file could not be reloaded; the previous keys remain in use: %s", words
            )

    async def watch(self) -> None:
        """Read the file again whenever it has changed, or `look` says, until cancelled."""
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._look.wait(), _LOOK_SECONDS)
            changed = await asyncio.to_thread(_mark, self._path) != self._mark
            if changed or self._look.is_set():
                self._look.clear()
                await asyncio.to_thread(self.reload)

    def look(self) -> None:
        """Read the file again now, and log again what is wrong with it."""
        self._said = None
        self._look.set()


def new_key(name: str, **more: Any) -> tuple[str, str]:
    """Make a key; return it, and the line that lets its holder in.

    Raises:
        ConfigError: no such name or limit.
    """
    shown = _PREFIX + secrets.token_urlsafe(32)
    digest = sha256(shown.encode()).hexdigest()
    entry = Key.parse({"name": name, "sha256": digest} | more, ConfigError, "keys")
    fields = entry.model_dump(mode="json", exclude_defaults=True)
    line = yaml.safe_dump(fields, default_flow_style=True, sort_keys=False, width=math.inf)
    return shown, f"- {line.strip()}"


def _mark(path: Path) -> _Mark | None:
    """Return the mark of a file, of a link that of its target; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


def _read(path: Path) -> tuple[Key, ...]:
    """Read the keys. No error shows what stood in the file: it may be a key put in by mistake."""
    try:
        entries = read_yaml(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise _unreadable(path, exc.strerror or str(exc)) from exc
    except RepeatedKeyError as exc:
        raise _unreadable(
            path, f"an entry of line {exc.first} is repeated in line {exc.line}"
        ) from None
    except (ValueError, RecursionError, yaml.YAMLError) as exc:
        mark = getattr(exc, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        raise _unreadable(path, f"not YAML{where}") from None
    try:
        found = _File.parse({"keys": entries}, ConfigError, str(path)).keys
    except ConfigError as exc:
        raise ConfigError(
            exc.message,
            code="bad_keys",
            field=exc.field,
            accepted=exc.accepted or "lines as printed by `python -m service keys new NAME`",
        ) from None
    for what in ("name", "sha256"):
        values = [getattr(each, what) for each in found]
        again = next((each.name for i, each in enumerate(found) if values[i] in values[:i]), None)
        if again is not None:
            raise ConfigError(
                f"{path}: the same {what} appears twice",
                code="bad_keys",
                field=f"keys.{again}",
                accepted=f"one line per {what}",
            )
    return found


def _unreadable(path: Path, fault: str) -> ConfigError:
    return ConfigError(
        f"cannot read the keys: {fault}",
        code="bad_keys",
        field=str(path),
        accepted="a file of lines as printed by `python -m service keys new NAME`",
    )
