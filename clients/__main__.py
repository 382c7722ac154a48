"""The command line: `python -m clients predict`, `score`, `load` and `tasks`.

`LANISTR_URL` says where the service is, `LANISTR_KEY` is the API key that it asks for.

Exit codes: 0 an answer; 1 the service failed, was too busy or too slow; 2 the user's to mend.
"""

import asyncio
import io
import json
import logging
import os
import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from clients import display
from clients.client import (
    DEFAULT_RETRY_SECONDS,
    DEFAULT_TIMEOUT,
    DEFAULT_URL,
    AsyncClient,
    Client,
)
from clients.columns import add_column_option, named_columns
from clients.errors import ClientError, ConnectionFailed, InvalidInput, InvalidRequest
from clients.load import cases_of
from clients.load import load as send
from clients.outcome import add_answer_options
from clients.parts import decode, read_json, read_text
from clients.reading import add_reading_options, reading_of
from clients.remote import AT_ONCE, CONNECTIONS, TIMEOUT
from clients.tables import ACCEPTED, READABLE

_EXAMPLES = """\
examples:
  python -m clients tasks
  python -m clients predict mortality --text note.txt --image cxr.jpg \\
      --tabular row.json --timeseries vitals.csv --explain
  python -m clients score mortality --input cohort.parquet --output scored.parquet
  python -m clients load mortality --concurrency 32 --seconds 30
  echo "Five stars, fits well" | python -m clients predict rating --text - --json
"""


class _Parser(ArgumentParser):
    """An ArgumentParser that says a mistake in one line, without the usage above it."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message} (see {self.prog} --help)\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code."""
    arguments = _parser().parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal without the bars' character shows a question mark instead of failing.
        sys.stdout.reconfigure(errors="replace")
    logging.basicConfig(format="%(message)s")  # what is worth a word before the work begins
    try:
        print(arguments.command(arguments), flush=True)
    except ClientError as error:
        print("error:", " ".join(_explained(error).split()), file=sys.stderr)
        return 2 if _is_users(error) else 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader has closed; flushing at the exit must not fail
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141  # as shells have it
    return 0


def predict(arguments: Namespace) -> str:
    """Ask for one prediction; return what to print."""
    text = [_note(path) for path in arguments.text] or None
    row = read_json(arguments.tabular, "tabular") if arguments.tabular else None
    with _connected(arguments) as client:
        answer = client.predict(
            arguments.task,
            id=arguments.id,
            text=text,
            image=arguments.image or None,
            tabular=row,
            timeseries=arguments.timeseries,
            explain=arguments.explain,
            coverage=arguments.coverage,
        )
    return _json(answer.raw) if arguments.json else display.prediction(answer)


def score(arguments: Namespace) -> str:
    """Score a table; return what to print."""
    with _connected(arguments) as client:
        found = client.score(
            arguments.task,
            arguments.input,
            arguments.output,
            columns=named_columns(arguments.column),
            reading=reading_of(arguments),
            explain=arguments.explain,
            coverage=arguments.coverage,
            version=arguments.version,
            at_once=arguments.at_once,
            connections=arguments.connections,
            timeout=arguments.timeout,
        )
    if arguments.json:
        names = ("rows", "failed", "before", "unused", "absent")
        return _json({name: getattr(found, name) for name in names})
    return display.scored(arguments.output, found)


def load(arguments: Namespace) -> str:
    """Send a load; return what to print."""
    with _connected(arguments) as client:
        cases = cases_of(
            client,
            arguments.task,
            arguments.input,
            named_columns(arguments.column),
            reading_of(arguments),
        )
    sent = asyncio.run(
        send(
            lambda: AsyncClient(**_connection(arguments) | {"retry_seconds": 0}),
            arguments.task,
            cases,
            concurrency=arguments.concurrency,
            seconds=arguments.seconds,
        )
    )
    if arguments.json:
        shares = {f"p{share}_ms": 1e3 * sent.percentile(share) for share in (50, 90, 99, 100)}
        counts = {"requests": len(sent.statuses), "failures": sent.failures}
        said = _json({"rate": sent.rate, "seconds": sent.seconds, **counts, **shares})
    else:
        said = display.load(sent, arguments.concurrency)
    if sent.failure and 200 not in sent.statuses:
        print(said)
        raise sent.failure
    return said


def tasks(arguments: Namespace) -> str:
    """Ask which tasks there are; return what to print."""
    with _connected(arguments) as client:
        summaries = client.tasks()
    if arguments.json:
        return _json({"tasks": [each.raw for each in summaries]})
    return display.tasks(summaries)


def _connected(arguments: Namespace) -> Client:
    return Client(**_connection(arguments))


def _connection(arguments: Namespace) -> dict[str, Any]:
    key = os.environ.get("LANISTR_KEY")
    return {
        "url": arguments.url,
        "timeout": arguments.timeout,
        "retry_seconds": arguments.retry_seconds,
        "headers": {"Authorization": f"Bearer {key}"} if key else None,
    }


def _parser() -> ArgumentParser:
    table, asked, task = (_Parser(add_help=False) for _ in range(3))
    add_column_option(table)
    add_reading_options(table)
    add_answer_options(asked)
    task.add_argument("task", metavar="TASK", help="name of a task, see `tasks`")
    connection, patient = _connection_options(DEFAULT_TIMEOUT), _connection_options(TIMEOUT)

    layout: dict[str, Any] = {
        "epilog": _EXAMPLES,
        "formatter_class": RawDescriptionHelpFormatter,
    }
    parser = _Parser(
        prog="python -m clients", description="Ask a LANISTR service for predictions.", **layout
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(run: Callable[[Namespace], str], about: str, *parents: _Parser) -> ArgumentParser:
        added = commands.add_parser(
            run.__name__, parents=parents, help=about, description=about, **layout
        )
        added.set_defaults(command=run)
        return added

    about = "predict one case, from at least one modality"
    _add_parts(command(predict, about, connection, asked, task))
    about = "score a table of any length; if interrupted, repeat the command to resume"
    _add_scoring(command(score, about, patient, table, asked, task))
    about = "send requests for a while and report throughput and latency"
    _add_load(command(load, about, connection, table, task))
    command(tasks, "list the service's tasks", connection)
    return parser


def _add_parts(parser: ArgumentParser) -> None:
    parser.add_argument("--id", help="your own ID for the case, returned in the answer")
    parser.add_argument(
        "--text",
        action="append",
        default=[],
        metavar="FILE",
        help="a note in UTF-8, or - for standard input; may be repeated, oldest first",
    )
    parser.add_argument(
        "--image", action="append", default=[], metavar="FILE", help="an image; may be repeated"
    )
    parser.add_argument("--tabular", metavar="FILE", help="the table row, a JSON object")
    parser.add_argument(
        "--timeseries",
        metavar="FILE",
        help="the time series: a .csv with a column `hours`, or a .json list of rows",
    )


def _add_scoring(parser: ArgumentParser) -> None:
    parser.add_argument("--input", required=True, metavar="FILE", help=READABLE)
    parser.add_argument("--output", required=True, metavar="FILE", help=ACCEPTED)
    parser.add_argument("--version", help="version of the model (the newest at the start)")
    parser.add_argument(
        "--at-once",
        type=int,
        default=AT_ONCE,
        metavar="CASES",
        help="cases per request (%(default)s)",
    )
    parser.add_argument(
        "--connections",
        type=int,
        default=CONNECTIONS,
        metavar="REQUESTS",
        help="requests in flight at once (%(default)s)",
    )


def _add_load(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--input", metavar="FILE", help=f"table of cases: {READABLE} (the task's own examples)"
    )
    parser.add_argument(
        "--concurrency",
        type=int,
        default=8,
        metavar="CLIENTS",
        help="clients, each sending its next request when the last is answered (%(default)s)",
    )
    parser.add_argument(
        "--seconds", type=float, default=10.0, help="how long to send requests (%(default)g)"
    )


def _connection_options(timeout: float) -> _Parser:
    """Return options of every command, a parser for each timeout: commands share their options."""
    connection = _Parser(add_help=False)
    connection.add_argument(
        "--url",
        default=os.environ.get("LANISTR_URL", DEFAULT_URL),
        help="address of the service (%(default)s), or set LANISTR_URL",
    )
    connection.add_argument(
        "--timeout",
        type=float,
        default=timeout,
        metavar="SECONDS",
        help="how long to wait for the service to respond (%(default)g)",
    )
    connection.add_argument(
        "--retry-seconds",
        type=float,
        default=DEFAULT_RETRY_SECONDS,
        metavar="SECONDS",
        help="how long to keep retrying if the service is too busy; 0: never retry (%(default)g)",
    )
    connection.add_argument("--json", action="store_true", help="print the answer as JSON")
    return connection


def _note(path: str) -> str:
    if path == "-":
        return decode(sys.stdin.buffer.read(), "standard input", "text")
    return read_text(path, "text")


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _explained(error: ClientError) -> str:
    if isinstance(error, ConnectionFailed) and "refused" in str(error):
        return f"{error}: is it running? (make serve starts one)"
    return str(error)


def _is_users(error: ClientError) -> bool:
    if isinstance(error, ConnectionFailed):
        return not error.reached
    return isinstance(error, InvalidInput | InvalidRequest)


if __name__ == "__main__":
    sys.exit(main())
