"""Cases through real graphs: grouping and scattering change nothing."""

import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations

import numpy as np
import pytest

from lanistr.batch import Features, collate
from lanistr.issues import IssueLog
from lanistr.manifest import FUSION
from lanistr.modalities import Modality
from lanistr.preprocess import read_record
from service.engine.backends.onnx import OnnxBackend
from service.engine.batching import Pace
from service.engine.cache import RowKeys, TokenCache
from service.engine.cost import Cost
from service.engine.runner import Job, Runner
from service.examples import example
from service.settings import Settings


@pytest.fixture(scope="module")
def bundle(bundles):
    return bundles["mortality"]


class Counting:
    """A backend that notes the sizes of what it runs."""

    def __init__(self, backend):
        self.backend = backend
        self.encoded = []
        self.fused = []

    device = "CPU"

    def encode(self, modality, arrays):
        self.encoded.append((str(modality), len(next(iter(arrays.values())))))
        return self.backend.encode(modality, arrays)

    def average(self, rows):
        return self.backend.average(rows)

    def fuse(self, cases):
        self.fused.append([sum(map(len, pieces)) for pieces in cases])
        return self.backend.fuse(cases)


@pytest.fixture(scope="module")
def backend(bundle):
    return OnnxBackend(bundle, "cpu", "fp32", Settings().threads)


@pytest.fixture
def counting(backend):
    return Counting(backend)


UNPADDED, PADDED = Pace(call=0.1, token=1.0), Pace(call=1000.0, token=1.0)
"""How long graphs might take, so that alike are run together, and all are."""


def make_runner(bundle, backend, budget=8192, cache=0, paces=None, held=None):
    cost = Cost(bundle.manifest.builds[0].graphs)
    paces = dict.fromkeys((*Modality, FUSION), UNPADDED) if paces is None else paces
    held = TokenCache(cache) if held is None else held
    return Runner(backend, cost, held, budget=budget, paces=paces)


def job(features, explain=False):
    return Job(features, RowKeys("version", "onnx fp32").of(features), explain)


@pytest.fixture
def runner(bundle, counting):
    return make_runner(bundle, counting, 8192)


@pytest.fixture(scope="module")
def features(bundle, picture):
    """Every subset of the four parts, with notes of several lengths."""
    record = example(bundle.task) | {"image": picture()}
    cases = []
    for size in range(1, 5):
        for chosen in combinations(Modality, size):
            case = {name: record[name] for name in chosen}
            if "text" in case:
                case["text"] = "pt intubated overnight " * len(cases)
            case = {name: part for name, part in case.items() if part}
            cases.append(prepare(bundle, case or {"text": "a note"}))
    return cases


def prepare(bundle, record) -> Features:
    log = IssueLog()
    return bundle.preprocessor.apply(read_record(record, bundle.task, log), log)


def by_masks(backend, cases):
    """The same outputs the plain way: one padded batch, absent tokens masked."""
    batch = collate(cases)
    blocks, masks = [], []
    for part_of, part in batch.parts.items():
        tokens = np.stack(backend.encode(part_of, part.arrays))
        block = np.zeros((batch.size, *tokens.shape[1:]), np.float32)
        mask = np.zeros(block.shape[:2], np.bool_)
        for case in set(part.sample.tolist()):
            block[case] = tokens[part.sample == case].mean(axis=0)
            mask[case] = True
        blocks.append(block)
        masks.append(mask)
    fusion = backend._sessions[FUSION]
    inputs = {"tokens": np.concatenate(blocks, 1), "mask": np.concatenate(masks, 1)}
    return fusion.run(["output", "embedding"], inputs)


@pytest.mark.parametrize("pace", [None, UNPADDED, PADDED])
def test_alone_grouped_or_padded_equals_all_laid_out_and_masked(bundle, backend, features, pace):
    outputs, embeddings = by_masks(backend, features)
    paces = dict.fromkeys((*Modality, FUSION), pace) if pace else {}
    results = make_runner(bundle, backend, paces=paces)([job(each) for each in features])
    np.testing.assert_allclose([each.output for each in results], outputs, atol=1e-4)
    np.testing.assert_allclose([each.embedding for each in results], embeddings, atol=1e-4)


def test_together_equals_alone(runner, features):
    together = runner([job(each) for each in features])
    for case, result in zip(features, together, strict=True):
        (alone,) = runner([job(case)])
        np.testing.assert_allclose(alone.output, result.output, atol=1e-5)


def test_only_what_is_present_is_encoded_and_together_what_is_sooner_so(runner, counting, bundle):
    cases = [
        prepare(bundle, {"text": "a note"}),
        prepare(bundle, {"text": "b note", "tabular": {"age": 50}}),
        prepare(bundle, {"text": "a much longer note of many more words"}),
        prepare(bundle, {"tabular": {"age": 60}}),
    ]
    runner([job(each) for each in cases])
    assert counting.encoded == [("text", 1), ("text", 2), ("tabular", 2)]
    assert sorted(counting.fused) == [[1, 1, 1], [2]]
    counting.encoded.clear()
    counting.fused.clear()
    paces = dict.fromkeys((*Modality, FUSION), PADDED)
    make_runner(bundle, counting, paces=paces)([job(each) for each in cases])
    assert counting.encoded == [("text", 3), ("tabular", 2)]
    assert [sorted(lengths) for lengths in counting.fused] == [[1, 1, 1, 2]]


def test_the_budget_bounds_one_run(bundle, counting):
    runner = make_runner(bundle, counting, 100)
    cases = [
        prepare(bundle, {"timeseries": [{"hours": 1, "heart_rate": 80 + k}]}) for k in range(5)
    ]
    runner([job(each) for each in cases])
    assert counting.encoded == [("timeseries", 2), ("timeseries", 2), ("timeseries", 1)]


def test_rows_of_one_case_are_averaged(runner, bundle, backend):
    several = prepare(bundle, {"text": ["a note", "quite another, longer note"]})
    outputs, _ = by_masks(backend, [several])
    (result,) = runner([job(several)])
    np.testing.assert_allclose(result.output, outputs[0], atol=1e-4)


def test_explaining_runs_every_coalition_and_nothing(runner, backend, features):
    full = max(features, key=lambda each: len(each.rows))
    result = runner([job(full, explain=True)])[0]
    assert len(result.coalitions) == 16
    np.testing.assert_array_equal(result.coalitions[frozenset(Modality)], result.output)
    nothing, _ = backend.fuse([[]])
    np.testing.assert_allclose(result.coalitions[frozenset()], nothing[0], atol=1e-6)
    for subset, output in result.coalitions.items():
        if subset:
            part = Features({each: rows for each, rows in full.rows.items() if each in subset})
            (alone,) = runner([job(part)])
            np.testing.assert_allclose(output, alone.output, atol=1e-5)


def test_cost_counts_words_patches_and_steps(runner, bundle):
    short, long = (prepare(bundle, {"text": "a note " * n}) for n in (1, 20))
    assert runner.cost(job(short)) < runner.cost(job(long))
    series = prepare(bundle, {"timeseries": [{"hours": 1, "heart_rate": 80}]})
    assert runner.cost(job(series)) == 48 + 48
    assert runner.cost(job(series, explain=True)) == 48 + 48


def test_a_job_adds_what_was_measured_of_each_graph_that_it_is_run_by(bundle, backend):
    series = prepare(bundle, {"timeseries": example(bundle.task)["timeseries"]})
    noted = prepare(bundle, {"text": "a note", "timeseries": example(bundle.task)["timeseries"]})
    paces = {Modality.TIMESERIES: Pace(5.0, 0.25), FUSION: Pace(7.0, 0.5)}
    runner = make_runner(bundle, backend, cache=10**7, paces=paces)
    assert runner.added(job(series)) == 0.25 * 48 + 0.5 * 48
    assert runner.added(job(noted)) == math.inf  # nobody knows what a note adds
    runner([job(series)])
    assert runner.added(job(series)) == 0.5 * 48


# ---- equal rows ---------------------------------------------------------------------------------


def test_equal_rows_that_come_together_are_encoded_once(runner, counting, bundle):
    shared = {"text": "a note"}
    cases = [prepare(bundle, shared | {"tabular": {"age": age}}) for age in (50, 60, 60)]
    first, second, third = runner([job(each) for each in cases])
    assert counting.encoded == [("text", 1), ("tabular", 2)]
    np.testing.assert_array_equal(second.output, third.output)
    assert (first.output != second.output).any()


class Slow(Counting):
    """One that encodes notes when it is let."""

    def __init__(self, backend):
        super().__init__(backend)
        self.asked, self.let = threading.Event(), threading.Event()
        self.fails = False

    def encode(self, modality, arrays):
        if modality is Modality.TEXT and not self.asked.is_set():
            self.asked.set()
            self.let.wait()
            if self.fails:
                raise MemoryError
        return super().encode(modality, arrays)


@pytest.mark.parametrize("fails", [False, True])
def test_what_another_thread_encodes_is_waited_for_and_encoded_where_that_fails(
    bundle, backend, fails
):
    slow, cache = Slow(backend), TokenCache(0)
    first, second = (make_runner(bundle, slow, held=cache) for _ in range(2))
    case = job(prepare(bundle, {"text": "a note", "tabular": {"age": 50}}))
    other = job(prepare(bundle, {"text": "a note", "tabular": {"age": 60}}))
    slow.fails = fails
    with ThreadPoolExecutor(2) as threads:
        one = threads.submit(first, [case])
        slow.asked.wait()
        two = threads.submit(second, [other])
        while not cache._coming or not any(cache._coming.values()):
            time.sleep(0.01)  # until it waits for the note
        slow.let.set()
        assert (type(one.exception()) is MemoryError) == fails
        (found,) = two.result()
    assert slow.encoded.count(("text", 1)) == 1
    assert cache._coming == {}
    (alone,) = make_runner(bundle, backend)([other])
    np.testing.assert_array_equal(found.output, alone.output)


def test_what_comes_again_is_not_encoded_again_and_answered_the_same(bundle, counting):
    runner = make_runner(bundle, counting, cache=1 << 20)
    plain = make_runner(bundle, counting)
    note = {"text": "a note", "tabular": {"age": 50}}
    before = prepare(bundle, note | {"timeseries": [{"hours": 1, "heart_rate": 80}]})
    later = prepare(bundle, note | {"timeseries": [{"hours": 2, "heart_rate": 90}]})
    runner([job(before)])
    counting.encoded.clear()
    (again,) = runner([job(later)])
    assert counting.encoded == [("timeseries", 1)]
    (alone,) = plain([job(later)])
    np.testing.assert_array_equal(again.output, alone.output)
    np.testing.assert_array_equal(again.embedding, alone.embedding)


def test_what_is_held_costs_only_its_fusion(bundle, counting):
    runner = make_runner(bundle, counting, cache=1 << 20)
    series = prepare(bundle, {"timeseries": [{"hours": 1, "heart_rate": 80}]})
    assert runner.cost(job(series)) == 48 + 48
    runner([job(series)])
    assert runner.cost(job(series)) == 48


def test_what_gains_nothing_from_company_runs_alone(bundle, counting):
    runner = make_runner(bundle, counting, paces={"tabular": UNPADDED})
    cases = [prepare(bundle, {"text": n, "tabular": {"age": len(n) + 50}}) for n in ("a b", "cc d")]
    runner([job(each) for each in cases])
    assert counting.encoded == [("text", 1), ("text", 1), ("tabular", 2)]
    assert [len(each) for each in counting.fused] == [1, 1]
