"""`python -m export`: turn a fine-tuned run into a bundle; `python -m export verify`: try one."""

import argparse
import logging
import math
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from export import verify
from export.builds import (
    OFFERED,
    PRECISIONS,
    USUAL,
    BuildReference,
    Writer,
    check_fit,
    figures,
    make_build,
)
from export.card import model_card
from export.cases import chosen_cases, evenly, example_cases, labelled_cases, open_run
from export.graphs import GraphSource, graph_sources
from export.parity import Reference, make_proof
from lanistr.bundle import ARRAYS, CALIBRATION, CARD, PROOF, TASK, write_bundle
from lanistr.command import CommandParser, leave_when_asked, run_command
from lanistr.draft import held
from lanistr.errors import BundleError
from lanistr.jsonfile import write_json
from lanistr.leftovers import sweep
from lanistr.manifest import MOST_FALL, Build, Precision, Runtime
from lanistr.model.lanistr import Lanistr
from lanistr.model.tensors import to_tensors
from training.data.store import Dataset
from training.evaluate import about, evaluate
from training.metrics import shown
from training.predict import predict
from training.run import Run, versions

EXAMPLE = "python -m export --run runs/stays-ft --out bundles/mortality"

log = logging.getLogger("export")


def main() -> None:
    """Export, or verify, as the command line says."""
    logging.basicConfig(format="%(message)s")
    for name in ("export", "lanistr.leftovers"):
        logging.getLogger(name).setLevel(logging.INFO)
    leave_when_asked()
    if sys.argv[1:2] == ["verify"]:
        verify.main(sys.argv[2:])
        return
    parser = _parser()
    arguments = parser.parse_args()
    wanted = _wanted(parser, arguments)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)

    # ---- the run, and graphs that it can be exported as ------------------------------------------
    run, dataset, model = open_run(arguments.run, arguments.data)
    sources = graph_sources(model, to_tensors(dataset.batch(example_cases(dataset))))

    # ---- the bundle, whole or not at all -------------------------------------------------------
    out = arguments.out.resolve()  # a link stays one, and what it names is replaced
    found: dict[str, Any] = {}
    sweep(out)
    with ExitStack() as until_in_place:

        def fill(draft: Path) -> None:
            until_in_place.enter_context(held(draft))
            found.update(_fill(draft, run, dataset, model, sources, wanted, arguments))

        bundle = write_bundle(out, fill, lambda: found)
    print(f"{arguments.out}: {bundle.task.name} {bundle.manifest.version}")
    for build in bundle.manifest.builds:
        metric = build.metrics.get(run.task.metric, float("nan"))
        print(
            f"  {build.name:16} {build.bytes / 2**20:8.1f} MiB, differs from the model by at most "
            f"{max(build.parity.values()):.1e}, {run.task.metric} {shown(metric, 4)}"
        )


def _fill(
    draft: Path,
    run: Run,
    dataset: Dataset,
    model: Lanistr,
    sources: Mapping[str, GraphSource],
    wanted: Sequence[tuple[Runtime, Precision]],
    arguments: argparse.Namespace,
) -> dict[str, Any]:
    """Write all files but the manifest; return the fields of that one."""
    # ---- how good the model is ------------------------------------------------------------------
    tested, calibration = labelled_cases(dataset), run.calibration()
    logits = predict(model, dataset, tested, torch.device("cpu"))
    outputs, decision = logits / calibration.temperature, calibration.decision
    report = {"about": about(run, dataset, "test")} | evaluate(outputs, dataset, tested, decision)
    few = evenly(len(tested), arguments.cases)

    # ---- what it makes of real cases, and of inputs made by chance ------------------------------
    reference, proof = Reference.of(model, dataset, chosen_cases(dataset)), make_proof(model)
    before = figures(logits[few], dataset, tested[few], calibration)
    expected = BuildReference(model, reference, proof, dataset, tested[few], before, calibration)
    np.savez(draft / PROOF, allow_pickle=False, **proof)

    # ---- what a reader needs beside the graphs --------------------------------------------------
    preprocessor = run.preprocessor()
    preprocessor.save(draft)
    for file, said in (
        (TASK, run.task.model_dump(mode="json")),
        (ARRAYS, preprocessor.describe()),
        (CALIBRATION, calibration.model_dump(mode="json")),
    ):
        write_json(draft / file, said)

    # ---- the graphs, in every build that is good enough -----------------------------------------
    builds: list[Build] = []
    writer = Writer(draft, sources)
    for runtime, precision in wanted:
        try:
            build = make_build(writer, expected, runtime, precision)
            check_fit(build, run.task.metric, arguments.most_fall)
        except BundleError as unfit:
            if precision == "fp32" or arguments.precision:
                raise
            log.warning("not exported: %s", unfit)
        else:
            builds.append(build)
    writer.keep(builds)
    card = model_card(run, dataset, report, builds, len(few), arguments.license)
    (draft / CARD).write_text(card, encoding="utf-8")
    return {
        "task": run.task.name,
        "name": arguments.name or _name(arguments.run),
        "source_run": str(arguments.run),
        "license": arguments.license,
        "width": model.fusion.width,
        "demo": run.config.synthetic,
        "builds": builds,
        "extent": reference.extent(len(few)),
        "metric": run.task.metric,
        "metrics": figures(logits, dataset, tested, calibration),
        "most_fall": arguments.most_fall,
        "trained_on": report["about"]["trained_on_hash"],
        "measured_on": report["about"]["data_hash"],
        "software": versions() | {each: version(each) for each in ("onnx", "onnxruntime")},
    }


def _wanted(
    parser: CommandParser, arguments: argparse.Namespace
) -> list[tuple[Runtime, Precision]]:
    """Return runtimes and precisions, those at float32 first."""
    offered = [
        (runtime, precision)
        for precision in PRECISIONS
        for runtime in OFFERED
        if runtime in arguments.formats and precision in OFFERED[runtime]
    ]
    for asked in arguments.precision or ():
        if asked not in (precision for _, precision in offered):
            parser.error(
                f"--precision {asked} is not available with --formats {' '.join(arguments.formats)}"
            )
    return [each for each in offered if each[1] in (arguments.precision or USUAL)]


def _points(word: str) -> float:
    try:
        points = float(word)
    except ValueError:
        points = math.nan
    if not math.isfinite(points):
        raise argparse.ArgumentTypeError(f"seen {word!r}; accepted: a finite number of points")
    return points


def _cases(word: str) -> int:
    cases = int(word) if word.isdecimal() else 0
    if cases < 1:
        raise argparse.ArgumentTypeError(f"seen {word!r}; accepted: 1 or more")
    return cases


def _words(words: str) -> str:
    if not words.strip():
        raise argparse.ArgumentTypeError(f"seen {words!r}; accepted: at least one word")
    return _unicode(words.strip())


def _run(word: str) -> Path:
    """Take the folder of a run: its path and name are to stand in the manifest."""
    folder = Path(_unicode(word))
    _unicode(_name(folder))
    return folder


def _name(folder: Path) -> str:
    """Return the name of a folder, also of "."; a link, such as `best`, has its own."""
    return (folder if folder.is_symlink() else folder.resolve()).name


def _unicode(words: str) -> str:
    try:
        words.encode()
    except UnicodeEncodeError:  # bytes that are no UTF-8 come as lone surrogates
        raise argparse.ArgumentTypeError(f"seen {words!r}; accepted: text in UTF-8") from None
    return words


def _parser() -> CommandParser:
    parser = CommandParser(
        prog="python -m export",
        description="Export a fine-tuned run as a bundle, and check that its outputs agree.",
        epilog=f"examples:\n  {EXAMPLE}\n  {verify.EXAMPLE}",
    )
    parser.add_argument("--run", required=True, type=_run, help="fine-tuned run")
    parser.add_argument("--out", required=True, type=Path, help="bundle to write")
    parser.add_argument("--data", type=Path, help="prepared data (default: the run's)")
    parser.add_argument("--name", type=_words, help="name of the model (default: the run's)")
    formats = list(OFFERED)
    parser.add_argument(
        "--formats", nargs="+", choices=formats, default=formats, help="formats of the model (both)"
    )
    parser.add_argument(
        "--precision",
        nargs="+",
        choices=PRECISIONS,
        help="precisions to build: fp32; int8 and fp16 (onnx); bf16 (torchscript). Default: fp32, "
        "and int8 if the task's metric does not suffer",
    )
    parser.add_argument(
        "--most-fall",
        type=_points,
        default=MOST_FALL,
        metavar="POINTS",
        help="how much a reduced precision may cost of the task's metric on the test split "
        f"({MOST_FALL:g}; a point is 0.01 of AUROC and the like, 1%% of RMSE and the like)",
    )
    parser.add_argument(
        "--cases",
        type=_cases,
        metavar="N",
        help="number of labelled cases of the test split, drawn evenly, to measure the metric of "
        "builds on (all)",
    )
    parser.add_argument(
        "--license",
        type=_words,
        default="not stated",
        help="license of the weights, for the model card",
    )
    return parser


if __name__ == "__main__":
    run_command(main)
