"""Command-line options that commands of training share, and checks of their values."""

import argparse
from pathlib import Path

import torch

from lanistr.command import CommandParser
from lanistr.errors import ConfigError


def training_parser(stage: str, description: str, example: str) -> argparse.ArgumentParser:
    """Return a parser with the options of both stages."""
    parser = CommandParser(
        prog=f"python -m training.{stage}",
        description=description,
        epilog=f"example:\n  {example}",
    )
    parser.add_argument(
        "--recipe", required=True, help=f"name in training/recipes/{stage}, or path of a .yaml file"
    )
    parser.add_argument("--data", type=Path, help="prepared data set")
    parser.add_argument("--out", type=Path, help="run folder to create")
    parser.add_argument("--init", type=Path, help="run to start from, by its weights")
    add_overrides(parser, "override a value of the recipe, such as optim.lr=1e-4")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ... (auto)")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="print configuration, parameter counts and FLOPs as JSON, then stop; needs no data",
    )
    return parser


def add_overrides(parser: argparse.ArgumentParser, purpose: str) -> None:
    """Add the option `--set PATH=VALUE`, whose values become `overrides`.

    Args:
        parser: of a command.
        purpose: what such a value is for.
    """
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="PATH=VALUE",
        dest="overrides",
        help=f"{purpose}; may be repeated",
    )


def require_paths(arguments: argparse.Namespace) -> None:
    """Check that the paths are given which only a real run needs.

    Raises:
        ConfigError: data or out is missing.
    """
    for name in ("data", "out"):
        if getattr(arguments, name) is None:
            raise ConfigError("missing", field=f"--{name}", accepted="a folder (or --dry-run)")


def check_count(option: str, value: int | None, least: int = 1) -> None:
    """Check a count that an option gives; None: the option was left out.

    Raises:
        ConfigError: it is below the least.
    """
    if value is not None and value < least:
        raise ConfigError("too few", field=option, seen=value, accepted=f"{least} or more")


def check_seed(option: str, value: int) -> None:
    """Check the seed of random draws.

    Raises:
        ConfigError: it is out of range.
    """
    if not 0 <= value < 2**32:
        raise ConfigError("not a seed", field=option, seen=value, accepted="0 to 4294967295")


def choose_device(name: str) -> torch.device:
    """Return the device; auto takes the GPU where there is one.

    Raises:
        ConfigError: there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device).tolist()  # on a device without memory, that fails
    except (RuntimeError, AssertionError, NotImplementedError) as exc:
        raise ConfigError(
            "no such device",
            field="--device",
            seen=name,
            accepted="auto, cpu, or an available GPU",
        ) from exc
    return device
