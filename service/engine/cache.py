"""What encoders returned, kept for the next case that brings the same note, picture, row or series.

It stays where the graphs run: what a GPU encoded takes up memory of the GPU.

A stay scored again with one more hour of vitals costs the small encoder and the fusion only.
"""

import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from hashlib import blake2b

from cachetools import LRUCache

from lanistr.batch import Arrays, Features
from lanistr.modalities import Modality
from service.engine.backends import Tokens
from service.metrics import Metrics

Key = bytes
"""Digest of everything that an encoder's output depends on."""


class RowKeys:
    """Gives rows their keys.

    Args:
        version: of the bundle, a hash over its files.
        build: its name: another precision computes otherwise.
    """

    def __init__(self, version: str, build: str) -> None:
        self._seeds = {each: f"{version} {build} {each}".encode() for each in Modality}

    def of(self, features: Features) -> Mapping[Modality, tuple[Key, ...]]:
        """Return the keys of a case's rows, by modality."""
        return {
            modality: tuple(self._key(modality, row) for row in rows)
            for modality, rows in features.rows.items()
        }

    def _key(self, modality: Modality, row: Arrays) -> Key:
        digest = blake2b(self._seeds[modality], digest_size=16)
        for name, array in row.items():
            digest.update(f" {name} {array.dtype} {array.shape} ".encode())
            digest.update(array.data if array.flags.c_contiguous else array.tobytes())
        return digest.digest()


class TokenCache:
    """Tokens by key; when there is no room, the least recently used are dropped.

    May be used from several threads, each of which learns what the others are encoding.

    Args:
        limit: bytes of tokens that are held at most; 0: none are.
        metrics: where bytes held, hits and misses are counted.
    """

    def __init__(self, limit: int, metrics: Metrics | None = None) -> None:
        self._held: LRUCache[Key, Tokens] = LRUCache(limit, getsizeof=lambda each: each.nbytes)
        self._metrics = metrics or Metrics()
        self._metrics.cache_limit_bytes.set(limit)
        self._coming: dict[Key, Future[Tokens | None] | None] = {}
        self._lock = threading.Lock()

    def __contains__(self, key: Key) -> bool:
        """Whether the tokens are there; does not count as using them."""
        with self._lock:
            return key in self._held

    def get(self, modality: Modality, key: Key) -> Tokens | None:
        """Return tokens (N, D), which must not be changed; None if they are not there."""
        with self._lock:
            found = self._held.get(key)
        self._metrics.cache_rows.labels(modality, "miss" if found is None else "hit").inc()
        return found

    def put(self, key: Key, tokens: Tokens) -> None:
        """Hold tokens (N, D), unless they alone are more than all that may be held."""
        if tokens.nbytes > self._held.maxsize:
            return
        with self._lock:
            self._held[key] = tokens
            self._metrics.cache_bytes.set(self._held.currsize)

    def claim(self, keys: Iterable[Key]) -> tuple[list[Key], dict[Key, Future[Tokens | None]]]:
        """Return the rows that the caller must encode, and futures of those that others encode now.

        The caller must call `resolve` for its rows, even if encoding fails, before it waits for
        others'.
        """
        own: list[Key] = []
        others: dict[Key, Future[Tokens | None]] = {}
        with self._lock:
            for key in keys:
                if key in self._coming:
                    others[key] = self._coming[key] = self._coming[key] or Future()
                else:
                    self._coming[key] = None
                    own.append(key)
        return own, others

    def resolve(self, keys: Iterable[Key], tokens: Mapping[Key, Tokens]) -> None:
        """Give the tokens of rows to those who wait for them; None where encoding failed."""
        with self._lock:
            waited = [(key, self._coming.pop(key)) for key in keys]
        for key, future in waited:
            if future is not None:
                future.set_result(tokens.get(key))
