"""Several cases at once through the graphs: only what is present, only what is alike together.

Shapes: R row of one modality, N token, D width, B case or coalition, C output of the head.

Padding is paid for, so rows are run together where their shapes are equal and cases where their
tokens are equally many: nothing is padded. Equal rows are encoded once, and not at all where the
cache has their tokens.
"""

from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lanistr.batch import Arrays, Features, stack
from lanistr.importance import Subset, subsets
from lanistr.manifest import FUSION
from lanistr.modalities import Modality
from service.engine.backends import Backend, Floats
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
        embedding: (D,).
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
        width: D.
        budget: tokens that one run of a graph may take.
        together: the graphs that are given several rows at once; the others get one by one.
        metrics: where runs of graphs are noted.
    """

    def __init__(
        self,
        backend: Backend,
        cost: Cost,
        cache: TokenCache,
        *,
        width: int,
        budget: int,
        together: Collection[str],
        metrics: TaskMetrics | None = None,
    ) -> None:
        self._metrics = metrics or Metrics().task("")
        self._backend = backend
        self._cost = cost
        self._cache = cache
        self._width = width
        self._budget = budget
        self._together = together

    def cost(self, job: Job) -> int:
        """Return what a job costs now, in tokens encoded and fused; those held cost nothing."""
        held = {key for keys in job.keys.values() for key in keys if key in self._cache}
        return self._cost.case(job.features, job.coalitions(), job.keys, held)

    def __call__(self, jobs: Sequence[Job]) -> list[Result]:
        """Run jobs; one result a job, in order."""
        cases = self._encode(jobs)
        wanted = [job.coalitions() for job in jobs]
        fused = iter(
            self._fuse(
                [
                    self._sequence(case, subset)
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

    def _encode(self, jobs: Sequence[Job]) -> list[dict[Modality, Floats]]:
        """Return by job and modality the tokens (N, D), averaged over the rows of a case."""
        encoded: list[dict[Modality, Floats]] = [{} for _ in jobs]
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
                    own[modality] = found[0] if len(found) == 1 else np.mean(found, axis=0)
        return encoded

    def _tokens(self, modality: Modality, rows: Mapping[Key, Arrays]) -> dict[Key, Floats]:
        """Return the tokens (N, D) of each row."""
        held = {key: self._cache.get(modality, key) for key in rows}
        tokens = {key: found for key, found in held.items() if found is not None}
        wanted = [key for key in rows if key not in tokens]
        shapes = [tuple(array.shape for array in rows[key].values()) for key in wanted]
        costs = [self._cost.row(modality, rows[key]) for key in wanted]
        for positions in self._alike(modality, shapes, costs):
            keys = [wanted[i] for i in positions]
            tokens_run = sum(costs[i] for i in positions)
            with self._metrics.graph(modality, len(keys), tokens_run):
                encoded = self._backend.encode(modality, stack([rows[key] for key in keys]))
            for key, found in zip(keys, encoded, strict=True):
                tokens[key] = found
                self._cache.put(key, found)
        return tokens

    def _sequence(self, case: Mapping[Modality, Floats], subset: Subset) -> Floats:
        """Lay the tokens of the chosen modalities side by side, in canonical order: (N, D)."""
        chosen = [case[each] for each in Modality if each in subset]
        return np.concatenate([np.empty((0, self._width), np.float32), *chosen])

    def _fuse(self, sequences: Sequence[Floats]) -> list[tuple[Floats, Floats]]:
        """Return output (C,) and embedding (D,) of each sequence (N, D)."""
        fused: dict[int, tuple[Floats, Floats]] = {}
        lengths = [len(each) for each in sequences]
        for alike in self._alike(FUSION, lengths, lengths):
            tokens = np.stack([sequences[i] for i in alike])
            with self._metrics.graph(FUSION, len(alike), sum(lengths[i] for i in alike)):
                outputs = self._backend.fuse(tokens, np.ones(tokens.shape[:2], np.bool_))
            fused.update(zip(alike, zip(*outputs, strict=True), strict=True))
        return [fused[i] for i in range(len(sequences))]

    def _alike(
        self, graph: str, kinds: Sequence[Hashable], costs: Sequence[int]
    ) -> Iterator[list[int]]:
        """Yield positions of one kind, no more at once than pays and the budget allows."""
        groups: dict[Hashable, list[int]] = {}
        for i, kind in enumerate(kinds):
            groups.setdefault(kind, []).append(i)
        for group in groups.values():
            size = max(1, self._budget // max(1, *(costs[i] for i in group)))
            size = size if graph in self._together else 1
            for start in range(0, len(group), size):
                yield group[start : start + size]
