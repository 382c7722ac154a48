"""The training loop: one epoch of steps, and what is logged of each."""

import json
import math
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Generator
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from tqdm import tqdm

from lanistr.batch import Batch
from lanistr.errors import LanistrError
from lanistr.model.tensors import to_tensors
from training.objectives import Objective


class NonFiniteLossError(LanistrError):
    """A step's loss or its gradient is NaN or infinite; training cannot go on from there."""


class StepLog:
    """`log.jsonl`: one object a line."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, **entry: Any) -> None:
        """Append one object; it is on disk when this returns, as far as the system says."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry, allow_nan=False) + "\n")


def train_epoch(
    objective: Objective,
    batches: Iterable[Batch],
    *,
    optimizer: AdamW,
    schedule: LambdaLR,
    clip: float,
    generator: Generator,
    device: torch.device,
    log: StepLog,
    epoch: int,
    step: int,
) -> int:
    """Take one step a batch and return the number of the next step.

    Raises:
        NonFiniteLossError: naming the cases of the batch.
    """
    objective.model.train()
    parameters = [each for each in objective.model.parameters() if each.requires_grad]
    started = time.perf_counter()
    for batch in tqdm(batches, desc=f"epoch {epoch}", unit=" steps", leave=False, disable=None):
        # Master weights stay float32; on a GPU the arithmetic is bf16.
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            loss, report = objective(to_tensors(batch, device), generator)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        value, norm = float(loss.detach()), float(clip_grad_norm_(parameters, clip))
        if not (math.isfinite(value) and math.isfinite(norm)):
            raise NonFiniteLossError(
                f"the loss of step {step} is {value}, its gradient's norm {norm}; losses {report}; "
                f"cases {_some(batch.ids)}",
                code="non_finite_loss",
                accepted="finite numbers: look at these cases, or lower optim.lr",
            )
        lr = schedule.get_last_lr()[0]
        optimizer.step()
        schedule.step()
        now = time.perf_counter()
        log.write(
            step=step,
            epoch=epoch,
            loss=value,
            losses=report,
            lr=lr,
            gradient_norm=norm,
            samples_per_second=round(batch.size / (now - started), 1),
        )
        started, step = now, step + 1
    return step


def _some(ids: Sequence[str]) -> str:
    return ", ".join(ids[:20]) + (f", … ({len(ids)} in all)" if len(ids) > 20 else "")
