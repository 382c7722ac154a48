"""Whether the service's memory stays where it is under a mixed load.

    python -m benchmarks.memory --minutes 60
    python -m benchmarks.memory --minutes 10 --workers 2 --out build/memory-2

Clients send predictions, explanations, embeddings, lists, streams and cases that cannot be used,
without a pause; every series is new, notes and pictures come again, and one client in a hundred
leaves before its answer. The resident memory of all processes is read every few seconds. What is
sent before the cache of encoders' outputs is full only warms the service up: that the cache fills
is meant, and it has a bound.

Prints a line a minute, then the slope with its 95% interval, over means of twenty stretches of
time, since neighbouring readings are much alike. Writes `memory.json`, and the curve `memory.png`.
"""

import argparse
import asyncio
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from itertools import count
from pathlib import Path

import httpx
import numpy as np
from matplotlib.figure import Figure
from prometheus_client.parser import text_string_to_metric_families
from scipy.stats import linregress  # type: ignore[import-untyped]
from scipy.stats import t as student

from benchmarks.mixed import Ask, asks
from benchmarks.servers import HOST, family, running, status_of
from benchmarks.workload import an_hour_later
from lanistr.bundle import Bundle
from lanistr.command import CommandParser, run_command
from lanistr.errors import ConfigError
from service.settings import DEMO_BUNDLES

CASES = 64
STRETCHES = 20
_LEAST = 3
LEAVING = 0.01


@dataclass(frozen=True, slots=True)
class Reading:
    """What is held at a moment.

    Attributes:
        seconds: since the load began.
        mb: resident, by process.
        cache_mb: of encoders' outputs.
        requests: answered until then.
    """

    seconds: float
    mb: Mapping[int, float]
    cache_mb: float
    requests: int

    @property
    def total(self) -> float:
        """MB of all processes; pages that they share count for each."""
        return sum(self.mb.values())


@dataclass
class Load:
    """What is sent: the same for a seed, and nothing of it kept.

    Attributes:
        port: of the service.
        asks: requests.
        random: draws from them.
        statuses: of the answers.
    """

    port: int
    asks: Sequence[Ask]
    random: random.Random
    statuses: Counter[int]
    _numbers: Iterator[int]

    async def keep_asking(self, client: httpx.AsyncClient, stop: asyncio.Event) -> None:
        """Send requests, one after the other."""
        while not stop.is_set():
            number = next(self._numbers)
            ask = self.random.choice(self.asks)
            ask = replace(ask, records=[an_hour_later(each, number) for each in ask.records])
            headers = {"Content-Type": ask.media_type}
            sent = client.post(ask.path, content=ask.body(f"m-{number}"), headers=headers)
            if self.random.random() < LEAVING:
                with suppress(TimeoutError):
                    await asyncio.wait_for(sent, self.random.uniform(0, 0.01))
            else:
                self.statuses[(await sent).status_code] += 1


def main() -> None:
    """Measure as the command line says.

    Raises:
        ConfigError: too few readings are asked for.
    """
    arguments = _parser().parse_args()
    if not 60 * arguments.minutes >= _LEAST * arguments.every > 0:
        raise ConfigError(
            "too short for a slope with its interval",
            field="--minutes, --every",
            seen=f"{arguments.minutes:g} min, {arguments.every:g} s",
            accepted=f"{_LEAST} readings, an hour better",
        )
    words = ["service", "--bundles", str(arguments.bundle)]
    words += ["--cache-bytes", str(arguments.cache_bytes)]
    # A connection that nobody uses for a while, on a busy machine, is not closed under the client.
    words += ["--idle-seconds", "600"]
    if arguments.workers is not None:
        words += ["--workers", str(arguments.workers)]
    what = asks(Bundle.open(arguments.bundle), CASES, seed=0)
    with running(words) as server:
        load = Load(server.port, what, random.Random(0), Counter(), count())
        readings, warm = asyncio.run(_measure(load, server.process.pid, arguments))
    slope, reach = slope_of(readings[warm:])
    held = np.mean([each.total for each in readings[warm:]])
    said = {
        "minutes": (readings[-1].seconds - readings[warm].seconds) / 60,
        "requests": readings[-1].requests - readings[warm].requests,
        "mb": float(held),
        "mb_an_hour": slope,
        "interval": [slope - reach, slope + reach],
        "cache_full": _full(readings[warm], arguments.cache_bytes),
        "statuses": load.statuses,
    }
    print(
        f"{held:.0f} MB over {said['minutes']:.0f} min; {slope:+.1f} MB an hour "
        f"[{slope - reach:+.1f} to {slope + reach:+.1f}]"
        + ("" if said["cache_full"] else "; the cache was not full when that began")
    )
    arguments.out.mkdir(parents=True, exist_ok=True)
    whole = said | {"warm": readings[warm].seconds, "readings": [asdict(e) for e in readings]}
    (arguments.out / "memory.json").write_text(json.dumps(whole) + "\n", encoding="utf-8")
    draw(readings, readings[warm].seconds, arguments.out / "memory.png")
    print(json.dumps(said))


async def _measure(
    load: Load, process: int, arguments: argparse.Namespace
) -> tuple[list[Reading], int]:
    """Send the load; return all readings, and the place of the first of the warm service."""
    readings: list[Reading] = []
    warm: int | None = None
    enough = 60 * arguments.minutes
    begun, stop = time.monotonic(), asyncio.Event()
    print(f"{'minute':>6} {'requests':>9} {'cache MB':>9} {'MB':>7}  by process")
    async with httpx.AsyncClient(base_url=f"http://{HOST}:{load.port}", timeout=120) as client:
        sending = [asyncio.create_task(load.keep_asking(client, stop)) for _ in range(4)]
        while warm is None or readings[-1].seconds < readings[warm].seconds + enough:
            await asyncio.sleep(arguments.every)
            for each in sending:
                if each.done():
                    each.result()
            readings.append(await _read(client, process, time.monotonic() - begun, load))
            full = _full(readings[-1], arguments.cache_bytes)
            if warm is None and (full or readings[-1].seconds > 60 * arguments.warm_minutes):
                warm = len(readings) - 1
                print("warm" if full else "taken for warm: the cache is not full", file=sys.stderr)
            if len(readings) < 2 or readings[-1].seconds // 60 > readings[-2].seconds // 60:
                _print(readings[-1])
        stop.set()
        await asyncio.gather(*sending)
    return readings, warm


def _full(reading: Reading, bound: int) -> bool:
    """Whether the cache was as good as full."""
    return reading.cache_mb * 1e6 > 0.95 * bound


async def _read(client: httpx.AsyncClient, process: int, seconds: float, load: Load) -> Reading:
    said = (await client.get("/metrics")).text
    cache = sum(
        sample.value
        for metric in text_string_to_metric_families(said)
        for sample in metric.samples
        if sample.name == "lanistr_cache_bytes"
    )
    return Reading(seconds, _resident(process), cache / 1e6, load.statuses.total())


def _resident(process: int) -> dict[int, float]:
    """Return the MB of a process and of all that it began and that have not ended."""
    held = {each: status_of(each, "VmRSS") * 1024 / 1e6 for each in family(process)}
    return {each: mb for each, mb in held.items() if mb}


def slope_of(readings: Sequence[Reading]) -> tuple[float, float]:
    """Return MB an hour, and how far its 95% interval reaches either way."""
    stretches = np.array_split(np.arange(len(readings)), min(STRETCHES, len(readings)))
    hours = [np.mean([readings[i].seconds for i in each]) / 3600 for each in stretches]
    held = [np.mean([readings[i].total for i in each]) for each in stretches]
    fit = linregress(hours, held)
    reach = fit.stderr * student.ppf(0.975, len(stretches) - 2)
    return float(fit.slope), float(reach)


def draw(readings: Sequence[Reading], warm: float, file: Path) -> None:
    """Draw the curve: all processes together, each by itself, and the cache."""
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.subplots()
    minutes = [each.seconds / 60 for each in readings]
    axes.plot(minutes, [each.total for each in readings], label="all processes")
    processes = sorted({process for each in readings for process in each.mb})
    for number, process in enumerate(processes if len(processes) > 1 else ()):
        held = [each.mb.get(process, np.nan) for each in readings]
        axes.plot(minutes, held, linewidth=1, label=f"process {number + 1}")
    axes.plot(minutes, [each.cache_mb for each in readings], "--", label="cache of encoders")
    axes.axvline(warm / 60, color="grey", linewidth=1, label="warm from here")
    axes.set(xlabel="minutes", ylabel="resident MB", ylim=(0, None))
    axes.legend()
    figure.savefig(file, dpi=120)


def _print(reading: Reading) -> None:
    each = " ".join(f"{mb:.0f}" for mb in reading.mb.values())
    print(
        f"{reading.seconds / 60:6.1f} {reading.requests:9} {reading.cache_mb:9.1f} "
        f"{reading.total:7.1f}  {each}",
        flush=True,
    )


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="python -m benchmarks.memory",
        description="Read the service's memory while it is under a mixed load.",
        epilog="example:\n  python -m benchmarks.memory --minutes 60",
    )
    parser.add_argument("--minutes", type=float, default=60, help="of the warm service (60)")
    parser.add_argument(
        "--bundle", type=Path, default=DEMO_BUNDLES / "mortality", help="of stays (the demo)"
    )
    parser.add_argument("--workers", type=int, help="front-end processes of the service")
    parser.add_argument(
        "--cache-bytes", type=int, default=4_000_000, help="of the service, to be full soon (4e6)"
    )
    parser.add_argument(
        "--warm-minutes",
        type=float,
        default=10,
        help="to warm up, at most: until the cache is full",
    )
    parser.add_argument("--every", type=float, default=2, help="seconds between readings (2)")
    parser.add_argument("--out", type=Path, default=Path("build/memory"), help="(build/memory)")
    return parser


if __name__ == "__main__":
    run_command(main)
