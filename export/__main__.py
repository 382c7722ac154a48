"""`python -m export`: turn a fine-tuned run into a bundle; `python -m export verify`: try one."""

import argparse
import json
import logging
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from export import verify
from export.builds import (
    MOST_FALL,
    OFFERED,
    PRECISIONS,
    USUAL,
    Standard,
    Writer,
    check_fit,
    make_build,
)
from export.card import model_card
from export.cases import chosen_cases, example_cases
from export.graphs import graph_sources
from export.parity import Reference, make_proof
from lanistr.bundle import ARRAYS, CALIBRATION, CARD, PROOF, TASK, write_bundle
from lanistr.command import CommandParser, run_command
from lanistr.errors import BundleError
from lanistr.manifest import Build, Precision, Runtime
from lanistr.model.checkpoint import from_pretrained
from lanistr.model.lanistr import Lanistr
from lanistr.model.tensors import to_tensors
from training.data.store import Dataset
from training.evaluate import evaluate
from training.predict import predict
from training.run import Run, check_fits, check_predicts, versions

EXAMPLE = "python -m export --run runs/stays-ft --out bundles/mortality"

log = logging.getLogger("export")


def main() -> None:
    """Export, or verify, as the command line says."""
    logging.basicConfig(format="%(message)s")
    logging.getLogger("export").setLevel(logging.INFO)
    if sys.argv[1:2] == ["verify"]:
        verify.main(sys.argv[2:])
        return
    parser = _parser()
    arguments = parser.parse_args()
    wanted = _wanted(parser, arguments)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)

    # ---- the run and real cases ----------------------------------------------------------------
    run = Run.open(arguments.run)
    dataset = Dataset.open(arguments.data or Path(run.config.data))
    check_predicts(run, dataset)
    check_fits(run, dataset)
    model = from_pretrained(run.model_folder, Lanistr)
    test, temperature = dataset.rows("test", labelled=True), run.calibration().temperature
    report = evaluate(
        predict(model, dataset, test, torch.device("cpu")) / temperature, dataset, test
    )
    metrics = {name: each for name, each in report["all"]["metrics"].items() if each is not None}

    # ---- what the model makes of them, and of inputs made by chance -----------------------------
    examples = example_cases(dataset)
    reference = Reference.of(model, dataset, chosen_cases(dataset))
    proof = make_proof(model)
    standard = Standard(model, reference, proof, dataset, metrics, temperature)

    # ---- the bundle, whole or not at all -------------------------------------------------------
    builds: list[Build] = []

    def fill(draft: Path) -> None:
        (draft / TASK).write_text(_json(run.task.model_dump(mode="json")), encoding="utf-8")
        preprocessor = run.preprocessor()
        preprocessor.save(draft)
        (draft / ARRAYS).write_text(_json(preprocessor.describe()), encoding="utf-8")
        calibration = run.calibration().model_dump(mode="json")
        (draft / CALIBRATION).write_text(_json(calibration), encoding="utf-8")
        np.savez(draft / PROOF, allow_pickle=False, **proof)
        writer = Writer(draft, graph_sources(model, to_tensors(dataset.batch(examples))))
        for runtime, precision in wanted:
            try:
                build = make_build(writer, standard, runtime, precision)
                check_fit(build, run.task.metric, arguments.most_fall)
            except BundleError as unfit:
                if precision == "fp32" or arguments.precision:
                    raise
                log.warning("left out: %s", unfit)
            else:
                builds.append(build)
        writer.keep(builds)
        card = model_card(run, dataset, report, builds, arguments.license)
        (draft / CARD).write_text(card, encoding="utf-8")

    bundle = write_bundle(
        arguments.out,
        fill,
        lambda: {
            "task": run.task.name,
            "name": arguments.name or arguments.run.name,
            "source_run": str(arguments.run),
            "license": arguments.license,
            "width": model.config.fusion.width,
            "demo": run.config.synthetic,
            "builds": builds,
            "extent": reference.extent(),
            "metric": run.task.metric,
            "metrics": metrics,
            "software": versions() | {each: version(each) for each in ("onnx", "onnxruntime")},
        },
    )
    print(f"{arguments.out}: {bundle.task.name} {bundle.manifest.version}")
    for build in bundle.manifest.builds:
        metric = build.metrics.get(run.task.metric, float("nan"))
        print(
            f"  {build.name:16} {build.bytes / 2**20:8.1f} MiB, differs from the model by "
            f"{max(build.parity.values()):.1e} at most, {run.task.metric} {metric:.4f}"
        )


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
                f"--precision {asked} is not offered with --formats {' '.join(arguments.formats)}"
            )
    return [each for each in offered if each[1] in (arguments.precision or USUAL)]


def _json(value: object) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def _parser() -> CommandParser:
    parser = CommandParser(
        prog="python -m export",
        description="Turn a fine-tuned run into a bundle, and prove that it computes the same.",
        epilog=f"examples:\n  {EXAMPLE}\n  {verify.EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--run", required=True, type=Path, help="fine-tuned run")
    parser.add_argument("--out", required=True, type=Path, help="bundle to write")
    parser.add_argument("--data", type=Path, help="prepared data (default: the run's)")
    parser.add_argument("--name", help="name of the model (default: the run's)")
    formats = list(OFFERED)
    parser.add_argument(
        "--formats", nargs="+", choices=formats, default=formats, help="of the graphs (both)"
    )
    parser.add_argument(
        "--precision",
        nargs="+",
        choices=PRECISIONS,
        help="fp32; int8 and fp16, for onnx; bf16, for torchscript. Left out: fp32, and int8 if "
        "the task's metric holds",
    )
    parser.add_argument(
        "--most-fall",
        type=float,
        default=MOST_FALL,
        metavar="POINTS",
        help="what a reduced precision may lose of the task's metric on the test split "
        f"({MOST_FALL:g}; a point is 0.01 of AUROC and the like, 1%% of RMSE and the like)",
    )
    parser.add_argument("--license", default="not stated", help="of the weights, for the card")
    return parser


if __name__ == "__main__":
    run_command(main)
