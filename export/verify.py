"""`python -m export verify`: is a bundle whole, and does it compute what the model does?"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from export.builds import OFFERED
from export.cases import chosen_cases, open_run
from export.exported import Exported, open_graphs
from export.parity import Reference, naming_build, try_proof
from lanistr.bundle import CALIBRATION, PROOF, TASK, Bundle
from lanistr.command import CommandParser
from lanistr.errors import BundleError
from lanistr.manifest import Build
from lanistr.preprocess import Preprocessor
from lanistr.preprocess.base import STATE_FILE
from lanistr.proof import allowed

EXAMPLE = "python -m export verify bundles/mortality"


def main(words: Sequence[str]) -> None:
    """Verify as the command line says; the first thing that does not hold ends it."""
    parser = _parser()
    arguments = parser.parse_args(words)
    if arguments.data and not arguments.run:
        parser.error("--data has no effect without --run; accepted: both, or neither")

    # ---- hashes --------------------------------------------------------------------------------
    bundle = Bundle.open(arguments.bundle)
    manifest = bundle.manifest
    print(
        f"{arguments.bundle}: {manifest.task} {manifest.version}, {len(manifest.files)} files "
        "intact"
    )

    # ---- the inputs that it brings, and what the model made of them ------------------------------
    proof = bundle.proof()
    builds = [each for each in manifest.builds if each.runtime in arguments.formats]
    if not builds:
        raise BundleError(
            "nothing to check",
            code="no_build",
            field=str(arguments.bundle),
            seen="--formats " + " ".join(arguments.formats),
            accepted=", ".join(each.name for each in manifest.builds),
        )
    for build in builds:
        graphs = open_graphs(build, bundle.read)
        with naming_build(build):
            found = try_proof(proof, graphs, allowed(build, build.proof))
        _say(build, found, f"random inputs ({PROOF})")
    for build in manifest.builds:
        if build not in builds:
            trust = ", if you trust the bundle" if build.runtime == "torchscript" else ""
            print(f"  {build.name:16} not checked: use --formats {build.runtime}{trust}")
    if arguments.run is None:
        return

    # ---- the model itself, on real cases ---------------------------------------------------------
    run, dataset, model = open_run(arguments.run, arguments.data)
    if run.task != bundle.task:
        raise BundleError(
            "the bundle was not exported from this run",
            code="bad_fit",
            field=str(arguments.run),
            seen=run.task.name,
            accepted=f"a run of {bundle.task.name}, as {arguments.bundle / TASK} describes it",
        )
    # What no graph shows: the cases below are prepared already, and their outputs uncalibrated.
    for file, same in (
        (STATE_FILE, _saved(bundle.preprocessor) == _saved(run.preprocessor())),
        (CALIBRATION, bundle.calibration == run.calibration()),
    ):
        if not same:
            raise BundleError(
                "the bundle was not exported from this run",
                code="bad_fit",
                field=str(arguments.bundle / file),
                accepted=f"the same contents as {arguments.run / file}",
            )
    reference = Reference.of(model, dataset, chosen_cases(dataset))
    for build in builds:
        exported = Exported(model, open_graphs(build, bundle.read))
        with naming_build(build):
            found = reference.differences(exported, allowed(build, build.parity))
        _say(build, found, "real cases")


def _saved(preprocessor: Preprocessor) -> dict[str, bytes]:
    """Return its files as today's code writes them, whichever wrote those that it was read from."""
    with TemporaryDirectory() as folder:
        preprocessor.save(Path(folder))
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def _say(build: Build, found: Mapping[str, float], on: str) -> None:
    print(f"  {build.name:16} differs from the model by at most {max(found.values()):.1e} on {on}")


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="python -m export verify",
        description="Check every hash of a bundle, and compare its outputs with those the model "
        "gave for the same inputs when exported; with --run, also with the model itself.",
        epilog=f"examples:\n  {EXAMPLE}\n  {EXAMPLE} --run runs/stays-ft",
    )
    parser.add_argument("bundle", type=Path, help="folder of the bundle")
    parser.add_argument("--run", type=Path, help="the run that it was exported from")
    parser.add_argument("--data", type=Path, help="prepared data, with --run (default: the run's)")
    parser.add_argument(
        "--formats",
        nargs="+",
        choices=list(OFFERED),
        default=["onnx"],
        help="formats to check (onnx); torchscript can run code: only for trusted bundles",
    )
    return parser
