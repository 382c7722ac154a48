"""What does the data report cost of a preparation?

Prepares synthetic stays as ever, and sums up the processor time that is spent on counting, checking
and writing the report. Processor time, for others may use the machine.

    python -m benchmarks.data_report
"""

import argparse
import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from lanistr.command import CommandParser, run_command
from lanistr.preprocess import PreprocessOptions
from lanistr.preprocess.image import ImageOptions
from lanistr.preprocess.text import TextOptions
from lanistr.tasks import find_task
from training.arguments import check_count
from training.prepare import prepared
from training.prepare.prepared import SplitOptions
from training.prepare.report.survey import Survey
from training.prepare.synthetic import MAKERS, SyntheticOptions, draw


def main() -> None:
    """Prepare, and print the share of the report."""
    arguments = _parser().parse_args()
    check_count("--samples", arguments.samples)
    spent: Counter[str] = Counter()
    Survey.add = _timed(Survey.add, "counting", spent)  # type: ignore[method-assign]
    Survey.report = _timed(Survey.report, "checking", spent)  # type: ignore[method-assign]
    samples = list(draw(arguments.task, SyntheticOptions(samples=arguments.samples)))
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        prepared.prepare(
            lambda: samples,
            find_task(arguments.task),
            Path(folder) / "data",
            options=PreprocessOptions(
                text=TextOptions(vocabulary_size=4000), image=ImageOptions(size=224)
            ),
            splits=SplitOptions(),
            source={},
        )
        whole = time.process_time() - start
    report = spent.total()
    for name, seconds in spent.items():
        print(f"{name}: {1000 * seconds / len(samples):.3f} ms a case, {seconds / whole:.1%}")
    print(f"with the report {whole / (whole - report):.3f} times as long as without")
    found = {"task": arguments.task, "cases": len(samples), "seconds": whole, **spent}
    print(json.dumps(found | {"ratio": whole / (whole - report)}))


def _timed(function: Callable[..., Any], name: str, spent: Counter[str]) -> Callable[..., Any]:
    @wraps(function)
    def timed(*given: Any, **named: Any) -> Any:
        start = time.process_time()
        try:
            return function(*given, **named)
        finally:
            spent[name] += time.process_time() - start  # type: ignore[assignment]

    return timed


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="python -m benchmarks.data_report",
        description="Measure the share of the data report in a preparation.",
    )
    parser.add_argument("--task", default="mortality", choices=sorted(MAKERS))
    parser.add_argument("--samples", type=int, default=4000, help="(4000)")
    return parser


if __name__ == "__main__":
    run_command(main)
