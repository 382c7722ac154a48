"""A front end and a runner, in one process and over a real socket."""

import asyncio
import socket
from dataclasses import replace

import numpy as np
import pytest

from lanistr.errors import BundleError
from lanistr.issues import IssueLog
from lanistr.preprocess import read_record
from service.engine.cache import RowKeys
from service.engine.process import RunnerProcess
from service.engine.remote import RemoteEngine, RunnerError
from service.engine.runner import Job, Runner
from service.settings import Settings
from tests.servers import wait_for


@pytest.fixture
async def runner(tmp_path):
    path = tmp_path / "runner"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        process = RunnerProcess(Settings(precision="fp32"))
        serving = asyncio.create_task(process.serve(listener))
        yield process, path
        serving.cancel()
        await asyncio.wait([serving])


@pytest.fixture
async def remote(runner, bundles):
    _, path = runner
    engine = await asyncio.to_thread(RemoteEngine, bundles["mortality"], [path])
    engine.start()
    yield engine
    await engine.close()


def job_of(bundle, record, explain=False):
    log = IssueLog()
    features = bundle.preprocessor.apply(read_record(record, bundle.task, log), log)
    return Job(features, RowKeys(bundle.manifest.version, "onnx fp32").of(features), explain)


async def local_of(runner):
    process, _ = runner
    (engine,) = process._open.values()
    return engine


async def until(done):
    await asyncio.to_thread(wait_for, done)


async def test_a_job_comes_back_as_from_here(remote, runner, bundles, stay):
    here = await local_of(runner)
    assert (remote.build, remote.device) == (here.build, here.device)
    job = job_of(bundles["mortality"], stay, explain=True)
    ours, theirs = await asyncio.gather(here.submit(job), remote.submit(job))
    np.testing.assert_array_equal(ours.result.output, theirs.result.output)
    np.testing.assert_array_equal(ours.result.embedding, theirs.result.embedding)
    assert len(theirs.result.coalitions) == 8
    assert remote.wait(3) > 0


async def test_who_leaves_is_dropped_before_it_costs(remote, runner, bundles, stay, monkeypatch):
    here = await local_of(runner)
    ran, call = [], Runner.__call__

    def noted(self, jobs):
        ran.extend(jobs)
        return call(self, jobs)

    job = job_of(bundles["mortality"], stay)
    with monkeypatch.context() as held:
        held.setattr(here, "_take", list)
        asking = [asyncio.create_task(remote.submit(job)) for _ in range(3)]
        await until(lambda: len(here._queue) == 3)
        asking[1].cancel()
        await until(lambda: remote._links[0].inside == 2)
    monkeypatch.setattr(Runner, "__call__", noted)
    here._arrived.set()
    outcomes = await asyncio.gather(*asking, return_exceptions=True)
    assert isinstance(outcomes[1], asyncio.CancelledError)
    assert len(ran) == 2
    np.testing.assert_array_equal(outcomes[0].result.output, outcomes[2].result.output)
    assert remote._links[0].inside == 0


async def test_who_leaves_at_once_is_answered_too_and_gives_its_block_back(remote, bundles, stay):
    job = job_of(bundles["mortality"], stay)
    for _ in range(20):
        asking = asyncio.create_task(remote.submit(job))
        await asyncio.sleep(0)
        asking.cancel()
    await until(lambda: not remote._links[0].inside)


async def test_a_job_that_fails_fails_alone(remote, bundles, stay, monkeypatch):
    call = Runner.__call__

    def poisoned(self, jobs):
        if any(job.explain for job in jobs):
            raise RuntimeError("a message that may quote what was sent")
        return call(self, jobs)

    monkeypatch.setattr(Runner, "__call__", poisoned)
    jobs = [job_of(bundles["mortality"], stay, explain) for explain in (False, True, False)]
    good, bad, other = await asyncio.gather(
        *(remote.submit(each) for each in jobs), return_exceptions=True
    )
    assert isinstance(bad, RunnerError)
    assert str(bad) == "RuntimeError"
    np.testing.assert_array_equal(good.result.output, other.result.output)


@pytest.mark.parametrize("said", [b'{"job":1,"rows":{"te', b"nonsense\n"])
async def test_who_dies_within_a_line_or_talks_nonsense_takes_nobody_along(
    remote, runner, bundles, stay, said
):
    _, path = runner
    dying = await asyncio.to_thread(RemoteEngine, bundles["mortality"], [path])
    (link,) = dying._links
    with link._socket as connection:
        connection.sendall(said)
    await asyncio.sleep(0.2)
    found = await remote.submit(job_of(bundles["mortality"], stay))
    assert np.isfinite(found.result.output).all()


async def test_a_bundle_is_open_as_long_as_somebody_uses_it(runner, bundles):
    process, path = runner
    bundle = bundles["rating"]
    first, second = [await asyncio.to_thread(RemoteEngine, bundle, [path]) for _ in range(2)]
    for each in (first, second):
        each.start()
    assert len(process._open) == 1
    await first.close()
    await asyncio.sleep(0.1)
    assert len(process._open) == 1
    await second.close()
    await until(lambda: not process._open)


async def test_another_version_than_the_front_end_saw_is_refused(runner, bundles):
    _, path = runner
    found = bundles["rating"]
    manifest = found.manifest.model_copy(update={"version": "000000000000"})
    bundle = replace(found, manifest=manifest)
    with pytest.raises(BundleError, match="replaced by another version") as caught:
        await asyncio.to_thread(RemoteEngine, bundle, [path])
    assert caught.value.accepted == "000000000000"
