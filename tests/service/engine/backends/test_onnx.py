"""The graphs of a bundle: which are run, and that those which are not as said are refused."""

import math
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from lanistr import session as lanistr_session
from lanistr.bundle import Bundle
from lanistr.errors import BundleError, ConfigError
from lanistr.manifest import FUSION
from lanistr.modalities import Modality
from service.engine.backends import onnx as onnx_backend
from service.engine.backends.backend import ones
from service.engine.backends.onnx import OnnxBackend, run_bound
from service.settings import DEMO_BUNDLES, Settings
from tests.damaged import OUTSIDE, change_build, change_manifest, put, put_weights_outside

DEMO = DEMO_BUNDLES / "mortality"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A bundle of two builds that may be damaged."""
    return Path(shutil.copytree(DEMO, tmp_path / "bundles" / "copy"))


def load(bundle: Bundle | Path, precision: Any = "auto") -> OnnxBackend:
    opened = Bundle.open(bundle) if isinstance(bundle, Path) else bundle
    return OnnxBackend(opened, "cpu", precision, Settings().threads)


def refused(folder: Path, precision: Any = "fp32") -> BundleError:
    with pytest.raises(BundleError) as caught:
        load(folder, precision)
    return caught.value


def fusion_of(folder: Path, number: int = 0) -> str:
    return Bundle.open(folder).manifest.builds[number].graphs[FUSION].file


def only(folder: Path, number: int) -> None:
    build = Bundle.open(folder).manifest.builds[number].model_dump()
    change_manifest(folder, builds=[build])


@pytest.mark.parametrize("task", ["mortality", "rating"])
def test_the_demo_graphs_compute(bundles, task):
    backend = load(bundles[task])
    assert backend.device == "CPU"
    width = bundles[task].manifest.width
    output, embedding = backend.fuse([[np.ones((5, width), np.float32)]] * 3)
    assert output.shape == (3, bundles[task].task.label.outputs)
    assert embedding.shape == (3, width)


def test_whoever_holds_a_row_holds_not_the_batch_that_it_was_of(bundles):
    backend = load(bundles["mortality"])
    image = ones(backend.build.graphs["image"], 3, 1)
    for tokens in backend.encode(Modality.IMAGE, image):
        assert tokens.base is None
        np.testing.assert_allclose(tokens, backend.encode(Modality.IMAGE, image)[0], atol=1e-6)


@pytest.mark.parametrize(("worth", "threads"), [(0.0, 1), (math.inf, 2)])
def test_more_threads_than_one_are_kept_where_they_are_worth_it(
    bundles, monkeypatch: pytest.MonkeyPatch, worth: float, threads: int
):
    monkeypatch.setattr(onnx_backend, "_WORTH", worth)
    monkeypatch.setattr(onnx_backend, "_MOMENT", math.inf)
    backend = OnnxBackend(bundles["mortality"], "cpu", "fp32", 2)
    options = [each.get_session_options() for each in backend._sessions.values()]
    assert {each.intra_op_num_threads for each in options} == {threads}


def test_a_graph_that_takes_longer_than_a_moment_keeps_its_threads(
    bundles, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(onnx_backend, "_WORTH", 0.0)
    monkeypatch.setattr(onnx_backend, "_MOMENT", 0.0)
    backend = OnnxBackend(bundles["mortality"], "cpu", "fp32", 2)
    assert backend._sessions[FUSION].get_session_options().intra_op_num_threads == 2


# ---- which build --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("precision", "build"), [("auto", "int8"), ("int8", "int8"), ("fp32", "fp32")]
)
def test_a_cpu_takes_int8_unless_it_is_told_otherwise(precision, build):
    assert load(DEMO, precision).build.name == f"onnx {build}"


@pytest.mark.parametrize("fall", [40, 0.51, None])
def test_int8_that_costs_too_much_or_nobody_knows_what_is_taken_only_if_asked_for(
    copy, fall, caplog
):
    change_build(copy, lambda build: build.update(fall=fall), 1)
    assert load(copy).build.name == "onnx fp32"
    (warning,) = caplog.messages
    assert "onnx int8 is used only if --precision asks for it" in warning
    assert f"points of auroc lost: {'unknown' if fall is None else fall}" in warning
    assert load(copy, "int8").build.name == "onnx int8"
    only(copy, 1)
    assert load(copy).build.name == "onnx int8"


def test_int8_that_the_processor_computes_otherwise_is_taken_only_if_asked_for(copy, caplog):
    change_build(copy, lambda build: build["proof"].update(text=1e-5), 1)
    assert load(copy).build.name == "onnx fp32"
    (warning,) = caplog.messages
    assert re.search(
        r"onnx int8 gives other results on this processor than where it was exported: text is off"
        r" by 0\.\d+, accepted: at most 0\.0001; using onnx fp32$",
        warning,
    )
    assert load(copy, "int8").build.name == "onnx int8"
    assert caplog.messages[1].endswith("using onnx int8")
    only(copy, 1)
    assert load(copy).build.name == "onnx int8"


def test_without_int8_a_cpu_takes_float32(copy):
    only(copy, 0)
    assert load(copy).build.name == "onnx fp32"


def test_what_there_is_is_taken_if_there_is_no_more(copy):
    change_build(copy, lambda build: build.update(precision="fp16"))
    only(copy, 0)
    assert load(copy).build.name == "onnx fp16"


def test_a_precision_that_the_bundle_has_not_is_refused_with_those_it_has():
    error = refused(DEMO, "fp16")
    assert error.code == "no_build"
    assert (error.seen, error.accepted) == ("onnx fp16", "onnx fp32, onnx int8")


def test_both_builds_say_nearly_the_same():
    whole, reduced = (load(DEMO, each) for each in ("fp32", "int8"))
    tokens = np.random.default_rng(0).normal(size=(3, 5, 64)).astype(np.float32)
    outputs = [each.fuse([[case] for case in tokens])[0] for each in (whole, reduced)]
    assert 0 < np.abs(outputs[0] - outputs[1]).max() < 0.2


# ---- where they run -----------------------------------------------------------------------------


def test_a_gpu_that_onnxruntime_does_not_reach_is_refused():
    with pytest.raises(ConfigError) as caught:
        OnnxBackend(Bundle.open(DEMO), "cuda:99", "auto", 1)
    assert (caught.value.code, caught.value.seen) == ("no_device", "cuda:99")


@pytest.mark.parametrize("length", [0, 1, 7])
def test_bound_to_a_device_a_graph_returns_what_it_returns_from_the_host(length):
    backend = load(DEMO, "fp32")
    tokens = np.random.default_rng(0).normal(size=(2, length, 64)).astype(np.float32)
    inputs = {"tokens": tokens, "mask": np.ones((2, length), np.bool_)}
    session = backend._sessions[FUSION]
    found = run_bound(session, inputs, ["embedding", "output"], "cpu", 0)
    for each, wanted in zip(found, session.run(["embedding", "output"], inputs), strict=True):
        np.testing.assert_array_equal(each, wanted)


@pytest.mark.skipif(
    "CUDAExecutionProvider" not in onnxruntime.get_available_providers(),
    reason="this onnxruntime is for the CPU",
)
def test_a_gpu_computes_what_the_cpu_does():
    bundle = Bundle.open(DEMO)
    on_gpu, on_cpu = OnnxBackend(bundle, "cuda:0", "fp32", 1), load(DEMO, "fp32")
    assert (on_gpu.device, on_cpu.device) == ("GPU 0", "CPU")
    proof = bundle.proof()
    for modality in bundle.task.modalities:
        start = f"{modality}/inputs/"
        inputs = {k.removeprefix(start): a for k, a in proof.items() if k.startswith(start)}
        found, wanted = (each.encode(modality, inputs) for each in (on_gpu, on_cpu))
        np.testing.assert_allclose(found, wanted, atol=1e-4, rtol=1e-4)
    tokens, mask = proof["fusion/inputs/tokens"], proof["fusion/inputs/mask"]
    cases = [[case[there]] for case, there in zip(tokens, mask, strict=True)]
    for found, wanted in zip(on_gpu.fuse(cases), on_cpu.fuse(cases), strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(),
    reason="this onnxruntime may reach a GPU",
)
def test_where_a_gpu_is_offered_and_not_reached_the_build_is_that_of_the_cpu(monkeypatch):
    offered = [onnx_backend._GPU, *onnxruntime.get_available_providers()]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: offered)
    with pytest.warns(UserWarning, match="CUDAExecutionProvider"):
        backend = OnnxBackend(Bundle.open(DEMO), "auto", "auto", 1)
    assert (backend.device, backend.build.precision) == ("CPU", "int8")
    with (
        pytest.warns(UserWarning, match="CUDAExecutionProvider"),
        pytest.raises(ConfigError, match="cuda"),
    ):
        OnnxBackend(Bundle.open(DEMO), "cuda", "auto", 1)


# ---- graphs that are not what their manifest says -----------------------------------------------


@pytest.mark.parametrize("number", [0, 1])
def test_a_graph_in_the_place_of_another_is_refused(copy, number):
    build = Bundle.open(copy).manifest.builds[number]
    put(copy, build.graphs["text"].file, (copy / build.graphs["image"].file).read_bytes())
    error = refused(copy, build.precision)
    assert error.message == "does not match the manifest: names"
    assert error.field == str(copy / build.graphs["text"].file)


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize(
    "change", [{"dtype": "float32"}, {"shape": ["rows", 1, 48, 48]}, {"shape": ["rows", 3, 48]}]
)
def test_inputs_that_do_not_fit_the_manifest_are_refused_in_any_precision(copy, number, change):
    change_build(
        copy, lambda build: build["graphs"]["image"]["inputs"]["pixels"].update(change), number
    )
    precision = Bundle.open(copy).manifest.builds[number].precision
    assert refused(copy, precision).message == "does not match the manifest: shapes"


@pytest.mark.parametrize("axis", [0, 1])
def test_an_open_axis_that_the_manifest_calls_longer_than_any_memory_is_refused(copy, axis):
    def lengthen(build):
        for each in build["graphs"]["text"]["inputs"].values():
            each["shape"][axis] = 10**15

    change_build(copy, lengthen)
    assert refused(copy).message == "does not match the manifest: shapes"


def test_a_graph_that_computes_no_numbers_is_refused(copy):
    fusion = fusion_of(copy)
    proto = onnx.load(copy / fusion)
    for tensor in proto.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and len(tensor.dims) == 2:
            nothing = np.full_like(numpy_helper.to_array(tensor), np.nan)
            tensor.CopyFrom(numpy_helper.from_array(nothing, tensor.name))
    put(copy, fusion, proto.SerializeToString())
    assert "output of 0 tokens" in refused(copy).message


def test_a_graph_that_loads_but_cannot_be_run_is_refused(copy):
    text = Bundle.open(copy).manifest.builds[0].graphs["text"].file
    proto = onnx.load(copy / text)
    proto.graph.initializer.append(helper.make_tensor("far", TensorProto.INT64, [1], [10**6]))
    for node in proto.graph.node:
        node.input[:] = ["more" if each == "token_ids" else each for each in node.input]
    # Adds to every token the millionth of its note.
    proto.graph.node.insert(0, helper.make_node("Gather", ["token_ids", "far"], ["it"], axis=1))
    proto.graph.node.insert(1, helper.make_node("Add", ["token_ids", "it"], ["more"]))
    put(copy, text, proto.SerializeToString())
    assert "the graph cannot be run" in refused(copy).message


# ---- bundles of strangers -----------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"not a graph", b"\x08" * 1000])
def test_a_graph_that_is_none_is_refused(copy, data):
    put(copy, fusion_of(copy, 1), data)
    assert "onnxruntime cannot load it" in refused(copy, "int8").message


def test_an_operator_that_onnxruntime_does_not_bring_is_refused(copy):
    fusion = fusion_of(copy)
    proto = onnx.load(copy / fusion)
    proto.graph.node[0].domain = "com.stranger"
    proto.opset_import.append(helper.make_opsetid("com.stranger", 1))
    put(copy, fusion, proto.SerializeToString())
    assert "onnxruntime cannot load it" in refused(copy).message


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("location", OUTSIDE)
def test_weights_outside_of_a_graph_are_not_read_wherever_they_stand(
    location, constant, copy, tmp_path, monkeypatch
):
    fusion, here = fusion_of(copy), tmp_path / "one" / "two" / "three"
    here.mkdir(parents=True)
    places = [here, copy, (copy / fusion).parent]
    put_weights_outside(copy, fusion, location, places, constant=constant)
    monkeypatch.chdir(here)
    assert "onnxruntime cannot load it" in refused(copy).message


@pytest.mark.parametrize("constant", [False, True])
def test_weights_at_an_absolute_path_are_not_read(constant, copy, tmp_path):
    fusion, secret = fusion_of(copy), tmp_path / "secret.bin"
    put_weights_outside(copy, fusion, str(secret), [tmp_path], constant=constant)
    assert secret.exists()
    assert "onnxruntime cannot load it" in refused(copy).message


def test_the_same_weights_inside_are_read(copy, tmp_path):
    """That is, nothing but their place was wrong."""
    fusion = fusion_of(copy)
    put_weights_outside(copy, fusion, "secret.bin", [tmp_path])
    proto = onnx.load(copy / fusion, load_external_data=False)
    (outside,) = [each for each in proto.graph.initializer if each.external_data]
    outside.ClearField("external_data")
    outside.data_location = TensorProto.DEFAULT
    outside.raw_data = (tmp_path / "secret.bin").read_bytes()
    put(copy, fusion, proto.SerializeToString())
    assert load(copy, "fp32").build.precision == "fp32"


def test_what_was_freed_while_a_graph_was_loaded_is_given_back(bundles, monkeypatch):
    asked = []
    for library in (SimpleNamespace(malloc_trim=asked.append), SimpleNamespace()):  # glibc, musl
        monkeypatch.setattr(lanistr_session.ctypes, "CDLL", lambda _, found=library: found)
        assert OnnxBackend(bundles["mortality"], "cpu", "fp32", 1)._sessions
    assert asked == [0] * len(bundles["mortality"].build("onnx", "fp32").graphs)


def test_a_loaded_graph_keeps_no_copy_of_its_file(bundles):
    backend = OnnxBackend(bundles["mortality"], "cpu", "fp32", 1)
    for session in backend._sessions.values():
        held = [each for each in vars(session).values() if isinstance(each, bytes)]
        assert held == []
