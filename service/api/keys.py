"""Who may ask: keys by name, from a file of their hashes.

    - {name: ward-7, sha256: 9f86d0..., tasks: [mortality], per_minute: 120}
    - {name: prometheus, sha256: 60303a..., tasks: [], metrics: true}

A key is 256 random bits, so that there is no list of likely ones to try against the file, and plain
SHA-256 protects it; the slow hashes that passwords need would only slow every request down.
"""

import asyncio
import fcntl
import hmac
import logging
import math
import os
import secrets
import struct
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from time import monotonic
from typing import Any

import yaml
from pydantic import Field, ValidationInfo, field_validator
from starlette.requests import Request

from lanistr.document import RepeatedKeyError, read_yaml
from lanistr.errors import ConfigError, LanistrError, unknown_name
from lanistr.schema import Schema
from service.api.exchange import exchange_of
from service.audit import AuditUnavailableError
from service.logs import place_of

_PREFIX = "lanistr_"
"""By which those who look for keys in public places know one."""

_LOOK_SECONDS = 1.0
"""How often the file is looked at."""

OPEN: dict[str, Any] = {"security": []}
"""What a route says as its `openapi_extra` to ask for no key, here and in the document."""

_NAME = r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$"

_Mark = tuple[int, int, int]
"""What changes when a file does: its time, its place on the disk and its size."""

_log = logging.getLogger(__name__)


class NoKeyError(LanistrError):
    """A key must be shown, and none that is known was."""


class OutOfScopeError(LanistrError):
    """The key that was shown does not reach so far."""


class TooFastError(LanistrError):
    """The key was shown more often than it may; once more after `retry_after` seconds."""

    def __init__(self, key: "Key", retry_after: int) -> None:
        super().__init__(
            "too many requests with this key",
            code="rate_limited",
            accepted=f"{key.per_minute:g} a minute; the same request in {retry_after} s",
        )
        self.retry_after = retry_after


class Key(Schema):
    """One line of the file.

    Attributes:
        name: of whoever holds it, for logs.
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
            raise ValueError("no limit without per_minute beside it")
        return burst

    def reaches(self, task: str) -> bool:
        """Whether it may ask for a task."""
        return self.tasks is None or task in self.tasks


class _File(Schema):
    keys: tuple[Key, ...] = Field(min_length=1)


@dataclass
class Bucket:
    """Requests that a key has left; they grow back with time.

    Attributes:
        rate: requests a second.
        size: most there can be.
        left: below one, none is given; below zero, some were given on credit.
        since: when `left` was true.
    """

    rate: float
    size: float
    left: float
    since: float = field(default_factory=monotonic)

    def take(self) -> float:
        """Take one; return how many seconds one must wait for it, 0 if it was given."""
        now = monotonic()
        self.left = min(self.size, self.left + (now - self.since) * self.rate)
        self.since = now
        if self.left < 1:
            return (1 - self.left) / self.rate
        self.left -= 1
        return 0.0

    def owe(self, count: int) -> None:
        """Take some on credit: further cases of a request that has begun."""
        self.left -= count


class SharedBucket(Bucket):
    """One of which several processes take; what is left stands in a file.

    Args:
        path: of the file.
        rate: see `Bucket`.
        size: likewise.
    """

    _STATE = struct.Struct("dd")

    def __init__(self, path: Path, rate: float, size: float) -> None:
        super().__init__(rate, size, size)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        weakref.finalize(self, os.close, self._file)

    def take(self) -> float:
        """See `Bucket`."""
        with self._turn():
            return super().take()

    def owe(self, count: int) -> None:
        """See `Bucket`."""
        with self._turn():
            super().owe(count)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Hold what is left, while the others wait."""
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            if found := os.pread(self._file, self._STATE.size, 0):
                self.left, self.since = self._STATE.unpack(found)
            yield
            os.pwrite(self._file, self._STATE.pack(self.left, self.since), 0)
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)


class Keys:
    """The keys of a file, which is read again when it changes.

    Args:
        path: of the file.
        shared: a folder through which several processes count requests together.

    Raises:
        ConfigError: the file cannot be read, is no list of keys, or names one twice.
    """

    def __init__(self, path: Path, shared: Path | None = None) -> None:
        self._path = path
        self._shared = shared
        self._mark = _mark(path)
        """Of the file as it was when it was last read."""
        self._said: tuple[_Mark | None, str] | None = None
        self._keys = _read(path)
        self._buckets: dict[str, Bucket] = {}
        self._look = asyncio.Event()

    def __iter__(self) -> Iterator[Key]:
        return iter(self._keys)

    def find(self, shown: str) -> Key | None:
        """Return the key that was shown, after the same work whichever it is."""
        digest = sha256(shown.encode()).hexdigest()
        found = None
        for each in self._keys:
            if hmac.compare_digest(each.sha256, digest):
                found = each
        return found

    def charge(self, key: Key) -> Bucket | None:
        """Count a request against the key; return what is left of it, None where there is no limit.

        Raises:
            TooFastError: none is left.
        """
        if key.per_minute is None:
            return None
        bucket = self._buckets.get(key.name)
        rate, size = key.per_minute / 60, float(key.burst or max(1, key.per_minute))
        if bucket is None or (bucket.rate, bucket.size) != (rate, size):
            bucket = self._buckets[key.name] = self._bucket(key.name, rate, size)
        if wait := bucket.take():
            raise TooFastError(key, math.ceil(wait))
        return bucket

    def _bucket(self, name: str, rate: float, size: float) -> Bucket:
        if self._shared is None:
            return Bucket(rate, size, size)
        return SharedBucket(self._shared / f"key {name} {rate:g} {size:g}", rate, size)

    def reload(self) -> None:
        """Read the file again; if it is bad, keep what was read before and say so.

        One that could not be read at all is read again at the next look: a key that it takes back
        would stay, and what keeps it from being read may pass without a mark on it.
        """
        mark = _mark(self._path)
        try:
            self._keys = _read(self._path)
        except ConfigError as exc:
            if not isinstance(exc.__cause__, OSError):
                self._mark = mark
            self._complain(mark, str(exc))
        except Exception as exc:  # no memory, for one
            self._complain(mark, place_of(exc))
        else:
            self._mark, self._said = mark, None
            _log.info("keys read again: %d", len(self._keys))

    def _complain(self, mark: _Mark | None, words: str) -> None:
        """Say why the keys stay, unless that was said of this file."""
        if self._said != (mark, words):
            self._said = mark, words
            _log.error("the keys stay as they were: %s", words)

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
        """Read the file again now, and say again what is wrong with it."""
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


# ---- asking -------------------------------------------------------------------------------------


async def authorize(request: Request) -> None:
    """Let a request pass, or not; a dependency of every router. A route that is `OPEN` says so.

    Raises:
        LanistrError: see `check_key`.
    """
    if (getattr(request.scope["route"], "openapi_extra", None) or {}).get("security") != []:
        check_key(request)


def check_key(request: Request) -> None:
    """Let a request pass, if its key allows it and its answer could be put on record.

    Raises:
        NoKeyError: no key was shown, or none that is known.
        OutOfScopeError: the key is not for the task.
        TooFastError: the key was used too often.
        AuditUnavailableError: the answer could not be put on record.
    """
    state, exchange = request.app.state, exchange_of(request)
    task = request.path_params.get("task", request.path_params.get("name"))
    keys: Keys | None = state.keys
    request.state.key = None
    if keys is not None:

        def look() -> Key:
            key = _shown(request, keys)
            exchange.key = key.name
            if task is not None and not key.reaches(task):
                tasks = "tasks: " + (", ".join(key.tasks or ()) or "none")
                raise _beyond(key, "task", task, tasks)
            return key

        exchange.look = look
        request.state.key = key = look()
        if bucket := keys.charge(key):
            exchange.owe = bucket.owe
    if task in state.models:
        exchange.task = task
        if request.method == "POST" and state.audit is not None and not state.audit.available:
            raise AuditUnavailableError


async def authorize_metrics(request: Request) -> None:
    """Let a request for /metrics pass, or not.

    Raises:
        NoKeyError: no key was shown, or none that is known.
        OutOfScopeError: the key is not for metrics.
        TooFastError: the key was used too often.
    """
    state = request.app.state
    if state.keys is None or state.settings.open_metrics:
        return
    key = _shown(request, state.keys)
    exchange_of(request).key = key.name
    if not key.metrics:
        raise _beyond(key, "path", request.url.path, "a key with metrics: true")
    state.keys.charge(key)


def _shown(request: Request, keys: Keys) -> Key:
    scheme, _, shown = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not shown.strip():
        raise NoKeyError(
            "a key is needed",
            code="no_key",
            field="Authorization",
            seen=None if not scheme else "something else",
            accepted="Authorization: Bearer KEY",
        )
    key = keys.find(shown.strip())
    if key is None:
        raise NoKeyError(
            "the key is not known here",
            code="unknown_key",
            field="Authorization",
            accepted="a key that this service was given the hash of",
        )
    return key


def _beyond(key: Key, field: str, seen: str, accepted: str) -> OutOfScopeError:
    message = f"the key {key.name!r} is not for this"
    return OutOfScopeError(message, code="out_of_scope", field=field, seen=seen, accepted=accepted)


# ---- the file -----------------------------------------------------------------------------------


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
            path, f"what stands in line {exc.first} stands again in {exc.line}"
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
            accepted=exc.accepted or "lines as `python -m service keys new NAME` writes them",
        ) from None
    for what in ("name", "sha256"):
        values = [getattr(each, what) for each in found]
        again = next((each.name for i, each in enumerate(found) if values[i] in values[:i]), None)
        if again is not None:
            raise ConfigError(
                f"{path}: the same {what} twice",
                code="bad_keys",
                field=f"keys.{again}",
                accepted=f"one line a {what}",
            )
    return found


def _unreadable(path: Path, fault: str) -> ConfigError:
    return ConfigError(
        f"cannot read the keys: {fault}",
        code="bad_keys",
        field=str(path),
        accepted="a file of lines as `python -m service keys new NAME` writes them",
    )


def warn_of_unserved(keys: Keys, served: Iterable[str]) -> None:
    """Warn of tasks that keys name and nobody serves, which is likely a slip of the pen."""
    for key in keys:
        for task in key.tasks or ():
            if task not in served:
                nearest = unknown_name(task, served)
                _log.warning("key %s: no task %r is served; %s", key.name, task, nearest)
