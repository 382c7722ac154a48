"""`python -m training.convert`: bring a checkpoint of the research release into our format.

Beside `model/` stands `config.json`, which says where the model came from. The release stores
neither task nor preprocessing, so the folder is no run to fine-tune, evaluate or export.
"""

import argparse
from pathlib import Path
from typing import Any, Literal

import torch

from lanistr.command import CommandParser, run_command
from lanistr.draft import is_free
from lanistr.errors import ConfigError
from lanistr.jsonfile import write_json
from lanistr.leftovers import swept_draft
from lanistr.model.checkpoint import fill, save_pretrained, weights
from lanistr.model.config import LanistrConfig
from lanistr.model.lanistr import Lanistr, count_parameters
from lanistr.model.pretraining import LanistrForPretraining
from lanistr.schema import Schema
from training import released
from training.arguments import add_overrides
from training.data.store import file_hash
from training.recipe import override
from training.run import CONFIG, MODEL, versions

EXAMPLE = (
    "python -m training.convert --released pretrain_multimodal_model_best.pth.tar"
    " --dataset mimic --out runs/released"
)


class Origin(Schema):
    """What `config.json` says of a converted model.

    Attributes:
        stage: the release's stage that made it.
        dataset: what it was trained on.
        released: the file, with its hash.
        chosen: sizes that the command line gave.
        parameters: count by module.
    """

    converted: Literal[True] = True
    stage: Literal["pretrain", "finetune"]
    dataset: str
    released: str
    sha256: str
    chosen: list[str]
    parameters: dict[str, int]
    versions: dict[str, str]


def main() -> None:
    """Convert as the command line says."""
    arguments = _parser().parse_args()
    out: Path = arguments.out
    if not is_free(out):
        raise ConfigError(
            "the folder exists",
            code="exists",
            field=str(out),
            accepted="a new folder, or an empty one",
        )

    # ---- names and sizes -----------------------------------------------------------------------
    tensors = released.translate(released.read(arguments.released))
    stage = released.stage(tensors)
    sizes = released.sizes(tensors, arguments.dataset)
    for each in arguments.overrides:
        override(sizes, each)
    _check_heads(sizes)
    config = LanistrConfig.parse(sizes, ConfigError, "--set")

    # ---- the model -----------------------------------------------------------------------------
    model: Lanistr | LanistrForPretraining
    if stage == "pretrain":
        model = LanistrForPretraining(config)
        apart = ("pretexts.", "projector.", "predictor.")
        tensors = {n if n.startswith(apart) else f"core.{n}": t for n, t in tensors.items()}
    else:
        model = Lanistr(config)
    # The release's number is in its own unit, as ours is before `Units` is fitted.
    units = {n: each for n, each in weights(model).items() if n.startswith("head.link.")}
    fill(model, _once(model, tensors | units), str(arguments.released))

    # ---- the folder, whole or not at all -------------------------------------------------------
    counts = count_parameters(model)
    origin = Origin(
        stage=stage,
        dataset=arguments.dataset,
        released=str(arguments.released),
        sha256=file_hash(arguments.released),
        chosen=arguments.overrides,
        parameters=counts,
        versions=versions(),
    )
    with swept_draft(out.resolve(), new=True) as draft:  # where a link leads to
        save_pretrained(model.eval(), draft / MODEL)
        write_json(draft / CONFIG, origin.model_dump(mode="json"))
    name = type(model).__name__
    print(
        f"{out}: {name} with {sum(counts.values()):,} parameters; load it with "
        f"from_pretrained({out / MODEL})"
    )


def _check_heads(sizes: dict[str, Any]) -> None:
    """Check that the usual numbers of heads can be those of this model.

    Raises:
        ConfigError: they cannot; no tensor tells them.
    """
    for part in released.HEADS:
        if part not in sizes:
            continue
        heads, width = ((sizes[part] or {}).get(each) for each in ("heads", "width"))
        if isinstance(heads, int) and isinstance(width, int) and heads > 0 and width % heads:
            raise ConfigError(
                "the checkpoint does not store the number of attention heads, and"
                f" {heads} does not divide the width {width}",
                field=f"{part}.heads",
                accepted=f"--set {part}.heads=N",
            )


def _once(model: torch.nn.Module, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return tensors by the first of their names: TabNet has some layers in several places.

    Raises:
        CheckpointError: places that share a layer hold different ones.
    """
    first: dict[int, str] = {}
    alike = {
        name: first.setdefault(id(each), name)
        for name, each in model.state_dict(keep_vars=True).items()
    }
    single: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        released.add(single, alike.get(name, name), tensor)
    return single


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="python -m training.convert",
        description="Convert a checkpoint of the research release (a .pth.tar file).",
        epilog=f"example:\n  {EXAMPLE}",
    )
    parser.add_argument("--released", required=True, type=Path, help="the checkpoint")
    parser.add_argument(
        "--dataset",
        required=True,
        choices=sorted(released.DATASETS),
        help="data set that it was trained on",
    )
    parser.add_argument("--out", required=True, type=Path, help="folder to create")
    add_overrides(parser, "give a size that cannot be read from the tensors, such as text.heads=16")
    return parser


if __name__ == "__main__":
    run_command(main)
