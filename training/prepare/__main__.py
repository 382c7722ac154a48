"""`python -m training.prepare`: from raw records to a prepared data set."""

import argparse
import logging
from collections.abc import Mapping

from lanistr.command import CommandParser, leave_when_asked, run_command
from training.prepare.amazon import command as amazon
from training.prepare.amazon import images as amazon_images
from training.prepare.kind import Kind, Step, add_shared_arguments
from training.prepare.mimic_iv import command as mimic_iv
from training.prepare.physionet2012 import command as physionet2012
from training.prepare.synthetic import command as synthetic
from training.prepare.table import command as table

KINDS: Mapping[str, Kind] = {
    "mimic-iv": mimic_iv,
    "amazon": amazon,
    "physionet2012": physionet2012,
    "table": table,
    "synthetic": synthetic,
}
STEPS: Mapping[str, Step] = {"amazon-images": amazon_images}
"""What is done to raw records before they are prepared."""

_ALL: Mapping[str, Kind | Step] = {**KINDS, **STEPS}


def main() -> None:
    """Read the command line, prepare, say what came out."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    leave_when_asked()
    arguments = _parser().parse_args()
    if arguments.kind in STEPS:
        STEPS[arguments.kind].run(arguments)
        return
    dataset = KINDS[arguments.kind].prepare(arguments)
    if dataset is None:
        return
    card = dataset.card
    print(
        f"{arguments.out}: {sum(card.cases.values())} cases "
        f"({', '.join(f'{n} {split}' for split, n in card.cases.items())}), "
        f"{sum(card.labelled.values())} labelled; missing: "
        + ", ".join(f"{m} {share:.0%}" for m, share in card.missing.items())
    )


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="python -m training.prepare",
        description="Prepare a data set from raw records.",
        epilog="example:\n  " + "\n  ".join(each.EXAMPLE for each in _ALL.values()),
    )
    kinds = parser.add_subparsers(dest="kind", required=True)
    for name, each in _ALL.items():
        made = kinds.add_parser(
            name,
            help=each.HELP,
            description=f"Prepare {each.HELP}.",
            epilog=f"example:\n  {each.EXAMPLE}",
        )
        if name in KINDS:
            add_shared_arguments(made)
        each.add_arguments(made)
    return parser


if __name__ == "__main__":
    run_command(main)
