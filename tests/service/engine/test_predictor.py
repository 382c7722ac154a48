"""One bundle at work, without HTTP."""

import asyncio
import json
import shutil
import threading
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from export.reduce import reduce_onnx
from lanistr.bundle import Bundle
from lanistr.calibration import Calibration
from lanistr.decision import Decision
from lanistr.preprocess.base import STATE_FILE
from lanistr.tasks import LabelSpec
from service.engine.cache import TokenCache
from service.engine.lanes import Lanes
from service.engine.local import LocalEngine
from service.engine.predictor import Predictor, UnusableRecordError
from service.engine.runner import Result
from service.engine.scheduler import Outcome
from service.metrics import Metrics
from service.settings import DEMO_BUNDLES, Settings
from tests.damaged import change_build, put


@asynccontextmanager
async def at_work(bundle, precision="auto"):
    metrics = Metrics()
    engine = LocalEngine(bundle, Settings(precision=precision), TokenCache(0), metrics)
    lanes = Lanes(1, large=1000)
    predictor = Predictor(bundle, engine, lanes, places=40)
    engine.start()
    yield predictor
    await predictor.close()
    lanes.shutdown()


@pytest.fixture
async def predictor(bundles):
    async with at_work(bundles["mortality"]) as predictor:
        yield predictor


async def test_a_record_is_read_off_the_event_loop(predictor):
    threads = []

    def read():
        threads.append(threading.current_thread())
        return {"tabular": {"age": 50}}

    predicted = await predictor.predict(read)
    assert predicted.case.used == ("tabular",)
    assert threads[0] is not threading.main_thread()


async def test_for_who_left_while_it_was_read_nothing_is_run(predictor, monkeypatch):
    ran = []
    monkeypatch.setattr(predictor.engine, "run_at_once", lambda job: ran.append(job))
    reading, gone = threading.Event(), threading.Event()

    def read():
        reading.set()
        gone.wait()
        return {"tabular": {"age": 50}}

    asking = asyncio.create_task(predictor.predict(read))
    await asyncio.to_thread(reading.wait)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    gone.set()
    await predictor.lanes.run(0, lambda: None)  # the only thread has done with it
    assert ran == []
    await predictor.predict(lambda: {"tabular": {"age": 50}})
    assert len(ran) == 1


async def test_an_unusable_record_brings_its_issues(predictor):
    rows = [{"hours": 50, "heart_rate": 1}]
    with pytest.raises(UnusableRecordError) as caught:
        await predictor.predict(lambda: {"timeseries": rows})
    assert caught.value.error.code == "nothing_usable"
    assert [each.code for each in caught.value.issues] == ["beyond_horizon", "empty"]


async def test_what_half_precision_cannot_hold_fails_alone_and_is_named(tmp_path):
    folder = Path(shutil.copytree(DEMO_BUNDLES / "mortality", tmp_path / "mortality"))
    state = json.loads((folder / STATE_FILE).read_text())
    state["tabular"]["numbers"]["age"] = {"mean": 60, "std": 1e-4}
    put(folder, STATE_FILE, json.dumps(state).encode())
    reduce_onnx(folder / "onnx/fp32/tabular.onnx", "fp16", tmp_path / "tabular.onnx")
    put(folder, "onnx/fp32/tabular.onnx", (tmp_path / "tabular.onnx").read_bytes())
    change_build(folder, lambda build: build.update(precision="fp16"))
    async with at_work(Bundle.open(folder), "fp16") as predictor:
        asked = [{"tabular": {"age": age}} for age in (60, 100, 60.001)]
        answers = await asyncio.gather(
            *(predictor.predict(lambda each=each: each) for each in asked), return_exceptions=True
        )
    assert [isinstance(each, UnusableRecordError) for each in answers] == [False, True, False]
    error = answers[1].error
    assert (error.code, error.field) == ("too_far", "tabular.age")
    assert error.seen == "400,000 standard deviations from the training mean"


def test_of_several_classes_the_predicted_one_is_explained(bundles):
    label = LabelSpec(kind="multiclass", name="kind", classes=("a", "b", "c"))
    task = bundles["mortality"].task.model_copy(update={"label": label})
    calibration = Calibration(decision=Decision(weights=(1, 1, 9)))
    outputs = {frozenset(): np.zeros(3), frozenset(["text"]): np.log([0.6, 0.2, 0.2])}
    bundle = SimpleNamespace(task=task, calibration=calibration)
    found = Predictor._explain(SimpleNamespace(bundle=bundle), outputs)
    assert found.baseline == pytest.approx(np.log(0.5))
    assert found.contributions["text"] == pytest.approx(np.log(0.2 / 0.8) - np.log(0.5))


async def test_a_model_that_gives_no_number_for_what_is_usual_is_a_fault_of_ours(
    predictor, monkeypatch
):
    nothing = Outcome(Result(np.array([np.nan]), np.ones(1), {}), 0.0, 0.0)
    monkeypatch.setattr(predictor.engine, "run_at_once", lambda job: nothing)
    with pytest.raises(FloatingPointError):
        await predictor.predict(lambda: {"tabular": {"age": 50}})


async def test_an_answer_in_int8_does_not_depend_on_who_else_asks(bundles):
    """int8 scales what runs together by its largest value."""
    notes = ["a note", "pt gone", "dies soon", "he lives"]
    records = [
        {"text": note, "timeseries": [{"hours": 1, "heart_rate": 40 + 40 * i}]}
        for i, note in enumerate(notes)
    ]
    async with at_work(bundles["mortality"], "int8") as predictor:

        async def ask(record):
            predicted = await predictor.predict(partial(dict, record), explain=True)
            return predicted.prediction.probabilities, predicted.explanation

        alone = [await ask(record) for record in records]
        together = await asyncio.gather(*(ask(record) for record in records * 8))
    assert len({answer["died"] for answer, _ in alone}) == len(records)
    assert together == alone * 8
