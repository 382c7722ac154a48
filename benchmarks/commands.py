"""What the comparisons share that drive the ordinary commands, run by run and seed by seed."""

import os
import subprocess
import sys
from collections.abc import Sequence

import numpy as np
from scipy.stats import t as student  # type: ignore[import-untyped]


def call(*command: object, threads: int = 1) -> None:
    """Run one of our commands as a user would; its own lines go to standard error.

    Args:
        command: the module and its arguments.
        threads: of its arithmetic, unless the environment says so already.
    """
    words = [sys.executable, "-m", *map(str, command)]
    print(" ".join(words[1:]), file=sys.stderr)
    env = os.environ | {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads))}
    subprocess.run(words, check=True, stdout=sys.stderr, env=env)


def overrides(settings: Sequence[str]) -> list[str]:
    """Return the words of the command line that change a recipe."""
    return [word for setting in settings for word in ("--set", setting)]


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the 95% interval of the mean of two values or more, by Student's t."""
    mean, error = np.mean(values), np.std(values, ddof=1) / np.sqrt(len(values))
    reach = float(student.ppf(0.975, len(values) - 1)) * error
    return float(mean - reach), float(mean + reach)
