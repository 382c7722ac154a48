"""What is run together is found by trying."""

from itertools import combinations

import numpy as np
import pytest

from lanistr.manifest import FUSION
from service.engine.backends.onnx import OnnxBackend
from service.engine.batching import Pace, measure
from service.engine.cost import Cost
from service.settings import Settings

CALL, TOKEN = 0.01, 0.001


class Paced:
    """Takes a while for a call and a while for each token, by graph, on a clock of its own."""

    device = "CPU"
    now = 0.0

    def __init__(self, build, a_call, a_token):
        self.build = build
        self.cost = Cost(build.graphs)
        self.a_call, self.a_token = a_call, a_token
        self.longest = 0

    def _take(self, name, tokens):
        self.now += self.a_call.get(name, 0) + tokens * self.a_token.get(name, 0)

    def encode(self, modality, arrays):
        if modality == "text":
            self.longest = max(self.longest, arrays["token_ids"].shape[1])
        rows = len(next(iter(arrays.values())))
        row = self.cost.row(modality, {name: array[0] for name, array in arrays.items()})
        self._take(modality, rows * row)

    def fuse(self, cases):
        self._take("fusion", sum(len(piece) for case in cases for piece in case))

    def place(self, tokens):
        return tokens


def measured(backend, longest):
    cost = Cost(backend.build.graphs)
    return measure(backend, cost, width=64, longest=longest, most=8192)


def test_company_pays_where_a_call_costs_and_not_where_each_row_does(bundles, monkeypatch):
    build = bundles["mortality"].manifest.builds[0]
    calls = {"text": CALL, "fusion": CALL, "tabular": CALL}
    tokens = {"text": TOKEN, "image": TOKEN, "timeseries": TOKEN, "fusion": TOKEN}
    backend = Paced(build, calls, tokens)
    monkeypatch.setattr("service.engine.backends.backend.perf_counter", lambda: backend.now)
    paces = measured(backend, longest=20)
    assert paces.keys() == {"text", "fusion", "tabular"}
    assert backend.longest == 20
    for name in ("text", "fusion"):
        assert (paces[name].call, paces[name].token) == pytest.approx((CALL, TOKEN))
    assert (paces["tabular"].call, paces["tabular"].token) == pytest.approx((CALL, 0))


def test_int8_which_scales_all_that_runs_together_never_has_company(bundles):
    assert measured(OnnxBackend(bundles["mortality"], "cpu", "int8", 1), 128) == {}


def test_real_graphs_can_be_tried(bundles):
    backend = OnnxBackend(bundles["mortality"], "cpu", "fp32", Settings().threads)
    paces = measured(backend, 64)
    assert paces.keys() <= {*bundles["mortality"].task.modalities, FUSION}
    assert all(min(each.call, each.token) >= 0 for each in paces.values())
    assert all(each.call + each.token > 0 for each in paces.values())  # either may be lost in noise


def seconds(pace, lengths, batches):
    return sum(
        pace.call + pace.token * len(batch) * max(lengths[i] for i in batch) for batch in batches
    )


def shortest(pace, lengths):
    """The same by trying all ways to cut the rows, in the order of their length."""
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    ways = []
    for number in range(len(lengths)):
        for cuts in combinations(range(1, len(lengths)), number):
            ends = zip((0, *cuts), (*cuts, len(lengths)), strict=True)
            ways.append(seconds(pace, lengths, [order[a:b] for a, b in ends]))
    return min(ways)


@pytest.mark.parametrize("call", [0.0, 1.0, 20.0, 300.0])
def test_rows_are_run_in_the_shortest_time_and_each_once(call):
    rng = np.random.default_rng(0)
    for _ in range(30):
        pace = Pace(call=call, token=1.0)
        lengths = rng.integers(1, 60, int(rng.integers(1, 9))).tolist()
        batches = [*pace.batches(lengths, 10_000)]
        assert sorted(i for batch in batches for i in batch) == [*range(len(lengths))]
        assert seconds(pace, lengths, batches) == pytest.approx(shortest(pace, lengths))


def test_a_run_takes_no_more_tokens_than_it_may_but_for_one_row_that_has_more():
    pace, lengths = Pace(call=1000.0, token=1.0), [30, 10, 100, 10, 30, 20, 400]
    batches = [*pace.batches(lengths, 100)]
    assert sorted(i for batch in batches for i in batch) == [*range(7)]
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= 100
    assert len(batches) < len(lengths)


def test_of_nothing_nothing_is_run():
    assert [*Pace(call=1.0, token=1.0).batches([], 100)] == []
