"""What stays is passed over by the garbage collector; what goes is not forgotten for that."""

import asyncio
import gc
import shutil
import signal
import socket
import weakref
from types import SimpleNamespace

import pytest
import uvicorn
from fastapi import FastAPI

import service.models
from service.engine.process import RunnerProcess
from service.garbage import freeze_objects
from service.metrics import Metrics
from service.models import Models
from service.server import serve
from service.settings import DEMO_BUNDLES, Settings


@pytest.fixture(autouse=True)
def thawed():
    """Nothing is passed over before and after."""
    gc.unfreeze()
    yield
    gc.unfreeze()


class Circle:
    """Refers to itself, so that only the collector can free it."""

    def __init__(self) -> None:
        self.self = self


def in_a_circle(something) -> weakref.ref:
    """Let only the collector free something; return what shows that it did."""
    something.circle = Circle()
    something.circle.holder = something
    return weakref.ref(something.circle)


def test_what_is_there_is_passed_over_and_what_is_garbage_goes():
    stays = Circle()
    gone = weakref.ref(Circle())
    freeze_objects()
    assert gone() is None
    assert gc.get_freeze_count() > 1000
    assert not any(each is stays for each in gc.get_objects())

    later = weakref.ref(stays)
    del stays
    gc.collect()
    assert later() is not None  # it was passed over
    freeze_objects()
    assert later() is None


def test_a_service_passes_over_what_it_has_opened(monkeypatch):
    counts = []
    monkeypatch.setattr(
        uvicorn.Server, "run", lambda self, sockets: counts.append(gc.get_freeze_count())
    )
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # this process keeps its own
    app = FastAPI()
    app.state.metrics = Metrics()
    with socket.socket() as listener:
        serve(app, listener, Settings())
    assert counts[0] > 1000


class Served:
    """Stands for a predictor; what it computes with does not matter here."""

    def __init__(self, bundle) -> None:
        self.bundle = bundle
        self.engine = SimpleNamespace(start=lambda: None, available=True)
        self.admission = SimpleNamespace(left=self._done)

    async def predict(self, *_, **__) -> None: ...

    async def close(self) -> None: ...

    async def _done(self) -> None: ...


async def test_models_that_come_are_passed_over_and_those_that_went_are_freed(
    tmp_path, another_version, monkeypatch
):
    monkeypatch.setattr(service.models, "_GRACE", 0.01)
    folder = tmp_path / "bundles"
    shutil.copytree(DEMO_BUNDLES / "mortality", folder / "first")
    models = Models(folder, Served)
    models.start()
    old = in_a_circle(models["mortality"])

    shutil.copytree(another_version, folder / "second")
    await models.refresh()
    assert gc.get_freeze_count() > 1000

    shutil.rmtree(folder / "first")
    await models.refresh()
    await asyncio.wait(models._leaving, timeout=10)
    assert old() is None
    await models.close()


async def test_a_runner_frees_a_model_that_nobody_uses_any_more(bundles):
    runner = RunnerProcess(Settings(precision="fp32"))
    bundle = bundles["rating"]
    async with runner._engine(str(bundle.folder), bundle.manifest.version) as engine:
        assert gc.get_freeze_count() > 1000
        old = in_a_circle(engine)
        del engine
    assert old() is None
