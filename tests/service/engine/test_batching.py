"""Which graphs are given several rows at once is found by trying."""

from lanistr.modalities import Modality
from service.engine.backends.onnx import OnnxBackend
from service.engine.batching import paying
from service.settings import Settings


class Paced:
    """Takes a while for a call and a while for each row, by graph, on a clock of its own."""

    device = "CPU"
    now = 0.0

    def __init__(self, build, a_call, a_row):
        self.build = build
        self.a_call, self.a_row = a_call, a_row
        self.longest = 0

    def _take(self, name, rows):
        self.now += self.a_call.get(name, 0) + rows * self.a_row.get(name, 0)

    def encode(self, modality, arrays):
        if modality == "text":
            self.longest = max(self.longest, arrays["token_ids"].shape[1])
        self._take(modality, len(next(iter(arrays.values()))))

    def fuse(self, tokens, mask):
        self._take("fusion", len(tokens))


def test_company_pays_where_a_call_costs_and_not_where_each_row_does(bundles, monkeypatch):
    build = bundles["mortality"].manifest.builds[0]
    calls = {"text": 0.01, "fusion": 0.01}
    rows = {"image": 0.01, "tabular": 0.01, "timeseries": 0.01}
    backend = Paced(build, calls, rows)
    monkeypatch.setattr("service.engine.backends.backend.perf_counter", lambda: backend.now)
    assert paying(backend, width=64, longest=20) == {"text", "fusion"}
    assert backend.longest == 20


def test_int8_which_scales_all_that_runs_together_never_has_company(bundles):
    bundle = bundles["mortality"]
    backend = OnnxBackend(bundle, "cpu", "int8", Settings().threads)
    assert paying(backend, bundle.manifest.width, 128) == frozenset()


def test_real_graphs_can_be_tried(bundles):
    bundle = bundles["mortality"]
    backend = OnnxBackend(bundle, "cpu", "fp32", Settings().threads)
    assert paying(backend, bundle.manifest.width, 64) <= {*Modality, "fusion"}
