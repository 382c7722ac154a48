"""Several cases at once through the graphs: only what is present, only what is alike together.

Shapes: N token, D width, C output of the head.

Padding is paid for: rows, and the cases that are fused, are padded only where that was measured to
cost less than another run (`service.engine.batching`). Equal rows are encoded once, also where
several threads have them at a time, and not at all where the cache has their tokens.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from lanistr.batch import Arrays, Features, stack
from lanistr.importance import Subset, subsets
from lanistr.manifest import FUSION
from lanistr.modalities import Modality
from service.engine.backends import Backend, Floats, Tokens
from service.engine.batching import Pace
from service.engine.cache import Key, TokenCache
from service.engine.cost import Cost
from service.metrics import Metrics, TaskMetrics


@dataclass(frozen=True, slots=True)
class Job:
    """One case to be run.

    Attributes:
        features: the case.
        keys: of its rows, by modality.
        explain: also run every subset of its modalities.
    """

    features: Features
    keys: Mapping[Modality, Sequence[Key]]
    explain: bool = False

    def coalitions(self) -> list[Subset]:
        """Return the subsets of modalities to be fused; the whole of them stands last."""
        present = tuple(self.features.rows)
        return subsets(present) if self.explain else [frozenset(present)]


@dataclass(frozen=True, slots=True)
class Result:
    """What the graphs say of one case.

    Attributes:
        output: (C,), of the head.
        embedding: (E,).
        coalitions: output (C,) by subset of modalities, see `Job.coalitions`.
    """

    output: Floats
    embedding: Floats
    coalitions: Mapping[Subset, Floats]


class Runner:
    """Runs jobs on a backend.

    Args:
        backend: the graphs.
        cost: of rows, in tokens.
        cache: of what was encoded.
        budget: tokens that one run of a graph may take.
        paces: of the graphs that are given several rows at once; the others get one by one.
        metrics: where runs of graphs are noted.
    """

    def __init__(
        self,
        backend: Backend,
        cost: Cost,
        cache: TokenCache,
        *,
        budget: int,
        paces: Mapping[str, Pace],
        metrics: TaskMetrics | None = None,
    ) -> None:
        self._metrics = metrics or Metrics().task("")
        self._backend = backend
        self._cost = cost
        self._cache = cache
        self._budget = budget
        self._paces = paces

    def cost(self, job: Job) -> int:
        """Return what a job costs now, in tokens encoded and fused; those held cost nothing."""
        return self._cost.case(job.features, job.coalitions(), job.keys, self._held(job))

    def added(self, job: Job) -> float:
        """Return the seconds that a job adds to the runs of others; infinite if not measured."""
        tokens = self._cost.parts(job.features, job.coalitions(), job.keys, self._held(job))
        return sum(
            number * (self._paces[graph].token if graph in self._paces else math.inf)
            for graph, number in tokens.items()
            if number
        )

    def _held(self, job: Job) -> set[Key]:
        return {key for keys in job.keys.values() for key in keys if key in self._cache}

    def __call__(self, jobs: Sequence[Job]) -> list[Result]:
        """Run jobs; one result a job, in order."""
        cases = self._encode(jobs)
        wanted = [job.coalitions() for job in jobs]
        fused = iter(
            self._fuse(
                [
                    [piece for each in Modality if each in subset for piece in case[each]]
                    for case, subsets_ in zip(cases, wanted, strict=True)
                    for subset in subsets_
                ]
            )
        )
        results: list[Result] = []
        for coalitions in wanted:
            each = {subset: next(fused) for subset in coalitions}
            output, embedding = each[coalitions[-1]]
            results.append(Result(output, embedding, {s: out for s, (out, _) in each.items()}))
        return results

    def _encode(self, jobs: Sequence[Job]) -> list[dict[Modality, list[Tokens]]]:
        """Return by job and modality the tokens (N, D) in pieces.

        Rows of a case whose tokens are of one number are averaged to one; else each is a piece.
        """
        encoded: list[dict[Modality, list[Tokens]]] = [{} for _ in jobs]
        for modality in Modality:
            rows = {
                key: row
                for job in jobs
                for key, row in zip(
                    job.keys.get(modality, ()), job.features.rows.get(modality, ()), strict=True
                )
            }
            if not rows:
                continue
            tokens = self._tokens(modality, rows)
            for job, own in zip(jobs, encoded, strict=True):
                if keys := job.keys.get(modality, ()):
                    found = [tokens[key] for key in keys]
                    if len(found) > 1 and self._cost.fixed_tokens(modality):
                        found = [self._backend.average(found)]
                    own[modality] = found
        return encoded

    def _tokens(self, modality: Modality, rows: Mapping[Key, Arrays]) -> dict[Key, Tokens]:
        """Return the tokens (N, D) of each row; what another thread encodes now is waited for."""
        held = {key: self._cache.get(modality, key) for key in rows}
        tokens = {key: found for key, found in held.items() if found is not None}
        own, others = self._cache.claim(key for key in rows if key not in tokens)
        try:
            self._encode_rows(modality, rows, own, tokens)
        finally:
            self._cache.resolve(own, tokens)
        came = {key: coming.result() for key, coming in others.items()}
        tokens |= {key: found for key, found in came.items() if found is not None}
        # Where the other thread failed, these are encoded here, to fail with an error of their own.
        self._encode_rows(modality, rows, [key for key in others if key not in tokens], tokens)
        return tokens

    def _encode_rows(
        self,
        modality: Modality,
        rows: Mapping[Key, Arrays],
        wanted: Sequence[Key],
        tokens: dict[Key, Tokens],
    ) -> None:
        """Add the tokens (N, D) of the rows that are wanted."""
        lengths = [self._cost.row(modality, rows[key]) for key in wanted]
        for batch in self._batches(modality, lengths):
            keys = [wanted[i] for i in batch]
            with self._noted(modality, [lengths[i] for i in batch]):
                encoded = self._backend.encode(modality, stack([rows[key] for key in keys]))
            for key, found in zip(keys, encoded, strict=True):
                tokens[key] = found
                self._cache.put(key, found)

    def _fuse(self, cases: Sequence[Sequence[Tokens]]) -> list[tuple[Floats, Floats]]:
        """Return output (C,) and embedding (E,) of each case, whose tokens stand in pieces."""
        fused: dict[int, tuple[Floats, Floats]] = {}
        lengths = [sum(map(len, case)) for case in cases]
        for batch in self._batches(FUSION, lengths):
            with self._noted(FUSION, [lengths[i] for i in batch]):
                outputs = self._backend.fuse([cases[i] for i in batch])
            fused.update(zip(batch, zip(*outputs, strict=True), strict=True))
        return [fused[i] for i in range(len(cases))]

    def _batches(self, graph: str, lengths: Sequence[int]) -> Iterator[list[int]]:
        """Yield positions of what is run together."""
        if pace := self._paces.get(graph):
            return pace.batches(lengths, self._budget)
        return iter([i] for i in range(len(lengths)))

    def _noted(self, graph: str, lengths: Sequence[int]) -> AbstractContextManager[None]:
        tokens = sum(lengths)
        padding = len(lengths) * max(lengths) - tokens
        return self._metrics.graph(graph, len(lengths), tokens, padding)
