"""The training loop: steps, what is logged of each, and the state that survives an interruption."""

import json
import logging
import math
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tensorboard.compat.proto.summary_pb2 import Summary
from torch import Generator, Tensor
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from lanistr.errors import LanistrError
from lanistr.model.lanistr import ForPretraining, Lanistr
from lanistr.model.pretraining import LanistrForPretraining
from training.checkpoint import Checkpoints
from training.data.loader import Loaded, load
from training.data.sampler import Curriculum, MicroBatch
from training.data.store import Dataset, EncodedRows
from training.distributed import World, accumulating, clip_gradients
from training.flops import matmul_rate, step_flops
from training.objectives import Objective
from training.optim import make_optimizer, rate_factor, set_rates
from training.recipe import Recipe
from training.run import LOG, Run

log = logging.getLogger(__name__)

TENSORBOARD = "tensorboard"


class NonFiniteLossError(LanistrError):
    """A loss, its gradient or an output is NaN or infinite; training cannot go on from there."""


class StepLog:
    """`log.jsonl`: one object a line, and the same figures for TensorBoard.

    Args:
        folder: of the run.
        size: bytes of the log to keep, of a run that goes on; what was written after is undone.
        step: the first that will be logged.
    """

    def __init__(self, folder: Path, size: int = 0, step: int = 0) -> None:
        self.path = folder / LOG
        self.path.touch()
        there = self.path.stat().st_size
        if there < size:
            warning = "%s has lost %d bytes: some steps before step %d are missing from it"
            log.warning(warning, self.path, size - there, step)
        os.truncate(self.path, min(size, there))
        self._board = SummaryWriter(str(folder / TENSORBOARD), purge_step=step)

    def write(self, *, after: int, **entry: Any) -> None:
        """Append one object, written when this returns; `after` is the step for TensorBoard."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry, allow_nan=False) + "\n")
        values = [Summary.Value(tag=n, simple_value=v) for n, v in _figures(entry)]
        # All in one: for each that it is handed, the board's writing thread has to be woken.
        self._board._get_file_writer().add_summary(Summary(value=values), after)

    def size(self) -> int:
        """Return the bytes written so far, when they are on the disk."""
        with self.path.open("rb") as file:
            os.fsync(file.fileno())
        self._board.flush()
        return self.path.stat().st_size

    def close(self) -> None:
        """Close what is open."""
        self._board.close()


class Trainer:
    """Takes the steps of a run.

    Args:
        objective: what is minimised, with the model as it runs in `objective.run`.
        dataset: where the cases stand.
        positions: the cases to learn from.
        recipe: everything that was chosen.
        run: the folder.
        world: the processes.
        encoded: outputs of frozen encoders.

    Attributes:
        step: steps taken.
        steps: steps in all.
        progress: what the caller has to know to go on; stored with every checkpoint.
    """

    def __init__(
        self,
        objective: Objective,
        dataset: Dataset,
        positions: Any,
        *,
        recipe: Recipe,
        run: Run,
        world: World,
        encoded: EncodedRows | None = None,
    ) -> None:
        self.objective = objective
        self.dataset = dataset
        self.recipe = recipe
        self.run = run
        self.world = world
        self.encoded = encoded
        self.curriculum = Curriculum(
            positions=positions,
            amounts=dataset.amounts,
            rows={each: dataset.row_counts(each) for each in dataset.amounts},
            batch_size=recipe.optim.batch_size,
            seed=recipe.seed,
            lengths=dataset.tokens,
            costs=_costs(dataset, objective.model),
            compared=_compared(dataset, objective.model),
            budget=recipe.runtime.tokens,
            processes=world.processes,
            process=world.process,
        )
        self.steps = recipe.optim.epochs * self.curriculum.steps_per_epoch
        self.optimizer = make_optimizer(objective.model, recipe.optim)
        self.parameters = [each for each in objective.model.parameters() if each.requires_grad]
        self.generator = Generator(world.device)
        self.hiding = Generator()
        self.dtype = number_type(recipe, world.device)
        self.rate = matmul_rate(world.device, self.dtype)
        self.checkpoints = Checkpoints(run.folder, recipe.checkpoints.keep)
        stored = self.checkpoints.restore(objective.model, self.optimizer, world) or {}
        self.step: int = stored.get("step", 0)
        self.progress: dict[str, Any] = stored.get("progress", {})
        self.log: StepLog | None = None
        if world.leads:
            self.log = StepLog(run.folder, stored.get("log", 0), self.step)

    @property
    def stored(self) -> list[int]:
        """Numbers of steps after which the state was stored, and still is."""
        return self.checkpoints.steps()

    def passes(self, step: int, every: float) -> bool:
        """Whether so many epochs, or a share of one, are over once more with a step, or all are."""
        interval = every * self.curriculum.steps_per_epoch
        # A third of nine steps is 3 but for rounding.
        before, now = (math.floor(taken / interval + 1e-9) for taken in (step, step + 1))
        return now > before or step + 1 == self.steps

    def epoch_over(self, step: int) -> float:
        """Return the number, from 0, of the epoch that is over with a step.

        0.5 is half an epoch after the end of the first, and -0.5 half an epoch before it.
        """
        epochs, rest = divmod(step + 1, self.curriculum.steps_per_epoch)
        over = round(epochs - 1 + rest / self.curriculum.steps_per_epoch, 3)
        return over if rest else epochs - 1

    def epoch(self, step: int) -> int:
        """Return the epoch of a step."""
        return step // self.curriculum.steps_per_epoch

    def walk(self) -> Iterator[int]:
        """Take the steps that are left; yield the number of each when it is done.

        What the caller does then counts as part of the step: it comes before its checkpoint.

        Raises:
            NonFiniteLossError: naming the cases.
            CheckpointError: the disk takes no more.
            SystemExit: 143, after a checkpoint, when the system asks the run to end (SIGTERM).
        """
        loaded = load(
            self.dataset,
            self.curriculum.walk(self.step, self.steps),
            workers=self.recipe.runtime.workers,
            encoded=self.encoded,
            pin=self.world.device.type == "cuda",
        )
        bar = tqdm(
            desc="training",
            unit=" steps",
            initial=self.step,
            total=self.steps,
            disable=None if self.world.leads else True,
        )
        with bar, _asked_to_end() as asked:
            while self.step < self.steps:
                ending = self._take(loaded, bar, bool(asked))
                self.step += 1
                yield self.step - 1
                done = self.step == self.steps
                if ending or done or self.step % self.recipe.checkpoints.every == 0:
                    self.store()
                if ending and not done:
                    if self.world.leads:
                        print(
                            f"stopped on request: saved after {self.step} of {self.steps} steps; "
                            "repeat the command to resume",
                            file=sys.stderr,
                        )
                    sys.exit(128 + signal.SIGTERM)

    def store(self) -> None:
        """Write a checkpoint now."""
        size = self.log.size() if self.log else 0
        state = {"step": self.step, "log": size, "progress": self.progress}
        self.checkpoints.save(self.objective.model, self.optimizer, state, self.world)

    def close(self) -> None:
        """End a run that is done."""
        if self.log:
            self.log.close()
            self.run.close()

    def note(self, **entry: Any) -> None:
        """Log what is not a step, such as a validation."""
        if self.log:
            self.log.write(after=self.step, **entry)

    def _take(self, loaded: Iterator[Loaded], bar: "tqdm[Any]", asked: bool) -> bool:
        """Take a step; return whether any process was asked to end."""
        started = time.perf_counter()
        optim, device, names = self.recipe.optim, self.world.device, self.objective.losses
        factor = rate_factor(optim, self.step, self.steps, self.progress.get("halvings", 0))
        set_rates(self.optimizer, factor)
        if not self.objective.model.training:  # to say it walks through every module
            self.objective.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        self.objective.begin(self.step / self.curriculum.steps_per_epoch)
        sums = torch.zeros(2 * len(names) + 1, dtype=torch.float64, device=device)
        counts = torch.zeros(4, dtype=torch.float64)
        seen: list[tuple[Tensor, Sequence[str]]] = []
        for each in loaded:
            part = each.part
            batch = self.objective.shown(each.batch, self.hiding.manual_seed(_mask_seed(part)))
            loss, named = self._run(batch.to(device), part)
            seen.append((loss.detach(), each.ids))
            sums[-1] += loss.detach()
            for place, name in enumerate(names):
                if name in named:
                    sums[place] += named[name]
                    sums[len(names) + place] = 1
            if part.weight:
                counts += torch.tensor(
                    [
                        each.batch.size,
                        int(self.dataset.tokens[part.positions].sum()),
                        step_flops(self.objective.model, batch),
                        0,
                    ],
                    dtype=torch.float64,
                )
            if part.last:
                break
        counts[-1] = asked
        total_norm = clip_gradients(self.parameters, optim.clip).to(device, torch.float64)
        added = self.world.add(torch.cat([sums, counts.to(device)]))
        # Read together: the device is waited for once a step.
        *total, norm = torch.cat([added, total_norm.reshape(1)]).tolist()
        value = total[2 * len(names)]
        losses = {n: total[i] for i, n in enumerate(names) if total[len(names) + i]}
        if not (math.isfinite(value) and math.isfinite(norm)):
            self._refuse(value, norm, losses, seen)
        self.optimizer.step()
        self.objective.end(self.world)
        seconds = time.perf_counter() - started
        cases, tokens, flops, ending = total[-4:]
        entry = {
            "step": self.step,
            "epoch": self.epoch(self.step),
            "loss": value,
            "losses": losses,
            "lr": optim.lr * factor,
            "gradient_norm": norm,
            "samples_per_second": round(cases / seconds, 2),
            "tokens_per_second": round(tokens / seconds, 1),
            "mfu": round(flops / seconds / (self.rate * self.world.processes), 4),
        }
        if self.log:
            self.log.write(after=self.step, **entry)
        bar.update()
        bar.set_postfix(loss=f"{value:.4f}", samples_per_s=entry["samples_per_second"])
        return bool(ending)

    def _run(self, batch: Any, part: MicroBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Run forward and backward over a micro-batch; gradients add up."""
        _seed_dropout(part.seed, self.world.device)
        self.generator.manual_seed(_mask_seed(part))
        with accumulating(self.objective.run, part.last):
            with torch.autocast(
                self.world.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16
            ):
                loss, named = self.objective(batch, part, self.generator)
            # Gradients are averaged over processes; the loss is a sum over them.
            (loss * self.world.processes).backward()
        return loss, named

    def _refuse(
        self,
        value: float,
        norm: float,
        losses: dict[str, float],
        seen: list[tuple[Tensor, Sequence[str]]],
    ) -> None:
        """Stop the run, naming the cases of the micro-batches at fault, or all of the step's."""
        at_fault = [i for loss, ids in seen if not bool(loss.isfinite()) for i in ids]
        mine = at_fault, [i for _, ids in seen for i in ids]
        faulty, all_cases = zip(*self.world.gather(mine), strict=True)
        ids = [i for each in (faulty if any(faulty) else all_cases) for i in each]
        raise NonFiniteLossError(
            f"the loss of step {self.step} is {value}, with gradient norm {norm}; losses "
            f"{losses}; cases {_some(ids)}",
            code="non_finite_loss",
            accepted="finite numbers: check these cases, or lower optim.lr",
        )


def refuse_non_finite(
    outputs: NDArray[np.float32], dataset: Dataset, rows: NDArray[np.int64]
) -> None:
    """Refuse outputs (N, C) for the cases at the positions `rows` (N,) that are not all finite.

    Raises:
        NonFiniteLossError: naming the cases.
    """
    faulty = rows[~np.isfinite(outputs).all(axis=1)].tolist()
    if faulty:
        raise NonFiniteLossError(
            "the model's outputs for validation cases are not finite: "
            + _some(dataset.ids(faulty)),
            code="non_finite_output",
            accepted="finite numbers: lower optim.lr, or check these cases",
        )


def _seed_dropout(seed: int, device: torch.device) -> None:
    """Seed what dropout draws from."""
    if device.type == "cpu":
        # `torch.manual_seed` would note for a GPU that is not in use where it was called: 4 ms.
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)


def _mask_seed(part: MicroBatch) -> int:
    """Return the seed of masks: not dropout's, as streams that start alike would draw alike."""
    return part.seed ^ 0x5EED


def _costs(dataset: Dataset, model: Lanistr | ForPretraining) -> Any:
    """Return (N,) the tokens that each case brings besides its words."""
    core = model if isinstance(model, Lanistr) else model.core
    costs = 0 * dataset.tokens
    for modality, amounts in dataset.amounts.items():
        encoder = core.encoder(modality)
        if amounts is not dataset.tokens:
            costs = costs + amounts * encoder.handed_on
    return costs


def _compared(dataset: Dataset, model: Lanistr | ForPretraining) -> Any:
    """Return (N,) the fused tokens of each case that SimMMM compares; None without it."""
    simmmm = model.config.simmmm
    if not isinstance(model, LanistrForPretraining) or simmmm is None:
        return None
    tokens, modalities = 1 + 0 * dataset.tokens, 0 * dataset.tokens
    for modality, amounts in dataset.amounts.items():
        encoder = model.core.encoder(modality)
        if simmmm.tokens == "all":
            fused = encoder.handed_on - encoder.shortcuts
            tokens = tokens + ((amounts > 0) * fused if encoder.averages else amounts)
        modalities = modalities + (amounts > 0)
    wanted = len(dataset.amounts) if simmmm.on == "parallel" else 1
    return np.where(modalities >= wanted, tokens, 0)


def number_type(recipe: Recipe, device: torch.device) -> torch.dtype:
    """Return in what numbers a recipe has a device compute: bf16 or float32."""
    wanted = recipe.runtime.precision
    if wanted == "auto":
        wanted = "bf16" if device.type == "cuda" else "fp32"
    return torch.bfloat16 if wanted == "bf16" else torch.float32


@contextmanager
def _asked_to_end() -> Iterator[list[int]]:
    """Give a list that is empty until the system asks the process to end (SIGTERM)."""
    asked: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _frame: asked.append(number))
    try:
        yield asked
    finally:
        signal.signal(signal.SIGTERM, before)


def _figures(entry: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Yield the numbers of an entry by their paths."""
    for name, value in entry.items():
        if isinstance(value, dict):
            yield from _figures(value, f"{prefix}{name}/")
        elif isinstance(value, int | float):
            yield f"{prefix}{name}", value


def _some(ids: Sequence[str]) -> str:
    return ", ".join(ids[:20]) + (f", … ({len(ids)} in all)" if len(ids) > 20 else "")
