"""How fast the service answers, beside the graphs alone and every other server there is.

    python -m benchmarks.bundles --size paper --work build/paper
    python -m benchmarks.serving --paper build/paper/bundle
    python -m benchmarks.serving                                  # the demo stays alone

One fixed workload (`benchmarks.workload`) is sent by 1, 8 and 32 clients at a time to

    raw         the graphs alone (`benchmarks.raw`), the limit
    naive       FastAPI, one case after another
    bare        an ASGI function and a thread a core, with nothing around
    litserve    LitServe, batching
    ray         Ray Serve, batching
    bentoml     BentoML, batching
    lanistr     the service, its cache switched off
    lanistr / n the same with a core a case (`--device cpu,cpu`), n cases at a time
    lanistr x n the same with a front-end process a core (`--workers`)

all in one run and by turns, each alone on the machine while it is its turn. What each was told is
written in its module under `benchmarks/servers`. The batching servers are the extra
`peers`; those that are not installed are left out. The same is done with a bundle that has no model
in it and the smallest case: what is left is the server. Beside good requests some bring a broken
picture: how many of the good ones fail? And to the service, with and without its cache, cases come
again an hour later. Every answer is held against that of the graphs alone.

A ratio is that of a turn, of which the median is given with the lowest and the highest: the
machine's speed drifts, and only what stands close together in time can be compared.

Prints tables, what came of the targets, then one line of JSON.
"""

import argparse
import json
import platform
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks.answers import (
    HEAD,
    Row,
    answered,
    furthest,
    in_words,
    rate_ratio,
    refuse_wrong,
    summary,
)
from benchmarks.bundles import without_model
from benchmarks.load import Load
from benchmarks.pace import figure, ratios, spread
from benchmarks.raw import Raw
from benchmarks.servers import Server, running
from benchmarks.servers.model import CORES
from benchmarks.setting import (
    ABREAST,
    CACHE_BYTES,
    CACHED,
    OTHERS,
    OURS,
    SPREAD,
    Setting,
    installed,
)
from benchmarks.targets import Target, judge
from benchmarks.workload import an_hour_later, broken, check_stays
from export.builds import OFFERED
from lanistr.bundle import Bundle
from lanistr.command import CommandParser, run_command
from lanistr.errors import ConfigError
from lanistr.manifest import Precision
from service.settings import DEMO_BUNDLES
from training.arguments import check_count

CLIENTS = (1, 8, 32)

PARTS = ("nothing", "tiny", "paper")
"""What is served: no model at all, the bundle `--tiny`, the bundle `--paper` where it is given."""

_AGAIN = 12
"""Cases that come again; the cache holds them, at the paper's sizes too."""

_WARM = 16
"""Requests before anything is measured."""

_FEW = 8
"""Clients where their number is not what is asked about; and of so many pictures one is broken."""

_CLOSE = 1e-4
"""How far a probability may be off that of the graphs alone."""


def main() -> None:
    """Measure as the command line says."""
    arguments = _parser().parse_args()
    for name in ("cases", "requests", "paper_requests", "repetitions"):
        check_count(f"--{name.replace('_', '-')}", getattr(arguments, name))
    check_count("--clients", min(arguments.clients))
    about = {"versions": _versions(), "cores": CORES}
    print(platform.platform(), about)
    for name in sorted(OTHERS.keys() - installed()):
        print(f"{name} is left out: {OTHERS[name][1]} is not installed (the extra `peers`)")
    found: dict[str, list[Row]] = {each: [] for each in ("rates", "again", "memory", "neighbours")}
    with tempfile.TemporaryDirectory() as folder:
        for settings in [*_settings(arguments, Path(folder))]:  # a mistake in one shows at once
            with ExitStack() as stack:
                pairs = [(each, stack.enter_context(closing(each.raw()))) for each in settings]
                beside(pairs, arguments, found)
                for setting, raw in pairs:
                    if setting.cases:
                        again(setting, raw, arguments, found)
    judged = judge(found)
    _print_targets(judged)
    targets = [asdict(each) | {"met": each.met} for each in judged]
    print(json.dumps(about | found | {"targets": targets}))


def beside(
    settings: Sequence[tuple[Setting, Raw]],
    arguments: argparse.Namespace,
    found: Mapping[str, list[Row]],
) -> None:
    """Send the workload to every server by turns; add to rates, memory and neighbours.

    Args:
        settings: of one bundle, which share their turns: what is compared stands close together.
        arguments: of the command line.
        found: is added to.
    """
    first = settings[0][0]
    records = first.records()
    order = [(number % len(records), None) for number in range(first.requests)]
    names = [name for name in first.commands() if name != CACHED]
    loads: dict[Precision, dict[tuple[str, int], list[Load]]] = {
        setting.precision: defaultdict(list) for setting, _ in settings
    }
    for _, raw in settings:
        raw.run(order[:_WARM])  # as every server is warmed
    for turn in range(arguments.repetitions):
        for setting, raw in settings:
            loads[setting.precision]["raw", 1].append(raw.run(order))
        # There and back: a machine that grows slower is to no server's advantage.
        for name, (setting, _) in product(names[:: -1 if turn % 2 else 1], settings):
            with running(setting.commands()[name]) as server:
                setting.send(name, server, records, _FEW, _WARM)
                for clients in arguments.clients:
                    load = setting.send(name, server, records, clients, setting.requests)
                    loads[setting.precision][name, clients].append(load)
                if turn == 0:
                    found["memory"].append(_memory(setting, name, server))
                if turn == 0 and setting.name == "tiny":
                    found["neighbours"].append(_neighbours(setting, name, server, records))
    for setting, _ in settings:
        _add_rates(setting, loads[setting.precision], found)


def _add_rates(
    setting: Setting, loads: Mapping[tuple[str, int], Sequence[Load]], found: Mapping[str, Any]
) -> None:
    """Add the figures of loads, by server and clients, to rates; print all of the setting."""
    right = answered(loads["raw", 1][-1])
    rows = [
        setting.labels | {"server": name, "clients": clients} | summary(taken, right)
        for (name, clients), taken in sorted(loads.items(), key=lambda item: item[0][1])
    ]
    found["rates"].extend(rows)
    _print_rates(setting, rows)
    _print_rest(setting, found)
    for row in rows:
        if row["server"] in (OURS, ABREAST, SPREAD):
            refuse_wrong(row["server"], row["differs"], _CLOSE)


def again(
    setting: Setting, raw: Raw, arguments: argparse.Namespace, found: Mapping[str, list[Row]]
) -> None:
    """Send cases again, an hour later each time, to the service with and without its cache."""
    records = setting.records()
    whole = [i for i, each in enumerate(records) if {"text", "image", "timeseries"} <= {*each}]
    whole = whole[:_AGAIN]
    rates: dict[str, list[float]] = {OURS: [], CACHED: []}
    if not whole:
        print("an hour later: no case is complete, so that none comes again", flush=True)
        return
    differs = 0.0
    with ExitStack() as stack:
        servers = {name: stack.enter_context(running(setting.commands()[name])) for name in rates}
        # All of the workload first, so that both are warm and the cache is full; what is to come
        # again last.
        for first in (records, [records[i] for i in whole]):
            for name, server in servers.items():
                setting.send(name, server, first, _FEW, len(first))
        for turn in range(arguments.repetitions):
            numbers = range(turn * setting.requests, (turn + 1) * setting.requests)
            asked = [(whole[number % len(whole)], number) for number in numbers]
            bodies = [an_hour_later(records[which], number) for which, number in asked]
            truth = raw.run(asked[: len(whole)])
            for name, server in servers.items():
                load = setting.send(name, server, bodies, _FEW, len(bodies))
                rates[name].append(load.rate)
                off = furthest(load, answered(truth))
                refuse_wrong(name, off, _CLOSE)
                differs = max(differs, off or 0)
        found["memory"].append(_memory(setting, CACHED, servers[CACHED]))
    row = setting.labels | {
        "uncached": figure(rates[OURS]),
        "cached": figure(rates[CACHED]),
        "ratio": ratios(rates[CACHED], rates[OURS]),
        "differs": differs,
    }
    found["again"].append(row)
    said = (f"{name} {spread(row[name])}" for name in ("uncached", "cached", "ratio"))
    print(f"an hour later, a second: {', '.join(said)}", flush=True)


def _memory(setting: Setting, name: str, server: Server) -> Row:
    """Return the memory that a server has, the most that it had, and bytes of graphs and cache."""
    build = setting.bundle.build("onnx", setting.precision)
    files = setting.bundle.manifest.files
    return setting.labels | {
        "server": name,
        "after": server.bytes_now(),  # first: the peak is never below it then
        "peak": server.peak_bytes(),
        "graphs": sum(files[each].bytes for each in {g.file for g in build.graphs.values()}),
        "cache": CACHE_BYTES if name == CACHED else 0,
    }


def _neighbours(
    setting: Setting, name: str, server: Server, records: Sequence[Mapping[str, Any]]
) -> Row:
    """Send cases with pictures, some of them broken; return how many of the others failed."""
    pictured = [each for each in records if "image" in each]
    mixed = [broken(r) if k % _FEW == 0 else r for k, r in enumerate(pictured)]
    load = setting.send(name, server, mixed, _FEW, len(mixed))
    good, bad = [], set()
    for which, status in zip(load.sent, load.statuses, strict=True):
        if which % _FEW == 0:
            bad.add(status)
        else:
            good.append(status)
    failed = len(good) - good.count(200)
    return setting.labels | {
        "server": name,
        "good": len(good),
        "failed": failed,
        "bad": sorted(bad),
    }


# ---- what is asked ------------------------------------------------------------------------------


def _settings(arguments: argparse.Namespace, folder: Path) -> Iterator[list[Setting]]:
    """Yield the settings of one bundle after the other."""
    tiny, paper = Bundle.open(arguments.tiny), arguments.paper and Bundle.open(arguments.paper)
    for each in filter(None, (tiny, paper)):
        check_stays(each)
    if not paper and arguments.parts == ["paper"]:
        raise ConfigError("not given", field="--paper", accepted="what `benchmarks.bundles` makes")
    if "nothing" in arguments.parts:
        nothing = without_model(tiny, folder / "nothing")
        yield [Setting("nothing", nothing, "fp32", 0, 4 * arguments.requests)]
    for name, bundle, requests in (
        ("tiny", tiny, arguments.requests),
        ("paper", paper, arguments.paper_requests),
    ):
        if not bundle or name not in arguments.parts:
            continue
        for precision in arguments.precision:
            bundle.build("onnx", precision)
        yield [
            Setting(name, bundle, precision, arguments.cases, requests)
            for precision in dict.fromkeys(arguments.precision)
        ]


# ---- what came of it ----------------------------------------------------------------------------


def _print_rates(setting: Setting, rows: Sequence[Row]) -> None:
    limit = next(row for row in rows if row["server"] == "raw")
    print(f"\n{setting.name}, {setting.precision}, {setting.requests} requests")
    print(HEAD)
    for row in rows:
        print(in_words(row, rate_ratio(row, limit)), flush=True)


def _print_rest(setting: Setting, found: Mapping[str, Sequence[Row]]) -> None:
    memory, neighbours = (
        [row for row in found[each] if row.items() >= setting.labels.items()]
        for each in ("memory", "neighbours")
    )
    graphs = memory[0]["graphs"] / 2**20
    for which in ("peak", "after"):
        held = ", ".join(f"{row['server']} {row[which] / 2**20:.0f}" for row in memory)
        print(f"MiB, {which} ({graphs:.0f} of graphs): {held}")
    if neighbours:
        failed = ", ".join(f"{r['server']} {r['failed']} ({r['bad']})" for r in neighbours)
        print(f"of {neighbours[0]['good']} beside broken ones failed (those got): {failed}")


def _print_targets(targets: Sequence[Target]) -> None:
    print(f"\n{'target':52} {'found':>20}")
    for each in targets:
        missed = "" if each.met else "MISSED"
        print(f"{each.what:52} {spread(each.found):>20} {each.wanted():9} {missed}")


def _versions() -> dict[str, str]:
    packages = ["onnxruntime", *sorted({package for _, package in OTHERS.values()})]
    found = {"python": platform.python_version()}
    for each in packages:
        try:
            found[each] = version(each)
        except PackageNotFoundError:
            continue
    return found


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="python -m benchmarks.serving",
        description="Measure the service beside the graphs alone and every other server there is.",
        epilog="example:\n  python -m benchmarks.serving --paper build/paper/bundle",
    )
    parser.add_argument(
        "--tiny", type=Path, default=DEMO_BUNDLES / "mortality", help="bundle of stays (the demo)"
    )
    parser.add_argument("--paper", type=Path, help="one of the paper's sizes")
    parser.add_argument(
        "--parts", nargs="+", choices=PARTS, default=list(PARTS), help=f"({' '.join(PARTS)})"
    )
    parser.add_argument(
        "--precision",
        nargs="+",
        choices=OFFERED["onnx"],
        default=["fp32", "int8"],
        help="of the graphs (fp32 int8)",
    )
    parser.add_argument("--clients", type=int, nargs="+", default=list(CLIENTS), help="(1 8 32)")
    parser.add_argument("--cases", type=int, default=64, help="of the workload (64)")
    parser.add_argument("--requests", type=int, default=320, help="for each figure (320)")
    parser.add_argument(
        "--paper-requests", type=int, default=96, help="the same at the paper's sizes (96)"
    )
    parser.add_argument("--repetitions", type=int, default=3, help="of every figure (3)")
    return parser


if __name__ == "__main__":
    run_command(main)
