"""The loader alone: how many cases a second it reads, and whether its processes grow."""

import multiprocessing
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.pace import figure
from benchmarks.pretraining_step import NOTES
from benchmarks.records import prepare_records
from benchmarks.sizes import Size
from lanistr.tasks import find_task
from training.data.codecs import Augmentation
from training.data.loader import Loaded, load
from training.data.sampler import Curriculum
from training.data.store import Dataset

WORKERS = (0, 1, 2)
_VARIED = Augmentation(crop=0.8, flip=0.5)
_LOOKS = 4


def measure_loader(size: Size, *, repetitions: int, work: Path) -> dict[str, Any]:
    """Read complete stays: notes, JPEG pictures varied by crop and flip, rows and series.

    Args:
        size: of texts, pictures and data.
        repetitions: epochs for each number of workers, by turns.
        work: a folder for data.

    Returns:
        samples a second by number of workers, from the first batch on; and the memory of a worker,
        in MB, after each quarter of several epochs: what it has written for itself (Private_Dirty
        of /proc/PID/smaps_rollup). The mapped files, which it shares with all and the system may
        drop, are not in it. Empty where there is no such file.
    """
    folder = prepare_records(work / "loader", find_task("mortality"), size, size.read, NOTES).folder
    dataset = Dataset.open(folder, _VARIED)
    found: dict[int, list[float]] = {workers: [] for workers in WORKERS}
    for repetition in range(1 + repetitions):
        for workers in WORKERS:
            rate = _rate(_read(dataset, size, workers, epochs=2))
            if repetition:
                found[workers].append(rate)
    return {
        "cases": len(dataset.rows("train")),
        "mean_tokens": float(dataset.tokens.mean()),
        "samples_per_second": {str(w): figure(each) for w, each in found.items()},
        "worker_mb": _memory(dataset, size),
    }


def _curriculum(dataset: Dataset, size: Size) -> Curriculum:
    return Curriculum(
        positions=dataset.rows("train"),
        amounts=dataset.amounts,
        batch_size=size.batch,
        seed=0,
        lengths=dataset.tokens,
    )


def _read(dataset: Dataset, size: Size, workers: int, epochs: int) -> Iterator[Loaded]:
    curriculum = _curriculum(dataset, size)
    steps = epochs * curriculum.steps_per_epoch
    return load(dataset, curriculum.walk(0, steps), workers=workers)


def _rate(loaded: Iterator[Loaded]) -> float:
    """Return cases a second after the first batch, for which the workers had to start."""
    next(loaded)
    started = time.perf_counter()
    cases = sum(each.batch.size for each in loaded)
    return cases / (time.perf_counter() - started)


def _memory(dataset: Dataset, size: Size) -> list[float]:
    steps = size.passes * _curriculum(dataset, size).steps_per_epoch
    looks = {steps * (look + 1) // _LOOKS - 1 for look in range(_LOOKS)}
    found: list[float] = []
    others = {each.pid for each in multiprocessing.active_children()}
    for step, _ in enumerate(_read(dataset, size, workers=1, epochs=size.passes)):
        if step not in looks:
            continue
        for each in multiprocessing.active_children():
            path = Path(f"/proc/{each.pid}/smaps_rollup")
            if each.pid not in others and path.is_file():
                found.append(_private(path.read_text(encoding="utf-8")) / 1024)
    return found


def _private(smaps: str) -> int:
    """Return the kB that a process has written for itself."""
    lines = (line.split() for line in smaps.splitlines())
    return sum(int(line[1]) for line in lines if line[0] == "Private_Dirty:")
