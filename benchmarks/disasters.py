"""What may happen to a service; see `benchmarks.chaos`."""

import asyncio
import os
import resource
import shutil
import signal
import time
from pathlib import Path

import httpx

from benchmarks.scene import Scene, head, read_reply
from benchmarks.servers import HOST, family


async def clients_leave(scene: Scene, client: httpx.AsyncClient) -> str:
    """Leave in the middle of the body, before the answer, in the middle of the answer."""
    for _ in range(5):
        await asyncio.gather(*(scene.leave(when) for when in (0.0, 0.3, 0.9, 1.0, 1.0, 2.0, 2.0)))
    return ""


async def slow_clients(scene: Scene, client: httpx.AsyncClient) -> str:
    """Send bodies slowly but in time, and one that is not."""
    await asyncio.gather(
        *(scene.slow(0.2) for _ in range(4)), scene.slow(0.2, "stream"), _too_slow(scene)
    )
    return ""


async def _too_slow(scene: Scene) -> None:
    """Send half a body: the answer is a 408."""
    which, ask, name = scene.draw("predict")
    body, began = ask.body(name), time.monotonic()
    reader, writer = await asyncio.open_connection(HOST, scene.port)
    writer.write(head(ask, name, len(body)) + body[: len(body) // 2])
    try:
        reply = await read_reply(reader, which, began)
        scene.note(name, reply)
        if reply.status not in (408, 503):
            scene.faults.append(f"{name}: {reply.status} to half a body")
    except (ConnectionError, EOFError) as exc:
        scene.faults.append(f"{name}: lost: {exc!r}")
    finally:
        writer.close()


async def overload(scene: Scene, client: httpx.AsyncClient) -> str:
    """Come ten times as many as there are places."""
    before = len(scene.replies)
    for _ in range(2):
        await asyncio.gather(*(scene.ask(client) for _ in range(10 * scene.places)))
    codes = [each.code for each in list(scene.replies.values())[before:]]
    if "too_busy" not in codes or "ok" not in codes:
        scene.faults.append(f"under overload all answers were alike: {set(codes)}")
    return ""


async def exchange(scene: Scene, client: httpx.AsyncClient) -> str:
    """Put the other version in the place of the one that is served; whoever asks later gets it."""
    bundles = scene.work / "bundles"
    served = {each.name for each in bundles.iterdir()}
    fresh = next(each for each in scene.versions if served != {each})
    _put(scene.work / "kept" / fresh, bundles / fresh)
    for old in served - {fresh}:
        shutil.rmtree(bundles / old)
    os.kill(scene.process.pid, signal.SIGHUP)
    await scene.until(lambda: scene.serves(client, fresh), f"version {fresh}")
    for _ in range(8):
        reply = await scene.ask(client)
        if reply and reply.status == 200 and fresh not in reply.body.decode():
            scene.faults.append(f"{reply.name}: answered by a version that was gone")
    return ""


async def broken_bundle(scene: Scene, client: httpx.AsyncClient) -> str:
    """Put one beside the good one."""
    bundles = scene.work / "bundles"
    served = (await client.get("/tasks")).json()["tasks"][0]["versions"]
    draft = scene.work / "broken"
    shutil.copytree(scene.work / "kept" / scene.versions[0], draft)
    graph = sorted(draft.rglob("fusion.onnx"))[0]
    data = bytearray(graph.read_bytes())
    data[len(data) // 2] ^= 1
    graph.write_bytes(data)
    told = scene.log().count("bundle not loaded")
    draft.rename(bundles / "broken")
    os.kill(scene.process.pid, signal.SIGHUP)

    async def refused() -> bool:
        return scene.log().count("bundle not loaded") > told

    await scene.until(refused, "the refusal of a broken bundle")
    if not await scene.serves(client, *served):
        scene.faults.append("a broken bundle changed what is served")
    shutil.rmtree(bundles / "broken")
    return ""


async def full_disk(scene: Scene, client: httpx.AsyncClient) -> str:
    """Let nothing more be written to the audit log: no file may grow, which root feels too."""
    size = (scene.work / "audit.jsonl").stat().st_size
    processes = family(scene.process.pid)
    hard = {each: resource.prlimit(each, resource.RLIMIT_FSIZE)[1] for each in processes}
    with scene.bad_time("audit_unavailable"):
        for each in processes:
            resource.prlimit(each, resource.RLIMIT_FSIZE, (size, hard[each]))
        try:

            async def unavailable() -> bool:
                answer = await client.get("/readyz")
                return answer.json()["status"] == "audit_unavailable"

            await scene.until(unavailable, "/readyz to say that the audit log cannot be written")
            await asyncio.sleep(0.5)
        finally:
            for each in processes:
                resource.prlimit(each, resource.RLIMIT_FSIZE, (hard[each], hard[each]))
        await scene.until(lambda: scene.is_ready(client), "the audit log to be written again")
    return ""


async def hangup(scene: Scene, client: httpx.AsyncClient) -> str:
    """Let the service look where nothing has changed."""
    for _ in range(5):
        os.kill(scene.process.pid, signal.SIGHUP)
        await asyncio.sleep(0.02)
    return ""


async def runner_killed(scene: Scene, client: httpx.AsyncClient) -> str:
    """Kill it: who waits gets an error, who comes later an answer; meanwhile it is not ready."""
    runner = next(filter(_is_runner, family(scene.process.pid)), None)
    if runner is None:
        return "there is no process of its own for it"
    with scene.bad_time("runner_lost"):
        os.kill(runner, signal.SIGKILL)

        async def noticed() -> bool:
            return not await scene.is_ready(client)

        await scene.until(noticed, "/readyz to say that the runner is lost")
        await scene.until(lambda: scene.is_ready(client), "another runner")
    return ""


DISASTERS = (
    clients_leave,
    slow_clients,
    overload,
    exchange,
    broken_bundle,
    full_disk,
    hangup,
    runner_killed,
)


def _put(bundle: Path, place: Path) -> None:
    """Copy a bundle so that it appears as a whole; one that is there already stays."""
    if not place.exists():
        draft = place.with_name(f".{place.name}")
        shutil.copytree(bundle, draft)
        draft.rename(place)


def _is_runner(process: int) -> bool:
    try:
        return b"service.engine.process" in Path(f"/proc/{process}/cmdline").read_bytes()
    except FileNotFoundError:
        return False
