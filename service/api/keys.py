"""Who may ask, how far and how often: the keys of `service.api.key_file`, as requests show them."""

import fcntl
import hmac
import logging
import math
import os
import struct
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from time import monotonic
from typing import Any

from starlette.requests import Request

from lanistr.errors import LanistrError, unknown_name
from service.api.exchange import exchange_of
from service.api.key_file import Key, KeyFile
from service.audit import AuditUnavailableError

OPEN: dict[str, Any] = {"security": []}
"""What a route says as its `openapi_extra` to ask for no key, here and in the document."""

_log = logging.getLogger(__name__)


class NoKeyError(LanistrError):
    """A key is needed, and no known one was shown."""


class OutOfScopeError(LanistrError):
    """The key that was shown does not allow this."""


class TooFastError(LanistrError):
    """The key was used more often than it may be; it may again after `retry_after` seconds."""

    def __init__(self, key: Key, retry_after: int) -> None:
        super().__init__(
            "too many requests with this key",
            code="rate_limited",
            accepted=f"{key.per_minute:g} requests a minute; try again in {retry_after} s",
        )
        self.retry_after = retry_after


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
    """A bucket that several processes take from; what is left is kept in a file.

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
        """Hold what is left; other processes wait meanwhile."""
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            if found := os.pread(self._file, self._STATE.size, 0):
                self.left, self.since = self._STATE.unpack(found)
            yield
            os.pwrite(self._file, self._STATE.pack(self.left, self.since), 0)
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)


class Keys(KeyFile):
    """The keys of a file, and what each has left.

    Args:
        path: of the file.
        shared: a folder through which several processes count requests together.

    Raises:
        ConfigError: see `KeyFile`.
    """

    def __init__(self, path: Path, shared: Path | None = None) -> None:
        super().__init__(path)
        self._shared = shared
        self._buckets: dict[str, Bucket] = {}

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
            "an API key is required",
            code="no_key",
            field="Authorization",
            seen=None if not scheme else "another scheme",
            accepted="Authorization: Bearer KEY",
        )
    key = keys.find(shown.strip())
    if key is None:
        raise NoKeyError(
            "unknown API key",
            code="unknown_key",
            field="Authorization",
            accepted="a key whose hash is in this service's key file",
        )
    return key


def _beyond(key: Key, field: str, seen: str, accepted: str) -> OutOfScopeError:
    message = f"the key {key.name!r} does not give access to this"
    return OutOfScopeError(message, code="out_of_scope", field=field, seen=seen, accepted=accepted)


# ---- starting -----------------------------------------------------------------------------------


def warn_of_unserved(keys: Keys, served: Iterable[str]) -> None:
    """Warn of tasks that keys name and nobody serves, which is likely a slip of the pen."""
    for key in keys:
        for task in key.tasks or ():
            if task not in served:
                nearest = unknown_name(task, served)
                _log.warning("key %s: task %r is not served; %s", key.name, task, nearest)
