"""One bundle at work, without HTTP."""

import threading

import pytest

from service.engine.backends.onnx import OnnxBackend
from service.engine.lanes import Lanes
from service.engine.predictor import Predictor, UnusableRecordError
from service.settings import Settings


@pytest.fixture
async def predictor(bundles):
    settings = Settings()
    backend = OnnxBackend(bundles["mortality"], "cpu", "auto", settings.threads)
    lanes = Lanes(1, large=1000)
    predictor = Predictor(bundles["mortality"], backend, lanes, budget=8192, places=4)
    predictor.scheduler.start()
    yield predictor
    await predictor.scheduler.close()
    lanes.shutdown()


async def test_a_record_is_read_off_the_event_loop(predictor):
    threads = []

    def read():
        threads.append(threading.current_thread())
        return {"tabular": {"age": 50}}

    predicted = await predictor.predict(read)
    assert predicted.used == ("tabular",)
    assert threads[0] is not threading.main_thread()


async def test_an_unusable_record_brings_its_issues(predictor):
    rows = [{"hours": 50, "heart_rate": 1}]
    with pytest.raises(UnusableRecordError) as caught:
        await predictor.predict(lambda: {"timeseries": rows})
    assert caught.value.error.code == "nothing_usable"
    assert [each.code for each in caught.value.issues] == ["beyond_horizon", "empty"]
