"""Our own commands as jobs that make folders: in order, side by side, and none twice.

A job's folder is called by a hash of its command too, so that tables share what they have in
common, what was interrupted goes on, and what was made with other settings, or from such, is never
taken for it.
"""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from graphlib import TopologicalSorter
from pathlib import Path
from queue import SimpleQueue
from typing import Self

from lanistr.errors import CheckpointError, LanistrError
from lanistr.model.hub import InitialWeights, files_here
from training.baselines import REPORT
from training.data.store import DATASET, file_hash
from training.outputs import outputs_file
from training.recipe import FinetuneRecipe, PretrainRecipe, load_recipe
from training.run import Run

LOGS = "logs"


@dataclass(frozen=True)
class Job:
    """A command that makes a folder.

    Attributes:
        name: how the folder's name begins.
        command: the module and its arguments, but for `--out` and `--device`. A path means what
            stands there, see `folder_name`; a job means the folder that it makes.
        on_device: whether the command takes `--device`.
        judged_on: data on whose test split the run is evaluated when it is finished; None for what
            is not evaluated, or writes its own report.
        recipe: as resolved, where the command takes one: it may read otherwise one day.
    """

    name: str
    command: tuple[object, ...]
    on_device: bool = True
    judged_on: Path | None = None
    recipe: str = ""

    @property
    def needs(self) -> list[Self]:
        """The jobs whose folders it reads."""
        return [each for each in self.command if isinstance(each, type(self))]

    @cached_property
    def folder(self) -> str:
        """Name of the folder, below that of all runs."""
        words = [each.folder if isinstance(each, Job) else each for each in self.command]
        return folder_name(self.name, [*words, self.recipe, *weights_behind(self.recipe)])

    def done(self, work: Path) -> bool:
        """Whether nothing is left to do: for a run that is judged only whether it was counts."""
        there = work / self.folder
        return finished(there) if self.judged_on is None else judged(there, self.judged_on)


def recipe_of(command: Sequence[object]) -> str:
    """Return the recipe of a training as resolved, as JSON; "" of a command that takes none.

    Raises:
        ConfigError: a key or value is wrong.
    """
    words = [str(each) for each in command]
    if words[0] not in ("training.pretrain", "training.finetune"):
        return ""
    name = words[words.index("--recipe") + 1]
    given = [each for at, each in enumerate(words[1:]) if words[at] == "--set"]
    if words[0] == "training.pretrain":
        return load_recipe(name, "pretrain", PretrainRecipe, given).model_dump_json()
    return load_recipe(name, "finetune", FinetuneRecipe, given).model_dump_json()


def overrides(settings: Sequence[str]) -> list[str]:
    """Return the words of the command line that change a recipe."""
    return [word for setting in settings for word in ("--set", setting)]


def weights_behind(recipe: str) -> list[str]:
    """Return name and sha256 of the files in folders that a recipe's model is to start from.

    Args:
        recipe: see `recipe_of`.

    Raises:
        CheckpointError: a folder that it names is not there.
    """
    if not recipe:
        return []
    files = files_here(InitialWeights.model_validate(json.loads(recipe)["init"]))
    states = ((file, file.stat()) for file in files)
    return [f"{file.name} {_hash(file, at.st_mtime_ns, at.st_size)}" for file, at in states]


@cache
def _hash(file: Path, changed: int, size: int) -> str:
    """Return the sha256 of a large file, which many jobs name, as it is now."""
    return file_hash(file)


def folder_name(name: str, command: Iterable[object], work: Path | None = None) -> str:
    """Return a name for what a command makes: with other settings it has another.

    Args:
        name: how it begins.
        command: module and arguments. Of a data set or a file the content counts; of another
            folder its path: below `work`, so that this can be moved.
        work: where what commands make stands.
    """
    settings = json.dumps([_meaning(word, work) for word in command])
    return f"{name}-{hashlib.sha256(settings.encode()).hexdigest()[:8]}"


def _meaning(word: object, work: Path | None) -> str:
    if not isinstance(word, Path):
        return str(word)
    for file in (word, word / DATASET):
        if file.is_file():
            return file_hash(file)
    return str(word.relative_to(work) if work and word.is_relative_to(work) else word.resolve())


def finished(folder: Path) -> bool:
    """Whether a command came to its end there: a data set, a run, or a report of another method."""
    if (folder / DATASET).is_file():  # a data set appears as a whole
        return True
    try:
        Run.open(folder)
    except CheckpointError:
        # What has a report and is no run was written as a whole.
        return (folder / REPORT).is_file() and not (folder / "config.json").is_file()
    return True


def judged(folder: Path, data: Path) -> bool:
    """Whether a run was evaluated on the test split of these data, last."""
    try:
        about = json.loads((folder / REPORT).read_bytes()).get("about", {})
    except (OSError, ValueError):
        return False
    stored = (folder / outputs_file("test")).is_file()
    return stored and about.get("data_hash") == file_hash(data / DATASET)


class Workshop:
    """Where jobs are done, one a device at a time.

    Args:
        work: where their folders stand.
        devices: as `--device` takes them; one that is named twice does two jobs at a time.
        say: gets a line whenever something begins or ends.
    """

    def __init__(self, work: Path, devices: Sequence[str], say: Callable[[str], None]) -> None:
        self.work = work
        self.say = say
        self._devices = devices
        self._free: SimpleQueue[str] = SimpleQueue()
        for each in devices:
            self._free.put(each)
        self._running: set[subprocess.Popen[bytes]] = set()
        self._closed = threading.Event()

    def do(self, jobs: Iterable[Job]) -> dict[Job, str]:
        """Do jobs and what they need, as far as it was not done before.

        One that fails keeps nobody waiting but those that need it.

        Returns:
            why, for each that is not done.
        """
        failed: dict[Job, str] = {}
        missing = self._missing(jobs)
        order = TopologicalSorter(missing)
        order.prepare()
        count = 0
        pool = ThreadPoolExecutor(len(self._devices))
        running: dict[Future[None], Job] = {}
        try:
            while order.is_active():
                for job in order.get_ready():
                    lacking = [each for each in job.needs if each in failed]
                    if lacking:
                        failed[job] = f"needs {lacking[0].folder}, which failed"
                        order.done(job)
                    else:
                        running[pool.submit(self._do, job)] = job
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    job = running.pop(future)
                    count += 1
                    try:
                        future.result()
                    except LanistrError as exc:
                        failed[job] = str(exc)
                        self.say(f"{count}/{len(missing)} {job.folder} FAILED: {exc}")
                    else:
                        self.say(f"{count}/{len(missing)} {job.folder}")
                    order.done(job)
        finally:
            self._closed.set()
            for each in list(self._running):
                each.terminate()
            pool.shutdown(cancel_futures=True)
        return failed

    def _missing(self, jobs: Iterable[Job]) -> dict[Job, list[Job]]:
        """Return what each job that is not done needs of such, for the jobs and all they need."""
        found: dict[Job, list[Job]] = {}
        waiting = list(jobs)
        while waiting:
            job = waiting.pop(0)
            if job not in found and not job.done(self.work):
                found[job] = [each for each in job.needs if not each.done(self.work)]
                waiting += found[job]
        return found

    def _do(self, job: Job) -> None:
        """Make the folder of a job and, if it is judged, its report.

        Raises:
            LanistrError: a command failed.
        """
        out = self.work / job.folder
        with self._device() as device:
            on = ["--device", device] if job.on_device else []
            if not finished(out):
                words = [self.work / e.folder if isinstance(e, Job) else e for e in job.command]
                self._call(job, [*words, *on, "--out", out])
            if job.judged_on is not None and not judged(out, job.judged_on):
                data = ("--data", job.judged_on)
                self._call(job, ["training.evaluate", "--run", out, *data, *on])

    @contextmanager
    def _device(self) -> Iterator[str]:
        device = self._free.get()
        try:
            yield device
        finally:
            self._free.put(device)

    def _call(self, job: Job, command: Sequence[object]) -> None:
        words = [sys.executable, "-m", *map(str, command)]
        log = self.work / LOGS / f"{job.folder}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        threads = max(1, (os.cpu_count() or 1) // len(self._devices))
        env = {"OMP_NUM_THREADS": str(threads)} | os.environ
        with log.open("ab") as lines:
            lines.write(f"$ python {' '.join(words[1:])}\n".encode())
            lines.flush()
            if self._closed.is_set():
                return
            with subprocess.Popen(words, stdout=lines, stderr=lines, env=env) as process:
                self._running.add(process)
                code = process.wait()
                self._running.discard(process)
        if code:
            last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1]
            raise LanistrError(
                f"exit code {code}; its output is in {log}",
                code="failed_command",
                field=f"python -m {command[0]}",
                seen=last[:300],
            )
