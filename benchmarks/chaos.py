"""What the service answers while everything goes wrong that may: nothing lost, nothing swapped.

    python -m benchmarks.chaos --seconds 120 --seed 1
    python -m benchmarks.chaos --seconds 600 --workers 2

Clients send requests whose right answers are known, without a pause, while other clients leave in
the middle, or are slow, or come ten times as many as there are places; while the model is exchanged
for another version, a broken one is put beside it, nothing more can be written to the audit log,
and the runner is killed. In the end all that was answered is gone through, with the audit log and
the metrics beside it, and the service is told to leave while requests are under way.

Prints what was answered and what happened, and each fault in a line; exit code 1 if there is one.
"""

import argparse
import asyncio
import hashlib
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.disasters import DISASTERS
from benchmarks.mixed import Known, asks, versions_in
from benchmarks.scene import BODY_SECONDS, Scene
from benchmarks.servers import HOST, running
from lanistr.bundle import Bundle, write_bundle
from lanistr.command import CommandParser, run_command
from lanistr.manifest import MANIFEST, read_manifest
from service.settings import DEMO_BUNDLES

PLACES = 8
CLIENTS = 4
CASES = 24


@dataclass
class Report:
    """What came of it.

    Attributes:
        answered: how many requests ended so, by status and code.
        happened: disasters, in order; with a colon, why one did not.
        faults: what must not be.
    """

    answered: Counter[str] = field(default_factory=Counter)
    happened: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def main() -> None:
    """Run as the command line says."""
    arguments = _parser().parse_args()
    options = [] if arguments.workers is None else ["--workers", str(arguments.workers)]
    with tempfile.TemporaryDirectory() as work:
        report = chaos(Path(work), arguments.seconds, arguments.seed, options)
        if report.faults and arguments.keep:
            shutil.copytree(work, arguments.keep, dirs_exist_ok=True)
    for name, number in sorted(report.answered.items()):
        print(f"{number:8} {name}")
    print("happened:", ", ".join(report.happened))
    for fault in report.faults:
        print("FAULT", fault[:2000])
    print(json.dumps({"answered": report.answered, "faults": len(report.faults)}))
    sys.exit(1 if report.faults else 0)


def chaos(work: Path, seconds: float, seed: int, options: Sequence[str] = ()) -> Report:
    """Let everything happen to a service.

    Args:
        work: an empty folder.
        seconds: that load and disasters go on for; each disaster happens at least once.
        seed: of order and requests.
        options: of the service.
    """
    bundles, audit = work / "bundles", work / "audit.jsonl"
    versions = two_versions(work)
    for version in versions:
        shutil.copytree(work / "kept" / version, bundles / version)
    words = ["service", "--bundles", str(bundles), "--watch-seconds", "0", "--queue", str(PLACES)]
    words += ["--audit", str(audit), "--body-seconds", str(BODY_SECONDS), *options]
    words += ["--idle-seconds", "60"]  # far more than clients keep a connection: none is lost so
    with (work / "log.txt").open("wb") as log, running(words, log=log) as server:
        port, process = server.port, server.process
        url = f"http://{HOST}:{port}"
        known = Known(url, asks(Bundle.open(bundles / versions[0]), CASES, seed), versions)
        assert known.told_apart(versions), "the versions answer alike"
        quiet = _requests(url)
        scene = Scene(work, port, process, known, versions, random.Random(seed), PLACES)
        report = Report()
        asyncio.run(_everything(scene, seconds, report))
        _check_metrics(scene, _requests(url) - quiet, report)
        asyncio.run(_leave(scene, report))
        code = process.wait(60)
        if code:
            report.faults.append(f"left with {code}")
        if "do not leave are killed" in scene.log():
            report.faults.append("a process of the service did not leave by itself")
    _check_replies(scene, report)
    _check_audit(scene, audit, report)
    return report


def two_versions(work: Path) -> tuple[str, str]:
    """Put the demo of stays and one of another temperature below `work/kept`; name them."""
    demo = DEMO_BUNDLES / "mortality"

    def fill(draft: Path) -> None:
        shutil.copytree(demo, draft, dirs_exist_ok=True)
        (draft / MANIFEST).unlink()
        fitted = json.loads((draft / "calibration.json").read_text())
        fitted["temperature"] *= 3
        (draft / "calibration.json").write_text(json.dumps(fitted))

    described = read_manifest(demo).model_dump(exclude={"format", "version", "created", "files"})
    other = write_bundle(work / "other", fill, lambda: described)
    found = (read_manifest(demo).version, other.manifest.version)
    shutil.copytree(demo, work / "kept" / found[0])
    shutil.move(other.folder, work / "kept" / found[1])
    return found


async def _everything(scene: Scene, seconds: float, report: Report) -> None:
    """Load the service, and let every disaster happen, again and again in another order."""
    end = time.monotonic() + seconds
    stop = asyncio.Event()
    async with scene.client() as client:
        load = [asyncio.create_task(scene.keep_asking(client, stop)) for _ in range(CLIENTS)]
        first = True
        while first or time.monotonic() < end:
            for disaster in scene.random.sample(DISASTERS, len(DISASTERS)):
                if not first and time.monotonic() > end:
                    break
                name = disaster.__name__.strip("_").replace("_", " ")
                why_not = await disaster(scene, client)
                report.happened.append(f"{name}: {why_not}" if why_not else name)
                await asyncio.sleep(0.2)
            first = False
        stop.set()
        await asyncio.gather(*load)
        await scene.settle(client)


async def _leave(scene: Scene, report: Report) -> None:
    """Tell the service to leave while requests are under way: all of these are answered."""
    before = set(scene.replies)
    begun = [asyncio.create_task(scene.slow(0.2)) for _ in range(4)]
    begun += [asyncio.create_task(scene.slow(0.2, "stream")) for _ in range(2)]
    await asyncio.sleep(0.5)
    scene.process.terminate()
    await asyncio.gather(*begun)
    codes = {scene.replies[name].code for name in scene.replies.keys() - before}
    report.happened.append(f"left, answering {len(begun)}: {', '.join(sorted(codes))}")


# ---- looking back -------------------------------------------------------------------------------


def _check_replies(scene: Scene, report: Report) -> None:
    report.faults += scene.faults
    for name, reply in scene.replies.items():
        report.answered[f"{reply.status} {reply.code}"] += 1
        excused = scene.excused(reply)
        if reply.name != name:
            report.faults.append(f"{name}: answered as {reply.name}")
        if reply.code not in excused and (
            fault := scene.known.fault(reply.which, name, reply.body, excused)
        ):
            report.faults.append(f"{name}: {reply.status}: {fault}")
        later = reply.status in (429, 503) and reply.code in ("too_busy", "rate_limited")
        if later and not reply.retry_after.isdecimal():
            report.faults.append(f"{name}: {reply.code} with Retry-After {reply.retry_after!r}")
    report.answered["cut off"] += len(scene.cut)


def _check_metrics(scene: Scene, counted: Counter[tuple[str, str]], report: Report) -> None:
    """Compare: what clients saw was counted, and more than that only of those that left."""
    seen = Counter((str(each.status), each.code) for each in scene.replies.values())
    if missed := seen - counted:
        report.faults.append(f"answered, and not in the metrics: {dict(missed)}")
    more = counted - seen
    if more.total() > len(scene.cut):
        report.faults.append(f"{len(scene.cut)} left, but the metrics have more: {dict(more)}")


def _requests(url: str) -> Counter[tuple[str, str]]:
    """Return how many requests to tasks were counted, by status and code."""
    found: Counter[tuple[str, str]] = Counter()
    for metric in text_string_to_metric_families(httpx.get(f"{url}/metrics").text):
        for sample in metric.samples:
            if sample.name == "lanistr_requests_total" and sample.labels["task"]:
                found[sample.labels["status"], sample.labels["code"]] += int(sample.value)
    return found


def _check_audit(scene: Scene, file: Path, report: Report) -> None:
    """Compare: every answer is on record once, as it was given."""
    entries: dict[str, list[dict[str, object]]] = {}
    for line in file.read_text().splitlines():
        entry = json.loads(line)
        if "gap" not in entry:
            entries.setdefault(entry["request"], []).append(entry)
    for name, reply in scene.replies.items():
        found = entries.pop(name, [])
        if reply.code == "audit_unavailable":
            continue  # it may have been written while its client was sent away
        ask = scene.known.asks[reply.which]
        lines = 1
        if ask.kind == "stream" and reply.status == 200:  # one for its beginning, one a case
            unrecorded = [each.get("code") for each in ask.items(reply.body)]
            lines += len(unrecorded) - unrecorded.count("audit_unavailable")
            lines -= unrecorded.count("body_too_slow")
        if len(found) != lines:
            report.faults.append(f"{name}: {len(found)} lines on record, not {lines}")
            continue
        if {each["status"] for each in found} != {reply.status}:
            report.faults.append(f"{name}: on record as {found[0]['status']}, not {reply.status}")
        if reply.status == 200 and ask.kind != "stream":
            if found[0]["input_sha256"] != hashlib.sha256(ask.body(name)).hexdigest():
                report.faults.append(f"{name}: another input on record")
            items = ask.items(reply.body)
            if set(versions_in(items)) - {found[0]["version"]}:
                report.faults.append(f"{name}: another version on record")
            said = {i: each.get("code", "ok") for i, each in enumerate(items)}
            cases = found[0]["cases"]
            assert isinstance(cases, list)
            if {each["index"]: each["code"] for each in cases} != said:
                report.faults.append(f"{name}: other cases on record")
    for name in scene.cut:
        entries.pop(name, None)
    if extra := [name for name in entries if name.startswith(scene.PREFIX)]:
        report.faults.append(f"on record, and never sent: {extra[:5]}")


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="python -m benchmarks.chaos",
        description="Let everything go wrong around a service and look whether its answers do.",
        epilog="example:\n  python -m benchmarks.chaos --seconds 120",
    )
    parser.add_argument("--seconds", type=float, default=60, help="that it goes on for (60)")
    parser.add_argument("--seed", type=int, default=0, help="of order and requests (0)")
    parser.add_argument("--workers", type=int, help="front-end processes of the service")
    parser.add_argument("--keep", type=Path, help="folder for log and audit, if there is a fault")
    return parser


if __name__ == "__main__":
    run_command(main)
