"""TorchScript graphs, on the CPU and, where there is one, on a GPU."""

import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from lanistr.batch import stack
from lanistr.bundle import Bundle
from lanistr.errors import BundleError, ConfigError
from lanistr.manifest import FUSION, MOST_FALL
from lanistr.modalities import Modality
from lanistr.proof import BOUND
from service.engine.backends.backend import ones
from service.engine.backends.torch import TorchBackend, load_graph, widened
from service.engine.batching import measure
from service.engine.cost import Cost
from service.settings import DEMO_BUNDLES
from tests.damaged import change_build, put

TWICE = 2
"""Times the difference found at the export, as `export.verify` allows a reduced precision."""

gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that torch can use")


@pytest.fixture(scope="module")
def bundle(stays_bundle):
    return Bundle.open(stays_bundle)


@pytest.fixture(scope="module")
def proof(bundle):
    return bundle.proof()


@pytest.fixture
def copy(stays_bundle, tmp_path) -> Path:
    """A bundle that may be damaged."""
    return Path(shutil.copytree(stays_bundle, tmp_path / "copy"))


def load(bundle, precision="auto", device="cpu"):
    opened = Bundle.open(bundle) if isinstance(bundle, Path) else bundle
    return TorchBackend(opened, device, precision, 1)


def refused(folder, precision="fp32"):
    with pytest.raises(BundleError) as caught:
        load(folder, precision)
    return caught.value


def torchscript(bundle, precision):
    return bundle.build("torchscript", precision)


def number_of(bundle, name):
    return [each.name for each in bundle.manifest.builds].index(name)


def inputs_of(proof, name):
    start = f"{name}/inputs/"
    return {key.removeprefix(start): a for key, a in proof.items() if key.startswith(start)}


def on_host(rows):
    """Tokens of rows of one length, where numpy can look at them: (R, N, D)."""
    return np.stack([np.asarray(torch.as_tensor(each).cpu()) for each in rows])


def differences(backend, proof):
    """By graph, from what the model made of the same inputs, as a share of its scale."""
    found = {}
    for name in backend.build.graphs:
        inputs = inputs_of(proof, name)
        if name == FUSION:
            cases = [
                [backend.place(tokens[there])]
                for tokens, there in zip(inputs["tokens"], inputs["mask"], strict=True)
            ]
            outputs = dict(zip(("output", "embedding"), backend.fuse(cases), strict=True))
        else:
            outputs = {"tokens": on_host(backend.encode(Modality(name), inputs))}
        for output, array in outputs.items():
            wanted = proof[f"{name}/outputs/{output}"]
            assert array.dtype == np.float32
            assert array.shape == wanted.shape
            scale = max(1.0, np.abs(wanted).max())
            difference = np.abs(array - wanted).max() / scale
            found[name] = max(found.get(name, 0.0), float(difference))
    return found


def agrees(backend, proof, build):
    reduced = 0 if build.precision == "fp32" else TWICE
    return {
        name: each
        for name, each in differences(backend, proof).items()
        if not each <= max(BOUND, reduced * build.proof[name])
    } == {}


def weights_of(module):
    nodes = module.graph.findAllNodes("prim::Constant")
    valued = [each for each in nodes if each.hasAttribute("value")]
    return [each.t("value") for each in valued if each.kindOf("value") == "t"]


# ---- which build --------------------------------------------------------------------------------


@pytest.mark.parametrize(("precision", "build"), [("auto", "fp32"), ("bf16", "bf16")])
def test_a_cpu_takes_float32_unless_it_is_told_otherwise(bundle, precision, build):
    backend = load(bundle, precision)
    assert backend.build.name == f"torchscript {build}"
    assert backend.device == "CPU"


def test_a_precision_of_another_runtime_is_refused_with_those_that_there_are(bundle):
    error = refused(bundle, "int8")
    assert error.code == "no_build"
    assert error.seen == "torchscript int8"
    assert "torchscript fp32, onnx int8" in error.accepted


def test_a_bundle_without_torchscript_is_refused():
    assert refused(DEMO_BUNDLES / "rating", "auto").code == "no_build"


# ---- what is computed ---------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_graphs_compute_what_the_model_did(bundle, proof, precision):
    assert agrees(load(bundle, precision), proof, torchscript(bundle, precision))


def test_in_bf16_what_is_to_stay_whole_does(copy, proof):
    number = number_of(Bundle.open(copy), "torchscript bf16")
    change_build(copy, lambda build: build.update(whole=["image"]), number)
    found = differences(load(copy, "bf16"), proof)
    assert found["image"] <= BOUND < found["text"]


def test_weights_that_are_kept_in_bf16_change_no_result(bundle, proof):
    for name, graph in torchscript(bundle, "bf16").graphs.items():
        file = bundle.folder / graph.file
        inputs = [torch.from_numpy(inputs_of(proof, name)[each]) for each in graph.inputs]
        found = []
        for narrow in (False, True):
            module = load_graph(file, torch.device("cpu"), narrow=narrow)
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
                found.append(module(*inputs))
            kept = {str(each.dtype) for each in weights_of(module)}
            assert ("torch.bfloat16" in kept) == narrow
        torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)


def test_no_graph_names_the_processor_that_it_was_recorded_on_or_waits_for_another(bundle):
    """On torch's device without memory, whatever stands elsewhere or must be known fails."""
    nowhere = torch.device("meta")
    width = bundle.manifest.width
    for name, graph in torchscript(bundle, "fp32").graphs.items():
        module = load_graph(bundle.folder / graph.file, nowhere, narrow=False)
        for rows, length in ((1, 1), (3, 7)):
            if name == FUSION:
                tokens = torch.ones(rows, length, width, device=nowhere)
                inputs = [tokens, torch.ones(rows, length, dtype=torch.bool, device=nowhere)]
            else:
                arrays = ones(graph, rows, length).values()
                inputs = [torch.from_numpy(each).to(nowhere) for each in arrays]
            with torch.inference_mode(), torch.jit.optimized_execution(False):
                found = module(*inputs)
            for each in found if isinstance(found, tuple) else (found,):
                assert each.device == nowhere
                assert each.shape[0] == rows


def test_whoever_holds_a_row_holds_not_the_batch_that_it_was_of(bundle, proof):
    inputs = inputs_of(proof, "image")
    for tokens in load(bundle).encode(Modality.IMAGE, inputs):
        assert tokens.untyped_storage().nbytes() == tokens.nbytes


def test_threads_may_call_at_once(bundle, proof):
    backend = load(bundle)
    inputs = inputs_of(proof, "text")
    found = []

    def encode():
        return on_host(backend.encode(Modality("text"), inputs))

    wanted = encode()
    threads = [threading.Thread(target=lambda: found.append(encode())) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(found) == 4
    assert all(np.allclose(each, wanted, atol=1e-6) for each in found)


# ---- graphs that are not what their manifest says -----------------------------------------------


def test_a_graph_in_the_place_of_another_is_refused(copy):
    graphs = torchscript(Bundle.open(copy), "fp32").graphs
    put(copy, graphs["text"].file, (copy / graphs["image"].file).read_bytes())
    error = refused(copy)
    assert "the graph cannot be run" in error.message
    assert error.field == str(copy / graphs["text"].file)


@pytest.mark.parametrize("data", [b"", b"not a graph", b"PK\x03\x04" + b"\x08" * 1000])
def test_a_graph_that_is_none_is_refused(copy, data):
    put(copy, torchscript(Bundle.open(copy), "fp32").graphs[FUSION].file, data)
    assert "torch cannot load it" in refused(copy).message


# ---- devices and libraries ----------------------------------------------------------------------


def test_a_gpu_that_is_not_there_is_refused_with_what_there_is(bundle):
    with pytest.raises(ConfigError) as caught:
        load(bundle, device="cuda:99")
    assert caught.value.code == "no_device"
    assert caught.value.seen == "cuda:99"
    assert caught.value.accepted.startswith("cpu")


def test_without_onnxruntime_the_service_runs_on_torch(stays_bundle):
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "sys.modules['onnxruntime'] = None\n"
        "from service.app import create_app\n"
        "from service.settings import Settings\n"
        "create_app(Settings(bundles=Path(sys.argv[1]), backend=sys.argv[2], device='cpu'))\n"
    )
    ends = {}
    for backend in ("torch", "onnx"):
        command = [sys.executable, "-W", "error", "-c", program, str(stays_bundle), backend]
        ends[backend] = subprocess.run(command, capture_output=True, text=True)
    assert ends["torch"].returncode == 0, ends["torch"].stderr
    assert "ConfigError: backend: onnxruntime is not installed; seen 'onnx'" in ends["onnx"].stderr


def test_lengths_are_widened_by_little_to_few_that_come_again():
    assert [widened(n) for n in (0, 1, 16, 17, 128, 129, 512)] == [0, 16, 16, 32, 128, 160, 512]
    assert len({widened(n) for n in range(1, 513)}) < 20
    for n in range(1, 1000):
        assert n <= widened(n) < n + max(16, n / 4 + 1)


# ---- on a GPU -----------------------------------------------------------------------------------


@gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_gpu_computes_what_the_model_did_before_and_after_it_is_recorded(
    bundle, proof, precision
):
    backend = load(bundle, precision, "cuda:0")
    assert backend.device == "GPU 0"
    for _ in range(5):
        assert agrees(backend, proof, torchscript(bundle, precision))


@gpu
def test_auto_takes_the_gpu_and_bf16_where_the_metric_holds(copy):
    number = number_of(Bundle.open(copy), "torchscript bf16")
    narrow = torch.cuda.get_device_capability(0) >= (8, 0)
    for fall, precision in ((MOST_FALL, "bf16" if narrow else "fp32"), (40, "fp32")):
        change_build(copy, lambda build, fall=fall: build.update(fall=fall), number)
        backend = load(copy, device="auto")
        assert (backend.device, backend.build.precision) == ("GPU 0", precision)


@gpu
def test_a_shape_that_comes_again_is_recorded_and_others_run_as_they_are(bundle):
    backend, on_cpu = load(bundle, "fp32", "cuda:0"), load(bundle, "fp32")
    recorder = backend._graphs._recorders[FUSION]
    before = {*recorder.recordings}
    rng = np.random.default_rng(0)

    def fuse(*lengths):
        width = bundle.manifest.width
        cases = [rng.normal(size=(n, width)).astype(np.float32) for n in lengths]
        found, wanted = (
            each.fuse([[each.place(case)] for case in cases]) for each in (backend, on_cpu)
        )
        for one, other in zip(found, wanted, strict=True):
            np.testing.assert_allclose(one, other, atol=BOUND, rtol=BOUND)

    # Of one recorded shape, (2, 16): what stood there before must not show.
    for lengths in ((11, 16), (40, 3), (16, 12), (3, 11), (2, 1), (14, 15), (1, 1)):
        fuse(*lengths)
    assert [shapes[0][:2] for shapes in recorder.recordings if shapes not in before] == [(2, 16)]
    for _ in range(4):
        fuse(*range(1, 20))
    assert [shapes[0][:2] for shapes in recorder.recordings if shapes not in before] == [(2, 16)]
    for rows in range(1, 8):
        for length in range(40, 140, 9):
            for _ in range(3):
                fuse(*[length] * rows)
    assert len(recorder.recordings) > 20
    fuse(139, 40, 1)


@gpu
def test_notes_of_many_lengths_are_encoded_as_on_a_cpu(bundle):
    backend, on_cpu = load(bundle, "fp32", "cuda:0"), load(bundle, "fp32")
    longest = bundle.preprocessor.dimensions()[Modality.TEXT]["max_tokens"]
    rng = np.random.default_rng(0)
    for _ in range(60):
        rows = [
            {"token_ids": rng.integers(5, 40, int(rng.integers(2, longest + 1)))} for _ in range(3)
        ]
        found, wanted = (on_host(e.encode(Modality.TEXT, stack(rows))) for e in (backend, on_cpu))
        np.testing.assert_allclose(found, wanted, atol=BOUND, rtol=BOUND)


@gpu
def test_two_backends_on_one_gpu_record_and_run_beside_one_another(bundle, proof):
    backends = [load(bundle, "fp32", "cuda:0") for _ in range(2)]
    failed = []

    def work(backend):
        try:
            for _ in range(20):
                assert agrees(backend, proof, torchscript(bundle, "fp32"))
        except Exception as exc:
            failed.append(exc)

    threads = [threading.Thread(target=work, args=(each,)) for each in backends]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert failed == []


@gpu
def test_on_a_gpu_company_pays_for_every_graph(bundle):
    backend = load(bundle, "fp32", "cuda:0")
    cost = Cost(backend.build.graphs)
    paces = measure(backend, cost, width=bundle.manifest.width, longest=64, most=8192)
    assert paces.keys() == {*bundle.task.modalities, FUSION}


@gpu
def test_what_a_gpu_encoded_stays_there_and_is_averaged_there(bundle, proof):
    backend = load(bundle, "fp32", "cuda:0")
    rows = backend.encode(Modality.TABULAR, inputs_of(proof, "tabular"))
    assert {each.device.type for each in rows} == {"cuda"}
    mean = backend.average(rows)
    np.testing.assert_allclose(mean.cpu(), on_host(rows).mean(0), atol=BOUND)
    assert rows[0].untyped_storage().nbytes() == rows[0].nbytes
