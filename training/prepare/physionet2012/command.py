"""`python -m training.prepare physionet2012`: the PhysioNet / CinC Challenge 2012."""

import argparse
from pathlib import Path

import numpy as np
import polars as pl

from lanistr import __version__
from lanistr.errors import ConfigError
from lanistr.tasks import find_task
from training.data.store import Dataset, Split
from training.prepare.kind import begin
from training.prepare.physionet2012.layout import SETS, read_set
from training.prepare.physionet2012.samples import samples
from training.prepare.physionet2012.stays import join
from training.prepare.prepared import SplitOptions, assign_splits

HELP = "PhysioNet Challenge 2012: 48 hours of intensive care, and in-hospital death"
EXAMPLE = (
    "python -m training.prepare physionet2012 --source challenge-2012 --sets a b --test-set b"
    " --out data/physionet2012"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add where the challenge's files are, and which of them are read."""
    parser.add_argument(
        "--source", required=True, type=Path, help="folder with the challenge's files"
    )
    parser.add_argument(
        "--sets", nargs="+", choices=SETS, default=["a", "b"], help="sets to read (a b)"
    )
    parser.add_argument(
        "--test-set",
        choices=SETS,
        help="draw the test split only from this set (default: from all)",
    )


def prepare(arguments: argparse.Namespace) -> Dataset:
    """Read the sets that the command line names, and prepare their stays."""
    task = find_task("physionet2012")
    preparation = begin(arguments, task)
    problems = preparation.problems
    names = sorted(set(arguments.sets))
    found = join([read_set(arguments.source, name, task, problems) for name in names], problems)
    return preparation.run(
        lambda: samples(found),
        place_of=lambda stay: (f"set {stay.subgroups['set']}, RecordID {stay.id}", None),
        split_of=deal(found.stays, preparation.splits, arguments.test_set),
        source={
            "from": "physionet2012",
            "version": __version__,
            "sets": names,
            "test_set": arguments.test_set,
            "files": dict(found.files),
            "counts": dict(found.counts),
        },
    )


def deal(stays: pl.DataFrame, options: SplitOptions, test_set: str | None) -> dict[str, Split]:
    """Deal the stays out; with a test set, the test split comes from that set alone.

    The stays of the test set that the test split does not take are trained on like all others.
    Nothing in the files says which stays are of one patient, so each stands for itself.

    Raises:
        ConfigError: the test set was not read, or has fewer stays than the test split takes.
    """
    names = [str(record) for record in stays["record_id"]]
    if test_set is None:
        return assign_splits(names, options)
    eligible = [str(each) for each in stays.filter(set=test_set)["record_id"]]
    wanted = round(options.shares[2] * len(names))
    if wanted > len(eligible):
        raise ConfigError(
            "too few stays for the test split",
            field="--test-set",
            seen=f"{len(eligible)} stays of set {test_set}",
            accepted=f"one of --sets, of {wanted} stays or more ({options.shares[2]:g} of all)",
        )
    order = np.random.default_rng(options.seed).permutation(len(eligible))
    held_out = {eligible[place] for place in order[:wanted]}
    rest = [name for name in names if name not in held_out]
    train, validation, _ = options.shares
    whole = train + validation
    shares = (train / whole, validation / whole, 0.0) if whole else options.shares
    dealt = assign_splits(rest, SplitOptions(shares=shares, seed=options.seed)) if rest else {}
    return dealt | dict.fromkeys(held_out, "test")
