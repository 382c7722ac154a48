"""Several cases at once through the graphs: only what is present, only what is alike together.

Shapes: R row of one modality, N token, D width, B case or coalition, C output of the head.

On a CPU an item costs the same in any batch and padding is paid for, so rows are run together
where their shapes are equal and cases where their tokens are equally many: nothing is padded.
Source: spec/export_and_serving.md, "onnxruntime in a server".
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lanistr.batch import Arrays, Features, stack
from lanistr.importance import Subset, subsets
from lanistr.modalities import Modality
from service.engine.backends import Backend, Floats
from service.engine.cost import Cost


@dataclass(frozen=True, slots=True)
class Job:
    """One case to be run.

    Attributes:
        features: the case.
        explain: also run every subset of its modalities.
    """

    features: Features
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
        width: D.
        budget: tokens that one run of a graph may take.
    """

    def __init__(self, backend: Backend, cost: Cost, *, width: int, budget: int) -> None:
        self._backend = backend
        self._cost = cost
        self._width = width
        self._budget = budget

    def cost(self, job: Job) -> int:
        """Return what a job costs, in tokens encoded and fused."""
        return self._cost.case(job.features, job.coalitions())

    def __call__(self, jobs: Sequence[Job]) -> list[Result]:
        """Run jobs; one result a job, in order."""
        cases = self._encode([job.features for job in jobs])
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

    def _encode(self, cases: Sequence[Features]) -> list[dict[Modality, Floats]]:
        """Return by case and modality the tokens (N, D), averaged over the rows of a case."""
        encoded: list[dict[Modality, Floats]] = [{} for _ in cases]
        for modality in Modality:
            owners = [i for i, case in enumerate(cases) for _ in case.rows.get(modality, ())]
            rows = [row for case in cases for row in case.rows.get(modality, ())]
            tokens = self._encode_rows(modality, rows)
            for i in dict.fromkeys(owners):
                own = [each for each, owner in zip(tokens, owners, strict=True) if owner == i]
                encoded[i][modality] = np.mean(own, axis=0)
        return encoded

    def _encode_rows(self, modality: Modality, rows: Sequence[Arrays]) -> list[Floats]:
        """Return the tokens (N, D) of each row."""
        tokens: dict[int, Floats] = {}
        shapes = [tuple(array.shape for array in row.values()) for row in rows]
        costs = [self._cost.row(modality, row) for row in rows]
        for alike in self._alike(shapes, costs):
            encoded = self._backend.encode(modality, stack([rows[i] for i in alike]))
            tokens.update(zip(alike, encoded, strict=True))
        return [tokens[i] for i in range(len(rows))]

    def _sequence(self, case: Mapping[Modality, Floats], subset: Subset) -> Floats:
        """Lay the tokens of the chosen modalities side by side, in canonical order: (N, D)."""
        chosen = [case[each] for each in Modality if each in subset]
        return np.concatenate([np.empty((0, self._width), np.float32), *chosen])

    def _fuse(self, sequences: Sequence[Floats]) -> list[tuple[Floats, Floats]]:
        """Return output (C,) and embedding (D,) of each sequence (N, D)."""
        fused: dict[int, tuple[Floats, Floats]] = {}
        lengths = [len(each) for each in sequences]
        for alike in self._alike(lengths, lengths):
            tokens = np.stack([sequences[i] for i in alike])
            outputs = self._backend.fuse(tokens, np.ones(tokens.shape[:2], np.bool_))
            fused.update(zip(alike, zip(*outputs, strict=True), strict=True))
        return [fused[i] for i in range(len(sequences))]

    def _alike(self, keys: Sequence[Hashable], costs: Sequence[int]) -> Iterator[list[int]]:
        """Yield positions of equal keys, no more at once than the budget allows, at least one."""
        groups: dict[Hashable, list[int]] = {}
        for i, key in enumerate(keys):
            groups.setdefault(key, []).append(i)
        for group in groups.values():
            size = max(1, self._budget // max(1, *(costs[i] for i in group)))
            for start in range(0, len(group), size):
                yield group[start : start + size]
