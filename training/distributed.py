"""The processes that a run is shared by, and what is put around the model for them.

`torchrun` starts the processes and tells each who it is; without it there is one.
"""

import atexit
import gc
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from lanistr.model.checkpoint import StoredConfig, weights, write_pretrained
from lanistr.model.lanistr import ForPretraining, Lanistr
from training.arguments import choose_device
from training.recipe import RuntimeConfig

T = TypeVar("T")

_OVER: list[Any] = []
"""Process groups that have ended, held until `_let_go`."""

_PATIENCE = timedelta(hours=2)
"""How long processes wait for one another: the first encodes what the others then read."""


@dataclass(frozen=True, slots=True)
class World:
    """The processes of a run.

    Attributes:
        device: of this process.
        processes: how many there are.
        process: the number of this one; 0 writes files and speaks.
    """

    device: torch.device
    processes: int = 1
    process: int = 0

    @property
    def leads(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.process == 0

    def wait(self) -> None:
        """Wait until every process is here."""
        if self.processes > 1:
            dist.barrier()

    def add(self, values: Tensor) -> Tensor:
        """Return the sum of a tensor over all processes."""
        if self.processes > 1:
            dist.all_reduce(values)
        return values

    def gather(self, value: T) -> list[T]:
        """Return every process's value, in order of process."""
        if self.processes == 1:
            return [value]
        values: list[Any] = [None] * self.processes
        dist.all_gather_object(values, value)
        return values

    def align(self, model: nn.Module) -> None:
        """Give every process the leading one's buffers: each has batch statistics of its own."""
        if self.processes > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, src=0)

    def share(self, make: Callable[[], T]) -> T:
        """Have the leading process make something that the others then get a copy of.

        Raises:
            Exception: what `make` raised, in every process.
        """
        if self.processes == 1:
            return make()
        held: list[Any] = [None, None]
        if self.leads:
            try:
                held = [make(), None]
            except Exception as exc:  # handed on: the others would wait for ever
                held = [None, exc]
        dist.broadcast_object_list(held, src=0)
        value, error = held
        if error is not None:
            raise error
        return value


@contextmanager
def joined(device: str) -> Iterator[World]:
    """Join the processes that `torchrun` started, or be alone, for the length of a block.

    Args:
        device: as on the command line; auto takes the GPU of the process's own number.
    """
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if processes == 1:
        yield World(choose_device(device))
        return
    if device == "auto" and torch.cuda.is_available():
        device = f"cuda:{os.environ['LOCAL_RANK']}"
    own = choose_device(device)
    if own.type == "cuda":
        torch.cuda.set_device(own)
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if own.type == "cuda" else "gloo", timeout=_PATIENCE
    )
    try:
        world = World(own, processes, dist.get_rank())
        yield world
        world.wait()  # nobody leaves while another still listens
    finally:
        _OVER.append(dist.group.WORLD)
        dist.destroy_process_group()


@atexit.register
def _let_go() -> None:
    """Join the threads of the process groups that have ended, after all that used them.

    The last to let go of a group joins its threads, which may be waiting for Python's lock. A DDP
    model would hold that lock and wait for ever; Python, once it has begun to end, would kill the
    threads where they wait and itself with them. This list is neither.
    """
    gc.collect()
    _OVER.clear()


# ---- around the model ---------------------------------------------------------------------------


def parallelize(model: nn.Module, runtime: RuntimeConfig, world: World) -> nn.Module:
    """Make a model that stands on the process's device run as its settings say.

    Args:
        model: changed in place; its blocks are what `blocks` names.
        runtime: compilation, activation checkpointing, strategy.
        world: the processes.

    Returns:
        what to call in the model's place.
    """
    for block in blocks(model):
        run: Callable[..., Any] = block.forward
        if runtime.compile:
            run = torch.compile(run)
        if runtime.checkpoint_activations:
            run = partial(checkpoint, run, use_reentrant=False)
        block.forward = run
    if world.processes == 1:
        return model
    if runtime.strategy == "fsdp":
        mesh = init_device_mesh(world.device.type, (world.processes,))
        frozen = {each for each in model.parameters() if not each.requires_grad}
        for block in blocks(model):
            if not frozen.issuperset(block.parameters()):
                fully_shard(block, mesh=mesh, ignored_params=frozen)
        fully_shard(model, mesh=mesh, ignored_params=frozen)
        return model
    # A step may leave a modality out altogether; its weights then take no part.
    return DistributedDataParallel(
        model,
        device_ids=[world.device] if world.device.type == "cuda" else None,
        broadcast_buffers=False,  # each has batch statistics of its own, see `World.align`
        find_unused_parameters=True,
        gradient_as_bucket_view=True,
    )


def blocks(model: nn.Module) -> list[nn.Module]:
    """Return the Transformer layers of a model: every member of a list named `blocks`."""
    found: list[nn.Module] = []
    for module in model.modules():
        found += getattr(module, "blocks", ())
    return found


def accumulating(run: nn.Module, exchanges: bool) -> AbstractContextManager[Any]:
    """Say, around forward and backward, whether gradients are exchanged between processes now."""
    if isinstance(run, FSDPModule):
        run.set_requires_gradient_sync(exchanges)
    elif isinstance(run, DistributedDataParallel) and not exchanges:
        return run.no_sync()
    return nullcontext()


def whole(tensor: Tensor) -> Tensor:
    """Return a tensor that may be spread over processes, whole; all must call this together."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def whole_weights(model: nn.Module) -> dict[str, Tensor]:
    """Return what of a model is stored, whole, on the CPU; all processes must call this."""
    return {name: whole(each.detach()).cpu() for name, each in weights(model).items()}


def save_whole(
    learned: Mapping[str, Tensor],
    model: Lanistr | ForPretraining,
    folder: Path,
    world: World,
) -> None:
    """Write a model's whole weights into a folder that all processes then find it in."""
    if world.leads:
        kind = type(model).__name__.removeprefix("FSDP")  # the class that sharding puts on top
        write_pretrained(StoredConfig(model=kind, config=model.config), learned, folder)
    world.wait()


def clip_gradients(parameters: Sequence[nn.Parameter], largest: float) -> Tensor:
    """Scale all gradients down so that their norm is at most `largest`; return the norm."""
    return whole(nn.utils.clip_grad_norm_(parameters, largest))
