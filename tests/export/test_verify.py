"""`python -m export verify`: a whole bundle passes, and whatever is not so is said in one line."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import export.__main__ as export
from lanistr.bundle import PROOF, Bundle
from lanistr.command import run_command
from lanistr.manifest import MANIFEST
from tests.damaged import (
    OUTSIDE,
    change_build,
    change_manifest,
    put,
    put_weights_outside,
    to_format_1,
)

Verify = Callable[..., str]


@pytest.fixture
def verify(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Verify:
    """Return a function that runs the command as a user does and returns what it printed."""

    def run(*arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", ["export", "verify", *map(str, arguments)])
        capfd.readouterr()
        run_command(export.main)
        said = capfd.readouterr()
        assert said.err == ""
        return said.out

    return run


@pytest.fixture
def refused(verify: Verify, capfd: pytest.CaptureFixture[str]) -> Verify:
    """Return a function that runs the command, which must fail, and returns its one line.

    What onnxruntime itself would write on the terminal counts too.
    """

    def run(*arguments: object) -> str:
        with pytest.raises(SystemExit) as left:
            verify(*arguments)
        assert left.value.code == 2
        (line,) = capfd.readouterr().err.splitlines()
        assert line.startswith("error: ")
        return line

    return run


@pytest.fixture
def copy(stays_bundle: Path, tmp_path: Path) -> Path:
    """A bundle that may be damaged."""
    return Path(shutil.copytree(stays_bundle, tmp_path / "copy"))


def swap(folder: Path, one: str, other: str) -> None:
    """Exchange two files, and their hashes in the manifest."""
    first, second = ((folder / each).read_bytes() for each in (one, other))
    put(folder, one, second)
    put(folder, other, first)


# ---- what passes --------------------------------------------------------------------------------


def test_a_whole_bundle_passes_on_what_it_brings(verify: Verify, stays_bundle: Path) -> None:
    said = verify(stays_bundle).splitlines()
    manifest = Bundle.open(stays_bundle).manifest
    assert said[0].endswith(f"mortality {manifest.version}, {len(manifest.files)} files intact")
    tried = [line.partition("differs")[0].strip() for line in said if "differs" in line]
    assert tried == ["onnx fp32", "onnx int8", "onnx fp16"]
    untried = [line for line in said if "not checked" in line]
    assert [line.partition(" not checked")[0].strip() for line in untried] == [
        "torchscript fp32",
        "torchscript bf16",
    ]
    assert all("--formats torchscript" in line for line in untried)
    assert "real cases" not in "".join(said)


def test_a_whole_bundle_passes_beside_its_run_in_every_format(
    verify: Verify, stays_bundle: Path, stays_finetuned: Path
) -> None:
    said = verify(
        stays_bundle, "--run", stays_finetuned, "--formats", "onnx", "torchscript"
    ).splitlines()
    for on in ("random inputs", "real cases"):
        assert len([line for line in said if line.endswith(on) or f"on {on}" in line]) == 5
    assert "not checked" not in "".join(said)


def test_a_moved_bundle_passes_without_the_data(
    verify: Verify, stars_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(stars_bundle, tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path)
    assert "onnx fp32" in verify("elsewhere")


# ---- what does not ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["onnx/int8/text.onnx", PROOF, "torchscript/fp32/image.pt"])
def test_a_changed_byte_is_found(refused: Verify, copy: Path, name: str) -> None:
    data = bytearray((copy / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / name).write_bytes(data)
    line = refused(copy)
    assert "the file does not match the manifest" in line
    assert name in line


@pytest.mark.parametrize("precision", ["fp32", "int8", "fp16"])
@pytest.mark.parametrize(("one", "other"), [("text", "image"), ("fusion", "timeseries")])
def test_a_graph_in_the_place_of_another_is_found_though_its_hash_is_right(
    refused: Verify, copy: Path, precision: str, one: str, other: str
) -> None:
    swap(copy, f"onnx/{precision}/{one}.onnx", f"onnx/{precision}/{other}.onnx")
    line = refused(copy)
    assert "does not match the manifest: names" in line
    assert f"onnx/{precision}/" in line


def test_a_torchscript_graph_in_the_place_of_another_is_found(refused: Verify, copy: Path) -> None:
    swap(copy, "torchscript/fp32/text.pt", "torchscript/fp32/image.pt")
    line = refused(copy, "--formats", "torchscript")
    assert "torchscript/fp32/" in line
    assert "the graph cannot be run" in line


def test_a_graph_of_another_model_is_found(refused: Verify, copy: Path) -> None:
    # The same arrays in and out, other weights: the fusion in half precision is not the one in
    # float32, and the manifest has no say in what float32 may be off.
    put(copy, "onnx/fp32/fusion.onnx", (copy / "onnx/fp16/fusion.onnx").read_bytes())
    change_build(copy, lambda build: build.update(proof=dict.fromkeys(build["proof"], 1.0)))
    line = refused(copy)
    assert line.startswith("error: onnx fp32 fusion: the graph's outputs differ")
    assert "at most 0.0001" in line


@pytest.mark.parametrize("key", ["image/inputs/pixels", "image/outputs/tokens"])
def test_a_changed_proof_is_found_though_its_hash_is_right(
    refused: Verify, copy: Path, key: str, tmp_path: Path
) -> None:
    arrays = Bundle.open(copy).proof()
    arrays[key] = arrays[key][::-1]
    np.savez(tmp_path / PROOF, allow_pickle=False, **arrays)
    put(copy, PROOF, (tmp_path / PROOF).read_bytes())
    assert "onnx fp32 image: the graph's outputs differ" in refused(copy)


def test_a_proof_without_one_of_its_arrays_is_found(
    refused: Verify, copy: Path, tmp_path: Path
) -> None:
    arrays = Bundle.open(copy).proof()
    del arrays["fusion/outputs/output"]
    np.savez(tmp_path / PROOF, allow_pickle=False, **arrays)
    put(copy, PROOF, (tmp_path / PROOF).read_bytes())
    assert "does not match the inputs and outputs of the graphs: fusion/outputs/output" in refused(
        copy
    )


def test_figures_that_the_manifest_leaves_out_are_taken_for_none(
    refused: Verify, copy: Path
) -> None:
    builds = json.loads((copy / MANIFEST).read_text())["builds"]
    number = [each["precision"] for each in builds].index("int8")
    change_build(copy, lambda build: build.update(proof={}, parity={}), number)
    assert "at most 0.0001" in refused(copy)


def test_a_bundle_of_format_1_has_nothing_to_be_tried_with(refused: Verify, copy: Path) -> None:
    (copy / PROOF).unlink()
    files = json.loads((copy / MANIFEST).read_text())["files"]
    change_manifest(copy, files={name: each for name, each in files.items() if name != PROOF})
    to_format_1(copy)
    line = refused(copy)
    assert "has no inputs to check its graphs with" in line
    assert "export the run again" in line


def test_a_run_of_another_task_is_refused(
    refused: Verify, stays_bundle: Path, stars_finetuned: Path
) -> None:
    line = refused(stays_bundle, "--run", stars_finetuned)
    assert "the bundle was not exported from this run" in line
    assert "a run of mortality" in line


def test_data_without_a_run_are_refused(refused: Verify, stays_bundle: Path, stays: Path) -> None:
    assert "--data has no effect without --run" in refused(stays_bundle, "--data", stays)


def test_another_runs_model_is_found(
    refused: Verify, copy: Path, stays_finetuned: Path, tmp_path: Path
) -> None:
    from safetensors.numpy import load_file, save_file

    other = tmp_path / "run"
    shutil.copytree(stays_finetuned, other)
    weights = load_file(other / "model" / "model.safetensors")
    (bias,) = [name for name in weights if name.startswith("head") and name.endswith("6.bias")]
    weights[bias] = weights[bias] + 0.01
    save_file(weights, other / "model" / "model.safetensors")
    line = refused(copy, "--run", other)
    assert "fusion: the graph's outputs differ from the model's" in line


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("calibration.json", lambda said: said | {"temperature": 2 * said["temperature"]}),
        (
            "preprocessing.json",
            lambda said: said | {"text": said["text"] | {"max_tokens": 3}},
        ),
    ],
)
def test_what_no_graph_shows_is_held_against_the_run(
    refused: Verify,
    verify: Verify,
    copy: Path,
    stays_finetuned: Path,
    file: str,
    change: Callable[[Any], Any],
) -> None:
    put(copy, file, json.dumps(change(json.loads((copy / file).read_text()))).encode())
    verify(copy)
    line = refused(copy, "--run", stays_finetuned)
    assert "the bundle was not exported from this run" in line
    assert file in line


def test_what_is_no_bundle_is_refused(refused: Verify, tmp_path: Path) -> None:
    assert "not a bundle" in refused(tmp_path)
    assert "not a bundle" in refused(tmp_path / "nowhere")
    assert "did you mean '--formats'?" in refused(tmp_path, "--format-s", "onnx")


# ---- bundles of strangers -----------------------------------------------------------------------


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("location", OUTSIDE)
def test_weights_outside_of_a_graph_are_not_read_wherever_they_stand(
    location: str,
    constant: bool,
    refused: Verify,
    copy: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    graph, here = "onnx/fp32/text.onnx", tmp_path / "one" / "two" / "three"
    here.mkdir(parents=True)
    places = [here, copy, (copy / graph).parent]
    put_weights_outside(copy, graph, location, places, constant=constant)
    monkeypatch.chdir(here)
    assert f"{graph}: onnxruntime cannot load it" in refused(copy)


def test_weights_at_an_absolute_path_are_not_read(
    refused: Verify, copy: Path, tmp_path: Path
) -> None:
    put_weights_outside(copy, "onnx/fp32/text.onnx", str(tmp_path / "secret.bin"), [tmp_path])
    assert "onnx/fp32/text.onnx: onnxruntime cannot load it" in refused(copy)


@pytest.mark.parametrize("data", [b"", b"not a graph", b"\x08" * 1000])
def test_a_graph_that_is_none_is_refused(refused: Verify, copy: Path, data: bytes) -> None:
    put(copy, "onnx/int8/image.onnx", data)
    assert "onnx/int8/image.onnx: onnxruntime cannot load it" in refused(copy)


def test_a_proof_that_pickle_would_have_to_read_is_refused(refused: Verify, copy: Path) -> None:
    np.savez(copy / PROOF, allow_pickle=True, **{"image/inputs/pixels": np.array([{}], object)})
    put(copy, PROOF, (copy / PROOF).read_bytes())
    assert "allow_pickle=False" in refused(copy)


def test_an_axis_as_long_as_no_memory_is_refused_before_anything_is_made_so_long(
    refused: Verify, copy: Path
) -> None:
    def lengthen(build: dict[str, Any]) -> None:
        build["graphs"]["tabular"]["inputs"]["numbers"]["shape"][1] = 10**15

    change_build(copy, lengthen)
    assert "tabular.onnx: does not match the manifest: shapes" in refused(copy)


# ---- TorchScript is a program -------------------------------------------------------------------


@pytest.fixture
def no_torchscript(copy: Path) -> Path:
    """A bundle whose TorchScript files are none, with the right hashes."""
    for path in (copy / "torchscript" / "fp32").iterdir():
        put(copy, path.relative_to(copy).as_posix(), b"rm -rf /")
    return copy


def test_torchscript_is_not_even_read_unless_it_is_asked_for(
    verify: Verify, no_torchscript: Path, stays_finetuned: Path
) -> None:
    assert "onnx int8" in verify(no_torchscript, "--run", stays_finetuned)


def test_torchscript_that_is_none_is_an_error_when_it_is_asked_for(
    refused: Verify, no_torchscript: Path
) -> None:
    line = refused(no_torchscript, "--formats", "torchscript")
    assert "torchscript/fp32/text.pt: torch cannot load it" in line


def test_a_bundle_without_graphs_of_the_format_is_not_called_tried(
    refused: Verify, ranks_bundle: Path
) -> None:
    line = refused(ranks_bundle, "--formats", "torchscript")
    assert "nothing to check" in line
    assert "accepted: onnx fp32, onnx int8" in line
