"""Score a folder of tables on many machines, by Ray Data: a file a task, an engine a worker.

    python -m service.score_ray --bundle mortality/ --input cohort/ --output scored/ --workers 8

Each file is scored as `python -m service.score` does it. So a run that was interrupted, or a worker
that was lost, goes on where it was, and files that are complete are not touched. All machines must
see the folders under the same path, and should be of one kind: what `--precision auto` takes
depends on the device.
"""

import argparse
import logging
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from clients import display
from clients.columns import Named, named_columns
from clients.errors import ClientError
from clients.reading import Reading, reading_of
from clients.scoring import score
from clients.tables import ENDINGS, READABLE
from lanistr.command import CommandParser, leave_when_asked, run_command
from lanistr.errors import ConfigError, DataError
from service.hangup import end_on_hangup
from service.score import Local, add_scoring_options, as_config_errors, scoring_options

_EXAMPLE = """example:
  python -m service.score_ray --bundle mortality/ --input cohort/ --output scored/ --workers 8
"""


def main() -> None:
    """Score as the command line says.

    Raises:
        ConfigError: Ray is not installed, or there are no tables.
        DataError: some files could not be scored; the others were.
    """
    end_on_hangup()
    arguments = _parser().parse_args()
    logging.basicConfig(format="%(message)s")
    try:
        import ray
        import ray.data
    except ModuleNotFoundError:
        raise ConfigError(
            "Ray is not installed", code="no_ray", accepted="pip install 'ray[data]'"
        ) from None
    inputs = [
        each for each in sorted(arguments.input.glob("*")) if each.name.lower().endswith(ENDINGS)
    ]
    if not inputs:
        raise ConfigError("the folder has no tables", code="no_tables", field=str(arguments.input),
                          accepted=f"a folder with {READABLE} files")  # fmt: skip
    for option in ("workers", "cpus"):
        if (seen := getattr(arguments, option)) < 1:
            raise ConfigError("too few", field=f"--{option}", seen=seen, accepted="1 or more")
    arguments.output.mkdir(parents=True, exist_ok=True)
    with as_config_errors():
        columns, reading = named_columns(arguments.column), reading_of(arguments)
    options = scoring_options(arguments)
    options["bundle"] = options["bundle"].resolve()
    if "threads" not in arguments:
        options["settings"] = options["settings"].model_copy(update={"threads": arguments.cpus})
    leave_when_asked()
    ray.init(address=arguments.address, log_to_driver=False, logging_level=logging.WARNING)
    ray.data.DataContext.get_current().enable_progress_bars = sys.stderr.isatty()
    files = ray.data.from_items(
        [{"input": str(each.resolve()),
          "output": str((arguments.output / _unpacked(each)).resolve())}
         for each in inputs],
        override_num_blocks=len(inputs),
    )  # fmt: skip
    scored = files.map(
        Worker,
        fn_constructor_args=(options, columns, reading),
        compute=ray.data.ActorPoolStrategy(size=min(arguments.workers, len(inputs))),
        num_cpus=arguments.cpus,
        num_gpus=arguments.gpus,
    )
    failed = 0
    for each in scored.iter_rows():
        print(each["said"])
        failed += not each["done"]
    ray.shutdown()
    if failed:
        raise DataError(f"{failed} of {len(inputs)} files were not scored", code="not_scored")


class Worker:
    """An engine that scores one file after another.

    Args:
        options: of `Local.opened`.
        columns: by part or field.
        reading: of the tables.
    """

    def __init__(self, options: dict[str, Any], columns: Named, reading: Reading) -> None:
        self._open = ExitStack()  # as long as the worker lives
        self._local = self._open.enter_context(Local.opened(**options))
        self._asked: dict[str, Any] = {"columns": columns, "reading": reading, "progress": False}

    def __call__(self, file: dict[str, str]) -> dict[str, Any]:
        """Score a file; return the outcome."""
        output = file["output"]
        try:
            found = score(self._local, file["input"], output, **self._asked)
        except ClientError as error:
            return {"done": False, "said": f"{output}: {error}"}
        return {"done": True, "said": display.scored(output, found)}


def _unpacked(path: Path) -> str:
    return path.stem if path.suffix.lower() == ".gz" else path.name


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="python -m service.score_ray",
        description="Score a folder of tables on many machines. If interrupted, repeat the "
        "command to resume.",
        epilog=_EXAMPLE,
    )
    parser.add_argument(
        "--input", required=True, type=Path, metavar="FOLDER", help="folder of tables"
    )
    parser.add_argument(
        "--output", required=True, type=Path, metavar="FOLDER", help="folder for the results"
    )
    parser.add_argument("--workers", type=int, default=1, help="number of workers (%(default)s)")
    parser.add_argument("--cpus", type=int, default=1, help="CPUs per worker (%(default)s)")
    parser.add_argument("--gpus", type=float, default=0, help="GPUs per worker (%(default)s)")
    parser.add_argument("--address", help="address of a Ray cluster, or auto (one on this machine)")
    add_scoring_options(parser)
    return parser


if __name__ == "__main__":
    run_command(main)
