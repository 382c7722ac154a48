"""`python -m export verify`: is a bundle whole, and does it compute what the model does?"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from export.builds import OFFERED
from export.cases import chosen_cases
from export.exported import Exported, open_graphs
from export.parity import BOUND, Reference, try_proof
from lanistr.bundle import PROOF, Build, Bundle
from lanistr.command import CommandParser
from lanistr.model.checkpoint import from_pretrained
from lanistr.model.lanistr import Lanistr
from training.data.store import Dataset
from training.run import Run, check_fits, check_predicts

EXAMPLE = "python -m export verify bundles/mortality"

_MORE = 2.0
"""Times the difference found at the export that a reduced precision may show on another machine."""


def main(words: Sequence[str]) -> None:
    """Verify as the command line says; the first thing that does not hold ends it."""
    arguments = _parser().parse_args(words)

    # ---- hashes --------------------------------------------------------------------------------
    bundle = Bundle.open(arguments.bundle)
    manifest = bundle.manifest
    print(
        f"{arguments.bundle}: {manifest.task} {manifest.version}, {len(manifest.files)} files whole"
    )

    # ---- the inputs that it brings, and what the model made of them ------------------------------
    builds = [each for each in manifest.builds if each.runtime in arguments.formats]
    proof = bundle.proof()
    for build in builds:
        found = try_proof(proof, open_graphs(build, bundle.read), _bounds(build.proof))
        _say(build, found, f"inputs made by chance ({PROOF})")
    if arguments.run is None:
        return

    # ---- the model itself, on real cases ---------------------------------------------------------
    run = Run.open(arguments.run)
    dataset = Dataset.open(arguments.data or Path(run.config.data))
    check_predicts(run, dataset)
    check_fits(run, dataset)
    model = from_pretrained(run.model_folder, Lanistr)
    reference = Reference.of(model, dataset, chosen_cases(dataset))
    for build in builds:
        exported = Exported(model, open_graphs(build, bundle.read))
        _say(build, reference.differences(exported, _bounds(build.parity)), "real cases")


def _bounds(at_export: Mapping[str, float]) -> dict[str, float]:
    return {name: max(BOUND, _MORE * each) for name, each in at_export.items()}


def _say(build: Build, found: Mapping[str, float], on: str) -> None:
    print(f"  {build.name:16} differs from the model by {max(found.values()):.1e} at most, on {on}")


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="python -m export verify",
        description="Check every hash of a bundle, and run its graphs beside what the model made "
        "of the same inputs when it was exported; with --run also beside the model itself.",
        epilog=f"examples:\n  {EXAMPLE}\n  {EXAMPLE} --run runs/stays-ft",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("bundle", type=Path, help="folder of the bundle")
    parser.add_argument("--run", type=Path, help="the run that it was made of")
    parser.add_argument("--data", type=Path, help="prepared data (default: the run's)")
    parser.add_argument(
        "--formats",
        nargs="+",
        choices=list(OFFERED),
        default=["onnx"],
        help="of the graphs (onnx); torchscript is a program: only of people you trust",
    )
    return parser
