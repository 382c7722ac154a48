"""The order of training: a pure function of seed and epoch, whatever machines run it.

An epoch is dealt out to steps of `batch_size` cases of like length. A step is cut into
micro-batches that each fit a device, and the processes take these in turn, one a round:

    step 7        ┌ round 0 ┐ ┌ round 1 ┐
    micro-batch    0    1      2    3         two processes: process 0 takes 0 and 2
    process        0    1      0    1

Masks and dropout are drawn with a seed of the micro-batch's own, so that a run is at any time
known by the number of its step alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lanistr.modalities import Modality

_POOL = 16
"""Steps whose cases are sorted by length together: enough to pad little, few enough to mix."""

Positions = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """What one process computes at once.

    Attributes:
        step: number of the step, from 0.
        epoch: from 0.
        positions: of the cases in the data set.
        seed: of masks, dropout and augmentation.
        weight: share of the step's cases; 0 for a case that is only there for company, where a
            step has fewer cases than there are processes.
        shares: by modality, the share of what all cases of the step bring of it.
        row_shares: the same by rows, where `shares` may go by tokens.
        compared: share of the fused tokens of the step that SimMMM compares.
        company: modalities that another process brings in this round. All processes have to run
            the same modules, so one that lacks a modality runs it over an empty row.
        last: the process's last micro-batch of the step.
    """

    step: int
    epoch: int
    positions: Positions
    seed: int
    weight: float
    shares: Mapping[Modality, float]
    row_shares: Mapping[Modality, float]
    compared: float = 0.0
    company: frozenset[Modality] = frozenset()
    last: bool = True


@dataclass(frozen=True)
class Curriculum:
    """The steps of a run, as this process takes part in them.

    Attributes:
        positions: the cases to learn from.
        amounts: by modality, how much of it each case of the data set brings: rows, or tokens
            where rows differ in length.
        batch_size: cases a step, over all processes.
        seed: of the run.
        lengths: tokens of text of every case of the data set, by which cases are grouped.
        costs: tokens that every case of the data set brings besides.
        rows: as `amounts`, but rows whatever their length; None where these are rows.
        compared: fused tokens of every case of the data set that SimMMM compares; None without it.
        budget: most tokens of a micro-batch, padding counted; a case of more by itself is one
            alone. None for as many as there are.
        processes: number of processes.
        process: number of this one.
    """

    positions: Positions
    amounts: Mapping[Modality, NDArray[Any]]
    batch_size: int
    seed: int
    lengths: NDArray[Any]
    costs: NDArray[Any] | None = None
    rows: Mapping[Modality, NDArray[Any]] | None = None
    compared: NDArray[Any] | None = None
    budget: int | None = None
    processes: int = 1
    process: int = 0
    _epoch: dict[int, list[Positions]] = field(default_factory=dict, compare=False)

    @property
    def steps_per_epoch(self) -> int:
        """Number of steps of an epoch; the last may be smaller than the others."""
        return -(-len(self.positions) // self.batch_size)

    def walk(self, start: int, stop: int) -> Iterator[MicroBatch]:
        """Yield this process's micro-batches from step `start` up to, but without, `stop`."""
        for step in range(start, stop):
            for turn in self.rounds(step):
                yield turn[self.process]

    def rounds(self, step: int) -> list[list[MicroBatch]]:
        """Return the micro-batches of a step: by round, then by process."""
        epoch, place = divmod(step, self.steps_per_epoch)
        if epoch not in self._epoch:
            self._epoch.clear()
            self._epoch[epoch] = deal(
                self.positions, self.lengths, self.batch_size, seed=self.seed, epoch=epoch
            )
        cases = self._epoch[epoch][place]
        parts = self._cut(cases)
        idle = -len(parts) % self.processes
        shares = _shares(self.amounts, parts)
        row_shares = shares if self.rows is None else _shares(self.rows, parts)
        compared = [0 if self.compared is None else self.compared[part].sum() for part in parts]
        micro = [
            MicroBatch(
                step=step,
                epoch=epoch,
                positions=part,
                seed=_mix(self.seed, step, number),
                weight=len(part) / len(cases),
                shares=shares[number],
                row_shares=row_shares[number],
                compared=float(tokens) / max(float(sum(compared)), 1.0),
            )
            for number, (part, tokens) in enumerate(zip(parts, compared, strict=True))
        ]
        nothing = dict.fromkeys(micro[0].shares, 0.0)
        seed = _mix(self.seed, step, len(micro))
        micro += [MicroBatch(step, epoch, cases[:1], seed, 0.0, nothing, nothing)] * idle
        return self._in_company(micro)

    def _cut(self, cases: Positions) -> list[Positions]:
        """Cut a step into the fewest micro-batches of about equally many cases that fit.

        Their number is a power of two, so that 1, 2, 4 and 8 processes cut alike, unless that
        leaves a process without any.
        """
        wanted = 1
        while True:
            number = -(-wanted // self.processes) * self.processes
            parts = np.array_split(cases, min(number, len(cases)))
            if all(len(each) == 1 or self._fits(each) for each in parts):
                return parts
            wanted *= 2

    def _fits(self, cases: Positions) -> bool:
        """Whether cases keep to the budget, each with as many words as the longest."""
        if self.budget is None:
            return True
        tokens = len(cases) * int(self.lengths[cases].max())
        tokens += 0 if self.costs is None else int(self.costs[cases].sum())
        return tokens <= self.budget

    def _in_company(self, micro: Sequence[MicroBatch]) -> list[list[MicroBatch]]:
        """Deal micro-batches out and tell each what the others of its round bring.

        The last round is that in which gradients are exchanged: there every process runs whatever
        was brought in any round.
        """
        turns = [micro[i : i + self.processes] for i in range(0, len(micro), self.processes)]
        if self.processes == 1:
            return [[replace(each[0], last=each is turns[-1])] for each in turns]
        brought = [
            frozenset(
                m for m, amount in self.amounts.items() for p in turn if amount[p.positions].any()
            )
            for turn in turns
        ]
        brought[-1] = frozenset().union(*brought)
        return [
            [replace(each, company=company, last=turn is turns[-1]) for each in turn]
            for turn, company in zip(turns, brought, strict=True)
        ]


def _shares(
    amounts: Mapping[Modality, NDArray[Any]], parts: Sequence[Positions]
) -> list[dict[Modality, float]]:
    """Return each part's share of what all bring, by modality; none of what nobody brings."""
    brought = {m: [int(amount[part].sum()) for part in parts] for m, amount in amounts.items()}
    return [
        {m: each[number] / sum(each) for m, each in brought.items() if any(each)}
        for number in range(len(parts))
    ]


def deal(
    positions: Positions, lengths: NDArray[Any], batch_size: int, *, seed: int, epoch: int
) -> list[Positions]:
    """Deal the cases of an epoch out to steps; each stands in exactly one.

    Args:
        positions: the cases.
        lengths: of every case of the data set, by position.
        batch_size: cases a step; the last dealt may have fewer.
        seed: of the run.
        epoch: from 0.
    """
    rng = np.random.default_rng([seed, epoch])
    shuffled = rng.permutation(positions)
    steps: list[Positions] = []
    for start in range(0, len(shuffled), _POOL * batch_size):
        pool = shuffled[start : start + _POOL * batch_size]
        found = lengths[pool]
        if found.any():
            # A case without text fits any step; a step of such cases alone would teach no words.
            found = np.where(found > 0, found, rng.choice(found[found > 0], len(pool)))
        pool = pool[np.argsort(found, kind="stable")]
        steps += [pool[i : i + batch_size] for i in range(0, len(pool), batch_size)]
    return [steps[i] for i in rng.permutation(len(steps))]


def in_order(positions: Sequence[int] | Positions, batch_size: int) -> list[Positions]:
    """Cut the cases into batches as they stand: for evaluation, which keeps every case."""
    array = np.asarray(positions, dtype=np.int64)
    return [array[i : i + batch_size] for i in range(0, len(array), batch_size)]


def _mix(*numbers: int) -> int:
    """Return a seed of 63 bits; like numbers give unlike seeds."""
    state = np.random.SeedSequence(numbers).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))
