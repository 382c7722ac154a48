"""How fast the torch backend answers on a GPU, beside the model's own bound on that card.

    python -m benchmarks.bundles --size paper --work build/paper --formats torchscript \\
        --precision fp32 bf16
    python -m benchmarks.gpu_serving --bundle build/paper/bundle
    python -m benchmarks.gpu_serving --bundle BUNDLE --device cpu --precision fp32   # that it runs

In one run and on one fixed workload (`benchmarks.workload`), predictions a second of

    bound       the graphs alone (`benchmarks.bound`), in batches of several sizes
    lanistr     the service with `--backend torch`, its cache switched off, in one process
    lanistr x n the same with n front-end processes (`--workers`)

and how long requests take, by the number of clients. Clients are dealt out to several processes,
as one can send no more than is said. Every case is another while it is asked for: equal ones that
meet are computed once. Answers are held against the same graphs in float32 on the CPU.

Prints tables, then one line of JSON.
"""

import argparse
import json
import os
import platform
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.answers import (
    HEAD,
    Probabilities,
    Row,
    distance,
    in_words,
    off_by,
    refuse_wrong,
    summary,
)
from benchmarks.bound import Alone, probabilities
from benchmarks.load import Senders
from benchmarks.pace import by_turns, device_name, figure, spread
from benchmarks.servers import HOST, running
from benchmarks.servers.model import CORES
from benchmarks.workload import as_features, workload
from lanistr.batch import Features
from lanistr.bundle import Bundle
from lanistr.command import CommandParser, run_command
from lanistr.manifest import Precision
from training.arguments import check_count, choose_device

CLIENTS = (1, 8, 32, 128)
BATCHES = (1, 32, 128)

_CLOSE: Mapping[Precision, float] = {"fp32": 1e-4, "bf16": 2e-2}
"""How far a probability may be off that of the graphs in float32 on the CPU."""

_TOGETHER = 8
"""Cases of a batch on the CPU, where nothing is measured."""


def main() -> None:
    """Measure as the command line says."""
    arguments = _parser().parse_args()
    for name in ("cases", "checked", "senders", "repetitions"):
        check_count(f"--{name}", getattr(arguments, name))
    check_count("--clients", min(arguments.clients))
    check_count("--batch", min(arguments.batch))
    device = choose_device(arguments.device)
    bundle = Bundle.open(arguments.bundle)
    records = workload(bundle, arguments.cases, seed=0)
    cases = [as_features(each, bundle) for each in records]
    bodies = [json.dumps(each).encode() for each in records]
    found: dict[str, Any] = {
        "device": device_name(device),
        "precision": arguments.precision,
        "torch": torch.__version__,
        "cores": CORES,
    }
    print(platform.platform(), found)
    right = _right(bundle, cases[: arguments.checked])
    found["bound"] = _bound(bundle, device, cases, right, arguments)
    limit = max(row["rate"]["median"] for row in found["bound"])
    found["one_sender"] = _one_sender(bodies, arguments)
    path = f"/predict/{bundle.task.name}"
    with closing(Senders(arguments.senders, HOST, path, bodies)) as senders:
        found["service"] = _service(senders, limit, right, arguments)
    print(json.dumps(found))


def _right(bundle: Bundle, cases: Sequence[Features]) -> dict[int, Probabilities]:
    alone = Alone(bundle, torch.device("cpu"), "fp32")
    return dict(enumerate(probabilities(bundle, alone(alone.batches(cases, _TOGETHER)))))


def _bound(
    bundle: Bundle,
    device: torch.device,
    cases: Sequence[Features],
    right: Mapping[int, Probabilities],
    arguments: argparse.Namespace,
) -> list[Row]:
    """Return predictions a second of the graphs alone, by the size of batches."""
    alone = Alone(bundle, device, arguments.precision)
    ready = {f"batches of {size}": alone.batches(cases, size) for size in arguments.batch}
    ways = {name: partial(alone, each) for name, each in ready.items()}
    seconds = by_turns(ways, arguments.repetitions)
    rows: list[Row] = [
        {
            "way": name,
            "rate": figure(len(cases) / each for each in seconds[name]),
            "differs": off_by(
                zip(probabilities(bundle, alone(batches)), right.values(), strict=False)
            ),
        }
        for name, batches in ready.items()
    ]
    print(f"\n{'bound':16} {'a second':>28} off by")
    for row in rows:
        print(f"{row['way']:16} {spread(row['rate']):>28} {distance(row['differs'])}", flush=True)
        refuse_wrong(row["way"], row["differs"], _CLOSE[arguments.precision])
    return rows


def _one_sender(bodies: Sequence[bytes], arguments: argparse.Namespace) -> float:
    """Return requests a second that one process sends to a server that looks at none."""
    with (
        running(["benchmarks.servers.trivial"]) as server,
        closing(Senders(1, HOST, "/", bodies)) as sender,
    ):
        rate = sender.send(server.port, max(arguments.clients), arguments.seconds).rate
    print(f"\none process of clients sends {rate:.0f} requests a second at most")
    return rate


def _service(
    senders: Senders,
    limit: float,
    right: Mapping[int, Probabilities],
    arguments: argparse.Namespace,
) -> list[Row]:
    """Return what the service does, in one process and several, by the number of clients."""
    words = ["service", "--bundles", str(arguments.bundle), "--cache-bytes", "0"]
    words += ["--backend", "torch", "--device", arguments.device]
    words += ["--precision", arguments.precision]
    rows: list[Row] = []
    print(HEAD)
    for name, workers in (("lanistr", 0), (f"lanistr x {arguments.workers}", arguments.workers)):
        with (
            arguments.log.open("ab") as log,
            running([*words, "--workers", str(workers)], log=log) as server,
        ):
            for clients in arguments.clients:
                senders.send(server.port, clients, arguments.warm)
                taken = [
                    senders.send(server.port, clients, arguments.seconds)
                    for _ in range(arguments.repetitions)
                ]
                row = {"server": name, "clients": clients} | summary(taken, right)
                share = figure(each.rate / limit for each in taken)
                rows.append(row | {"share": share})
                print(in_words(row, share), flush=True)
                refuse_wrong(name, row["differs"], _CLOSE[arguments.precision])
    return rows


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="python -m benchmarks.gpu_serving",
        description="Measure the torch backend on a GPU beside the model's bound on that card.",
        epilog="example:\n  python -m benchmarks.gpu_serving --bundle build/paper/bundle",
    )
    parser.add_argument("--bundle", type=Path, required=True, help="of stays, with TorchScript")
    parser.add_argument("--device", default="cuda", help="cpu, or a GPU (cuda)")
    parser.add_argument(
        "--precision", choices=tuple(_CLOSE), default="bf16", help="of the graphs (bf16)"
    )
    parser.add_argument(
        "--workers", type=int, default=CORES // 2, help="front-end processes (half the cores)"
    )
    parser.add_argument(
        "--senders",
        type=int,
        default=max(1, CORES // 4),
        help="processes of clients (a quarter of the cores)",
    )
    parser.add_argument(
        "--clients", type=int, nargs="+", default=list(CLIENTS), help="(1 8 32 128)"
    )
    parser.add_argument("--batch", type=int, nargs="+", default=list(BATCHES), help="(1 32 128)")
    parser.add_argument("--cases", type=int, default=512, help="of the workload (512)")
    parser.add_argument(
        "--checked", type=int, default=32, help="of them, whose answers are checked (32)"
    )
    parser.add_argument("--seconds", type=float, default=5, help="of each load (5)")
    parser.add_argument("--warm", type=float, default=5, help="seconds of it before (5)")
    parser.add_argument("--repetitions", type=int, default=3, help="of every figure (3)")
    parser.add_argument(
        "--log", type=Path, default=Path(os.devnull), help="file for the service's log (none)"
    )
    return parser


if __name__ == "__main__":
    run_command(main)
