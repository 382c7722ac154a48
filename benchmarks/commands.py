"""What the comparisons share that drive the ordinary commands, run by run and seed by seed."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lanistr.decision import LIKELIEST, Decision
from lanistr.errors import DataError, LanistrError
from lanistr.tasks import LabelSpec
from training.baselines import REPORT
from training.bootstrap import bootstrap
from training.experiments.jobs import finished, folder_name, recipe_of, weights_behind
from training.experiments.jobs import judged as reported
from training.experiments.results import interval
from training.metrics import measure

# ---- calling ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Spent:
    """What a command took.

    Attributes:
        seconds: by the clock on the wall.
        cpu: seconds of all processors, which other work on the machine takes none of.
        peak_mb: the most memory that it had at once; no less than this process had when it began
            (the system counts what a process is made of).
    """

    seconds: float
    cpu: float
    peak_mb: float


def call(*command: object, threads: int = 1) -> Spent:
    """Run one of our commands as a user would; its own lines go to standard error.

    Args:
        command: the module and its arguments.
        threads: of its arithmetic, unless the environment says so already.

    Raises:
        LanistrError: it failed.
    """
    words = [sys.executable, "-m", *map(str, command)]
    print(" ".join(words[1:]), file=sys.stderr)
    env = os.environ | {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads))}
    started = time.perf_counter()
    with subprocess.Popen(words, stdout=sys.stderr, env=env) as process:
        _, status, usage = os.wait4(process.pid, 0)  # as `wait`, and tells what was used
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise LanistrError(
            "the command failed; its own lines above say why",
            code="failed_command",
            field=" ".join(["python", *words[1:]]),
            seen=f"exit code {process.returncode}",
        )
    seconds = time.perf_counter() - started
    return Spent(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def made(work: Path, name: str, *command: object, threads: int = 1) -> Path:
    """Return the data set, run or yardstick that a command makes; none is made a second time.

    Its folder is called by a hash of the command too, and of the recipe that it names. What was
    made with other settings, or from such, has another name and is never taken for it.

    Args:
        work: the folder is made in there.
        name: how its name begins.
        command: the module and its arguments but for `--out`; see `folder_name`.
        threads: as for `call`.

    Raises:
        LanistrError: the command failed.
    """
    recipe = recipe_of(command)
    behind = [recipe, *weights_behind(recipe)] if recipe else []
    out = work / folder_name(name, [*command, *behind], work)
    if not finished(out):
        call(*command, "--out", out, threads=threads)
    return out


def check_source(folder: Path, names: Sequence[str] = ()) -> None:
    """Check that raw data are there: a command that reads them may come hours later.

    Args:
        folder: of `--source`.
        names: of files that it must hold.

    Raises:
        DataError: the folder, or one of the files, is not there.
    """
    lacking = [name for name in names if not (folder / name).is_file()]
    if lacking or not folder.is_dir():
        raise DataError(
            f"{lacking[0]} is not there" if folder.is_dir() else "no such folder",
            code="no_data",
            field="--source",
            seen=str(folder),
            accepted=f"a folder with {', '.join(names) or 'the raw data'}",
        )


# ---- figures ------------------------------------------------------------------------------------

Figures = Mapping[str, Any]
"""`metrics` by name, and of each under `intervals` the ends over test cases drawn again."""


def evaluated(run: Path, data: Path, names: Sequence[str]) -> Figures:
    """Return the figures of a run, or of a yardstick that judged itself, on the test split."""
    if not reported(run, data):
        call("training.evaluate", "--run", run, "--data", data)
    found = json.loads((run / REPORT).read_text(encoding="utf-8"))["all"]
    return {kind: {name: found[kind][name] for name in names} for kind in ("metrics", "intervals")}


def judged(
    outputs: NDArray[Any],
    truth: NDArray[Any],
    groups: NDArray[np.str_],
    label: LabelSpec,
    names: Sequence[str],
    decision: Decision = LIKELIEST,
) -> Figures:
    """Return the same figures of another method, from its log-probabilities (N, C)."""
    figures = measure(outputs, truth, label, decision)
    ends = bootstrap(outputs, truth, label, groups, decision)
    return {
        "metrics": {name: figures[name] for name in names},
        "intervals": {name: list(ends[name]) for name in names},
    }


def said(values: Sequence[float], form: str) -> str:
    """Return the mean and, of two values or more, its interval in brackets."""
    text = format(np.mean(values), form)
    if len(values) > 1:
        low, high = interval(values)
        text += f" [{low:{form}} to {high:{form}}]"
    return text


def said_of_seeds(seeds: Sequence[Figures], names: Sequence[str], form: str) -> str:
    """Return what `said` does of each figure, and in parentheses its mean interval over cases."""
    parts = []
    for name in names:
        low, high = np.mean([each["intervals"][name] for each in seeds], axis=0)
        mean = said([each["metrics"][name] for each in seeds], form)
        parts.append(f"{name} {mean} ({low:{form}} to {high:{form}})")
    return "; ".join(parts)
