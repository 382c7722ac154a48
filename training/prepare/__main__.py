"""`python -m training.prepare`: from raw records to a prepared data set."""

import argparse
import logging
import signal
import sys
from collections.abc import Mapping

from lanistr.command import CommandParser, run_command
from training.prepare import physionet2012
from training.prepare.kind import Kind, add_shared_arguments
from training.prepare.synthetic import command as synthetic

KINDS: Mapping[str, Kind] = {"physionet2012": physionet2012, "synthetic": synthetic}


def main() -> None:
    """Read the command line, prepare, say what came out."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    signal.signal(signal.SIGTERM, _leave)
    arguments = _parser().parse_args()
    card = KINDS[arguments.kind].prepare(arguments).card
    print(
        f"{arguments.out}: {sum(card.cases.values())} cases "
        f"({', '.join(f'{n} {split}' for split, n in card.cases.items())}), "
        f"{sum(card.labelled.values())} labelled; missing: "
        + ", ".join(f"{m} {share:.0%}" for m, share in card.missing.items())
    )


def _leave(number: int, frame: object) -> None:
    """Leave as if interrupted, so that what was begun is cleared away."""
    sys.exit(128 + number)


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="python -m training.prepare",
        description="Turn raw records into a prepared data set.",
        epilog="example:\n  " + "\n  ".join(kind.EXAMPLE for kind in KINDS.values()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    kinds = parser.add_subparsers(dest="kind", required=True)
    for name, kind in KINDS.items():
        made = kinds.add_parser(
            name,
            help=kind.HELP,
            description=f"Prepare {kind.HELP}.",
            epilog=f"example:\n  {kind.EXAMPLE}",
            formatter_class=parser.formatter_class,
        )
        add_shared_arguments(made)
        kind.add_arguments(made)
    return parser


if __name__ == "__main__":
    run_command(main)
