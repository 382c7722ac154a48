"""The engine of one process: how its runners share the devices, and whose thread they take."""

import threading

import pytest

from lanistr.issues import IssueLog
from lanistr.preprocess import read_record
from service.engine.backends.onnx import OnnxBackend
from service.engine.cache import RowKeys, TokenCache
from service.engine.local import LocalEngine
from service.engine.runner import Job
from service.examples import example
from service.metrics import Metrics
from service.settings import Settings


@pytest.fixture
def ran_in(monkeypatch) -> set[str]:
    """Names of the threads that fused."""
    names: set[str] = set()
    fuse = OnnxBackend.fuse

    def noted(self, cases):
        names.add(threading.current_thread().name)
        return fuse(self, cases)

    monkeypatch.setattr(OnnxBackend, "fuse", noted)
    return names


def opened(bundle, *, inline: bool = False, **settings) -> LocalEngine:
    metrics = Metrics()
    told = Settings(threads=2, **settings)
    return LocalEngine(bundle, told, TokenCache(0, metrics), metrics, inline=inline)


async def answer(engine: LocalEngine, bundle) -> None:
    log = IssueLog()
    sample = read_record(example(bundle.task), bundle.task, log)
    features = bundle.preprocessor.apply(sample, log)
    job = Job(features, RowKeys(bundle.manifest.version, engine.build.name).of(features))
    engine.start()
    outcome = await engine.submit(job)
    assert outcome.result.output.shape == (bundle.task.label.outputs,)
    await engine.close()


async def test_a_single_runner_works_in_a_thread_of_its_own_or_in_the_loops(bundles, ran_in):
    for inline, name in ((False, "runner_0"), (True, threading.current_thread().name)):
        engine = opened(bundles["rating"], inline=inline, device="cpu")
        ran_in.clear()
        await answer(engine, bundles["rating"])
        assert ran_in == {name}


async def test_two_runners_have_threads_of_their_own_wherever_they_are(bundles, ran_in):
    engine = opened(bundles["rating"], inline=True, device="cpu,cpu")
    ran_in.clear()
    await answer(engine, bundles["rating"])
    assert ran_in == {"runner_0"}


def test_who_shares_a_cpu_loads_its_graphs_once(bundles, monkeypatch):
    loaded = []
    load = OnnxBackend.__init__

    def noted(self, bundle, device, precision, threads):
        loaded.append((device, threads))
        load(self, bundle, device, precision, threads)

    monkeypatch.setattr(OnnxBackend, "__init__", noted)
    engine = opened(bundles["rating"], device="cpu,cpu")
    assert loaded == [("cpu", 1)]
    assert engine.device == "CPU"
