"""How long a good request takes while others send the dearest ones they may.

    python -m benchmarks.neighbours
    python -m benchmarks.neighbours --url http://127.0.0.1:8000    # of a service that runs already

Three clients send one kind of bad neighbour again and again; a fourth sends small good requests,
one after the other. For each kind one line: the good request's median and worst time, both also as
multiples of what they are alone, which is measured anew just before.
"""

import argparse
import json
import math
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import httpx

from benchmarks.servers import HOST, running
from lanistr.command import CommandParser, run_command
from lanistr.errors import ConfigError

CLIENTS = 3
_TASK = "/predict/mortality"
_JSON = {"Content-Type": "application/json"}

GOOD = json.dumps(
    {
        "text": "pt intubated overnight, bp 120/80, pressors uptitrated",
        "tabular": {"age": 71, "gender": "F"},
        "timeseries": [{"hours": hour, "heart_rate": 80 + hour} for hour in range(24)],
    }
).encode()


def main() -> None:
    """Measure as the command line says.

    Raises:
        ConfigError: no such time, or no service of stays at the address.
    """
    arguments = _parser().parse_args()
    if not 0 <= arguments.seconds < math.inf:
        raise ConfigError(
            "no such time", field="--seconds", seen=arguments.seconds, accepted="0 or more"
        )
    if arguments.url is not None:
        _check_answers(arguments.url)
        compare(arguments.url, arguments.seconds)
    else:
        with running(["service"]) as server:
            compare(f"http://{HOST}:{server.port}", arguments.seconds)


def compare(url: str, seconds: float) -> None:
    """Print the good request's times alone, then beside each kind of bad neighbour."""
    print(f"{'neighbour':12} {'median ms':>10} {'worst ms':>10} {'median x':>9} {'worst x':>9}")
    for name, make in NEIGHBOURS.items():
        alone = measure(url, seconds)
        with _attack(url, make()):
            time.sleep(1)
            beside = measure(url, seconds)
        for kind, times in (("none", alone), (name, beside)):
            median, worst = statistics.median(times), max(times)
            ratios = f"{median / statistics.median(alone):9.1f} {worst / max(alone):9.1f}"
            print(f"{kind:12} {1e3 * median:10.1f} {1e3 * worst:10.1f} {ratios}", flush=True)


def _check_answers(url: str) -> None:
    """Ask for what is asked for all the time, once.

    Raises:
        ConfigError: it is not answered.
    """
    try:
        with httpx.Client(base_url=url, timeout=300) as client:
            status = client.post(_TASK, content=GOOD, headers=_JSON).status_code
        if status == 200:
            return
        seen = f"{url}, which answers {status}"
    except (httpx.HTTPError, httpx.InvalidURL) as exc:
        seen = f"{url}: {exc}"
    raise ConfigError(
        "no service that predicts mortality",
        field="--url",
        seen=seen,
        accepted="the address of one that runs, as http://127.0.0.1:8000",
    )


def measure(url: str, seconds: float) -> list[float]:
    """Send good requests, one at the least; return what each took, in seconds."""
    times: list[float] = []
    with httpx.Client(base_url=url, timeout=300) as client:
        end = time.perf_counter() + seconds
        while not times or time.perf_counter() < end:
            started = time.perf_counter()
            client.post(_TASK, content=GOOD, headers=_JSON).raise_for_status()
            times.append(time.perf_counter() - started)
            time.sleep(0.02)
    return times


@contextmanager
def _attack(url: str, body: bytes) -> Iterator[None]:
    """Let the clients send a body again and again; in the end wait for their last answers."""
    over = threading.Event()

    def send() -> None:
        with httpx.Client(base_url=url, timeout=300) as client:
            while not over.is_set():
                client.post(_TASK, content=body, headers=_JSON)

    clients = [threading.Thread(target=send) for _ in range(CLIENTS)]
    for each in clients:
        each.start()
    try:
        yield
    finally:
        over.set()
        for each in clients:
            each.join()


# ---- bad neighbours -----------------------------------------------------------------------------


def _notes() -> bytes:
    """As many and as long notes as are taken."""
    note = "pt intubated overnight bp 120/80 " * 6060
    return json.dumps({"text": [note] * 64}).encode()


def _one_word() -> bytes:
    """As long notes as are taken, in which no word ends."""
    return json.dumps({"text": ["\u0915\u093e" * 50_000] * 60}, ensure_ascii=False).encode()


def _not_finite() -> bytes:
    """As much JSON as is taken, with a NaN for its end."""
    return b'{"timeseries":[' + b'{"hours":1,"heart_rate":80},' * 700_000 + b'{"hours":NaN}]}'


def _out_of_range() -> bytes:
    """As many rows as are taken, every value of them wrong."""
    rows = [{"hours": i / 1000, "heart_rate": 9999, "ph": 99} for i in range(20_000)]
    return json.dumps({"text": "a", "timeseries": rows}).encode()


def _unknown() -> bytes:
    """As many rows as are taken, every word of them unknown."""
    names = ("gcs_eye", "gcs_motor", "gcs_verbal", "gcs_total", "capillary_refill_rate")
    rows = [{"hours": i / 1000, **dict.fromkeys(names, "somewhat")} for i in range(20_000)]
    return json.dumps({"text": "a", "timeseries": rows}).encode()


NEIGHBOURS: Mapping[str, Callable[[], bytes]] = {
    "notes": _notes,
    "one word": _one_word,
    "not finite": _not_finite,
    "out of range": _out_of_range,
    "unknown": _unknown,
}


# ---- command line -------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="python -m benchmarks.neighbours",
        description="Time a good request while others send the dearest ones they may.",
    )
    parser.add_argument("--url", help="a running service (default: one with the demo bundles)")
    parser.add_argument("--seconds", type=float, default=15, help="a kind of neighbour (15)")
    return parser


if __name__ == "__main__":
    run_command(main)
