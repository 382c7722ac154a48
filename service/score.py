"""Score a table of cases without HTTP: the engine of one bundle, in this process.

    python -m service.score --bundle mortality/ --input cohort.parquet --output scored.parquet

Tables are read and written as `python -m clients score` does it, and cases answered as the service
answers them, so that both write the same; either goes on where the other was interrupted.
"""

import argparse
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
from anyio.from_thread import BlockingPortal, start_blocking_portal

from clients import display
from clients.columns import add_column_option, named_columns
from clients.document import Document
from clients.errors import InvalidInput
from clients.exchange import read_item
from clients.outcome import Outcome, add_answer_options
from clients.reading import add_reading_options, reading_of
from clients.scoring import Record, in_order, score
from clients.tables import ACCEPTED, READABLE
from clients.target import Target
from lanistr.bundle import Bundle
from lanistr.command import CommandParser, leave_when_asked, run_command
from lanistr.errors import ConfigError
from service.api import schemas
from service.api.batch import answer_one
from service.api.options import read_options
from service.api.tasks import model_of
from service.engine.cache import TokenCache
from service.engine.lanes import Lanes
from service.engine.local import LocalEngine
from service.engine.predictor import Predictor
from service.hangup import end_on_hangup
from service.metrics import Metrics
from service.settings import Settings, add_options

_AT_ONCE = 64
"""Cases that are inside at a time: enough to keep threads and runner busy, and a GPU's batches
full."""

_SETTINGS = (
    "device", "backend", "precision", "threads", "batch_tokens", "cache_bytes", "case_tokens",
    "pixels",
)  # fmt: skip
"""Of the service, those that say how cases are computed."""

_EXAMPLE = """example:
  python -m service.score --bundle bundles/mortality --input cohort.parquet --output scored.parquet
"""


def main() -> None:
    """Score as the command line says."""
    end_on_hangup()
    parser = CommandParser(
        prog="python -m service.score",
        description="Score a table without HTTP. If interrupted, repeat the command to resume.",
        epilog=_EXAMPLE,
    )
    parser.add_argument("--input", required=True, metavar="FILE", help=READABLE)
    parser.add_argument("--output", required=True, metavar="FILE", help=ACCEPTED)
    add_scoring_options(parser)
    arguments = parser.parse_args()
    logging.basicConfig(format="%(message)s")
    leave_when_asked()
    with as_config_errors(), Local.opened(**scoring_options(arguments)) as local:
        found = score(
            local,
            arguments.input,
            arguments.output,
            columns=named_columns(arguments.column),
            reading=reading_of(arguments),
        )
    print(display.scored(arguments.output, found))


class Local:
    """A scorer, see `clients.scoring`, that has its own engine.

    Args:
        predictor: at work on the portal's event loop.
        portal: of a thread that runs an event loop.
        settings: for the limits of a case.
        explain: whether contributions are asked for.
        coverage: of sets and intervals; None: as the service has it.

    Raises:
        InputError: the coverage is not between 0 and 1.
    """

    def __init__(
        self,
        predictor: Predictor,
        portal: BlockingPortal,
        settings: Settings,
        *,
        explain: bool,
        coverage: float | None,
    ) -> None:
        asked: dict[str, Any] = {"explain": explain, "coverage": coverage}
        self._options = read_options({n: each for n, each in asked.items() if each is not None})
        self._predictor, self._portal, self._limits = predictor, portal, settings.limits()
        self.target = target_of(predictor.bundle, predictor.engine.build.precision)
        self.explain, self.coverage = explain, coverage

    @classmethod
    @contextmanager
    def opened(
        cls,
        bundle: Path,
        settings: Settings,
        *,
        explain: bool = False,
        coverage: float | None = None,
    ) -> "Iterator[Local]":
        """Load a bundle's graphs; let them go in the end.

        Args:
            bundle: its folder.
            settings: where and how they are run.
            explain: see `Local`.
            coverage: likewise.

        Raises:
            BundleError: it is missing, damaged, or lacks what is asked for.
            ConfigError: there is no such device or backend.
        """
        metrics, lanes = Metrics(), Lanes(settings.threads, settings.large_bytes)
        opened = Bundle.open(bundle)
        engine = LocalEngine(opened, settings, TokenCache(settings.cache_bytes, metrics), metrics)
        predictor = Predictor(
            opened,
            engine,
            lanes,
            places=_AT_ONCE,
            most_tokens=settings.case_tokens,
            most_pixels=settings.pixels,
            metrics=metrics.task(opened.task.name),
        )
        with start_blocking_portal() as portal:
            portal.call(engine.start)
            try:
                yield cls(predictor, portal, settings, explain=explain, coverage=coverage)
            finally:
                portal.call(predictor.close)
                lanes.shutdown()

    def answers(self, records: Iterable[Record]) -> Iterator[Outcome]:
        """Yield the outcome of each record, see `clients.scoring.Scorer`."""
        return in_order(
            lambda record: self._portal.start_task_soon(self._answer, record), records, _AT_ONCE
        )

    async def _answer(self, record: Record) -> Outcome:
        if isinstance(record, InvalidInput):
            return record
        with self._predictor.admission.place():
            item = await answer_one(
                self._predictor, 0, lambda: self._limits.check(record), 0, self._options, ""
            )
        # As over HTTP.
        return read_item(Document(orjson.loads(schemas.encode(item))))


def target_of(bundle: Bundle, precision: str) -> Target:
    """Return what `GET /tasks/{task}` would say of a bundle, as far as scoring needs it."""
    task = bundle.task
    more = {
        "model": dict(model_of(bundle)),
        "precision": precision,
        "modalities": list(task.modalities),
    }
    return Target.read(Document(task.model_dump(mode="json") | more))


def add_scoring_options(parser: argparse.ArgumentParser) -> None:
    """Make what `Local.opened` takes, and how a table is read, options of a command."""
    parser.add_argument(
        "--bundle", required=True, type=Path, metavar="FOLDER", help="the exported model"
    )
    add_column_option(parser)
    add_reading_options(parser)
    add_answer_options(parser)
    add_options(parser, _SETTINGS)


def scoring_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of `Local.opened` that the command line says.

    Raises:
        ConfigError: a value is not what its option takes.
    """
    given = {name: each for name, each in vars(arguments).items() if name in _SETTINGS}
    return {
        "bundle": arguments.bundle,
        "settings": Settings.parse(given, ConfigError, "settings"),
        "explain": arguments.explain,
        "coverage": arguments.coverage,
    }


@contextmanager
def as_config_errors() -> Iterator[None]:
    """Raise the clients' errors as ours.

    Raises:
        ConfigError: a table, a column or an output is wrong.
    """
    try:
        yield
    except InvalidInput as exc:
        raise ConfigError(
            exc.message, code="bad_table", field=exc.field, accepted=exc.accepted
        ) from exc


if __name__ == "__main__":
    run_command(main)
