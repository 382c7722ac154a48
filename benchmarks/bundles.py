"""Bundles to measure: of a model of some size with next to random weights, or of none at all.

    python -m benchmarks.bundles --size paper --work build/paper

writes `build/paper/bundle`; for a GPU, `--formats torchscript --precision fp32 bf16`.
"""

import argparse
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from benchmarks.commands import Spent, call
from benchmarks.pretraining_step import NOTES
from benchmarks.records import prepare_records
from benchmarks.sizes import SIZES, Size
from export.builds import OFFERED, PRECISIONS
from lanistr.bundle import Bundle, write_bundle
from lanistr.command import CommandParser, run_command
from lanistr.manifest import Graph
from lanistr.modalities import Modality
from lanistr.tasks import find_task
from training.experiments.jobs import overrides
from training.recipe import FinetuneRecipe, load_recipe

_RECORDS, _LABELS = 100, 8
_VOCABULARY = 30522
"""Words of BERT's vocabulary, which the paper's sizes have."""


def main() -> None:
    """Make a bundle as the command line says."""
    arguments = _parser().parse_args()
    run = made_run(arguments.work, SIZES[arguments.size], ())
    exported(run, arguments.work / "bundle", arguments.formats, arguments.precision)


def made_run(work: Path, size: Size, settings: Sequence[str]) -> Path:
    """Return a run of one epoch over a handful of made-up stays; made if it is not there.

    Args:
        work: the folder for data and run.
        size: of the model.
        settings: of the recipe.
    """
    data, run = work / "data", work / "run"
    if not data.exists():
        words = int(str(size.model.get("model.text.vocab_size", _VOCABULARY)))
        prepare_records(data, find_task("mortality"), size, _RECORDS, NOTES, vocabulary=words)
    if not (run / "calibration.json").exists():
        parts = load_recipe("mortality", "finetune", FinetuneRecipe, ()).model
        short = (f"labels={_LABELS}", f"optim.batch_size={_LABELS}", "optim.epochs=1")
        call(
            *("training.finetune", "--recipe", "mortality", "--data", data, "--out", run),
            *overrides([*size.overrides({*parts, *Modality}), *short, "runtime.workers=0"]),
            *overrides(["freeze_encoders=false", *settings]),
        )
    return run


def exported(run: Path, place: Path, formats: Sequence[str], precisions: Sequence[str]) -> Spent:
    """Export by the ordinary command, on all cores, whatever the metric loses.

    Args:
        run: a fine-tuned run.
        place: of the bundle.
        formats: of the graphs.
        precisions: of them.
    """
    return call(
        *("export", "--run", run, "--out", place, "--most-fall", "1000"),
        *("--formats", *formats, "--precision", *precisions),
        threads=os.cpu_count() or 1,
    )


def verified(place: Path, formats: Sequence[str]) -> Spent:
    """Verify a bundle by the ordinary command, on all cores."""
    return call("export", "verify", place, "--formats", *formats, threads=os.cpu_count() or 1)


def without_model(bundle: Bundle, place: Path) -> Bundle:
    """Write a bundle that predicts without computing: what its servers cost is all their own.

    Its proof is still that of the other's graphs.

    Args:
        bundle: whose task and preprocessing it has.
        place: of the new one.
    """
    build = bundle.build("onnx", "fp32")
    files = {graph.file: graph for graph in build.graphs.values()}
    others = {g.file for each in bundle.manifest.builds for g in each.graphs.values()}

    def fill(draft: Path) -> None:
        for name in bundle.manifest.files.keys() - others:
            shutil.copy(bundle.folder / name, draft / name)
        for name, graph in files.items():
            (draft / name).parent.mkdir(parents=True, exist_ok=True)
            onnx.save(_zeros(graph), draft / name)

    def describe() -> dict[str, Any]:
        said = bundle.manifest.model_dump(exclude={"format", "version", "created", "files"})
        return said | {"name": "nothing", "builds": [build], "demo": True}

    return write_bundle(place, fill, describe)


def _zeros(graph: Graph) -> onnx.ModelProto:
    """Return a graph with the same inputs and outputs that returns zeros.

    An axis of an output that is left open is as long as the same axis of the first input.
    """
    first = next(iter(graph.inputs))
    nodes, numbers = [], []
    for name, tensor in graph.outputs.items():
        sizes = [f"{name}_{axis}" for axis in range(len(tensor.shape))]
        for axis, (size, known) in enumerate(zip(sizes, tensor.shape, strict=True)):
            if isinstance(known, str):
                end = axis + 1
                nodes.append(helper.make_node("Shape", [first], [size], start=axis, end=end))
            else:
                numbers.append(helper.make_tensor(size, TensorProto.INT64, [1], [known]))
        nodes.append(helper.make_node("Concat", sizes, [f"{name}_shape"], axis=0))
        nodes.append(helper.make_node("ConstantOfShape", [f"{name}_shape"], [name]))
    sides = [
        [
            helper.make_tensor_value_info(
                name, helper.np_dtype_to_tensor_dtype(np.dtype(each.dtype)), each.shape
            )
            for name, each in side.items()
        ]
        for side in (graph.inputs, graph.outputs)
    ]
    made = helper.make_graph(nodes, "zeros", *sides, initializer=numbers)
    return helper.make_model(
        made, opset_imports=[helper.make_opsetid("", 20)], ir_version=onnx.IR_VERSION_2024_3_25
    )


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="python -m benchmarks.bundles",
        description="Make a bundle of a model with next to random weights.",
        epilog="example:\n  python -m benchmarks.bundles --size paper --work build/paper",
    )
    parser.add_argument("--size", choices=tuple(SIZES), default="paper", help="(the paper's)")
    parser.add_argument(
        "--work", type=Path, required=True, help="folder for data, run and bundle, kept"
    )
    parser.add_argument(
        "--formats", nargs="+", choices=tuple(OFFERED), default=["onnx"], help="of graphs (onnx)"
    )
    parser.add_argument(
        "--precision",
        nargs="+",
        choices=PRECISIONS,
        default=["fp32", "int8"],
        help="of them (fp32 int8); with torchscript: fp32 bf16",
    )
    return parser


if __name__ == "__main__":
    run_command(main)
