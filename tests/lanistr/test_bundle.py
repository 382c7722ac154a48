"""Bundles: whole or refused, written whole or not at all."""

import io
import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lanistr.bundle import ARRAYS, CALIBRATION, CARD, PROOF, Bundle, write_bundle
from lanistr.errors import BundleError
from lanistr.manifest import MANIFEST, Tensor, read_manifest, version_of
from service.settings import DEMO_BUNDLES
from tests.damaged import change_build, change_manifest, put, to_format_1

DEMO = DEMO_BUNDLES / "rating"
ADDED = {"format", "version", "created", "files"}  # by `write_bundle` itself


def proof() -> dict[str, np.ndarray]:
    """Arrays as the graphs of the demo take and return them."""
    (build, *_) = read_manifest(DEMO).builds
    return {
        f"{name}/{side}/{each}": np.ones(
            [3 if isinstance(size, str) else size for size in tensor.shape], tensor.dtype
        )
        for name, graph in build.graphs.items()
        for side, tensors in (("inputs", graph.inputs), ("outputs", graph.outputs))
        for each, tensor in tensors.items()
    }


def copy_demo(draft: Path) -> None:
    """Everything but the manifest, and a proof of the right shapes."""
    shutil.copytree(DEMO, draft, dirs_exist_ok=True)
    (draft / MANIFEST).unlink()
    np.savez(draft / PROOF, allow_pickle=False, **proof())


def described() -> Mapping[str, Any]:
    return read_manifest(DEMO).model_dump(exclude=ADDED)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A bundle that a test may damage."""
    return write_bundle(tmp_path / "bundles" / "rating", copy_demo, described).folder


def refused(folder: Path) -> BundleError:
    with pytest.raises(BundleError) as caught:
        Bundle.open(folder)
    return caught.value


# ---- reading ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mortality", "rating"])
def test_a_whole_bundle_opens(name: str):
    bundle = Bundle.open(DEMO_BUNDLES / name)
    assert bundle.task.name == name
    assert bundle.manifest.demo
    assert set(bundle.preprocessor.parts) == set(bundle.task.modalities)
    assert bundle.card().startswith("# ")
    graphs = bundle.build("onnx", "fp32").graphs
    assert set(graphs) == {*bundle.task.modalities, "fusion"}
    for graph in graphs.values():
        assert len(bundle.read(graph.file)) == bundle.manifest.files[graph.file].bytes


def test_what_the_file_system_hides_in_a_folder_is_passed_over(folder: Path):
    (folder / ".DS_Store").write_bytes(b"x")
    (folder / "onnx" / ".DS_Store").write_bytes(b"x")
    (folder / "..data").mkdir()
    (folder / "..data" / "task.json").write_bytes(b"{}")
    assert Bundle.open(folder).task.name == "rating"


def every_file() -> list[str]:
    found = {path.relative_to(DEMO).as_posix() for path in DEMO.rglob("*") if path.is_file()}
    return sorted(found | {PROOF})


@pytest.mark.parametrize("name", [each for each in every_file() if each != MANIFEST])
def test_one_changed_byte_in_any_file_is_refused(folder: Path, name: str):
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    error = refused(folder)
    assert (error.code, error.field) == ("hash_mismatch", str(folder / name))


@pytest.mark.parametrize("name", every_file())
def test_a_missing_file_is_refused(folder: Path, name: str):
    (folder / name).unlink()
    error = refused(folder)
    assert error.code == ("not_a_bundle" if name == MANIFEST else "missing_file")


@pytest.mark.parametrize("name", [each for each in every_file() if each != MANIFEST])
def test_a_file_that_the_manifest_has_no_hash_of_is_refused(folder: Path, name: str):
    files = json.loads((folder / MANIFEST).read_text())["files"]
    change_manifest(folder, files={n: entry for n, entry in files.items() if n != name})
    error = refused(folder)
    assert (error.code, error.field) == ("bad_bundle", str(folder / name))


@pytest.mark.parametrize("name", ["../outside.txt", "onnx/../../outside.txt", "..\\outside.txt"])
def test_a_path_out_of_the_bundle_is_refused_even_with_the_right_hash(folder: Path, name: str):
    card = (folder / "MODEL_CARD.md").read_bytes()
    (folder.parent / "outside.txt").write_bytes(card)
    (folder / "..\\outside.txt").write_bytes(card)
    files = json.loads((folder / MANIFEST).read_text())["files"]
    files["..\\outside.txt"] = files["MODEL_CARD.md"]
    change_manifest(folder, files=files | {name: files["MODEL_CARD.md"]})
    error = refused(folder)
    assert error.code == "bad_bundle"
    assert "must be inside its folder" in error.message


def test_an_absolute_path_is_refused(folder: Path):
    files = json.loads((folder / MANIFEST).read_text())["files"]
    name = str(folder / "MODEL_CARD.md")
    change_manifest(folder, files=files | {name: files["MODEL_CARD.md"]})
    assert "must be inside its folder" in refused(folder).message


@pytest.mark.parametrize("name", ["task.json", "onnx/fp32/fusion.onnx", "onnx"])
def test_a_link_in_the_place_of_a_file_or_a_folder_is_refused(folder: Path, name: str):
    moved = folder.parent / "elsewhere"
    (folder / name).rename(moved)
    (folder / name).symlink_to(moved)
    assert "must be inside its folder" in refused(folder).message


def test_a_link_that_the_manifest_does_not_name_may_only_lead_nowhere(folder: Path):
    (folder / "nowhere").symlink_to(folder / "gone")
    (folder / "..data").symlink_to(folder.parent)
    assert Bundle.open(folder).task.name == "rating"
    (folder / "onnx" / "more").symlink_to(folder.parent)
    error = refused(folder)
    assert (error.code, error.field) == ("bad_bundle", str(folder / "onnx" / "more"))
    assert "no hash" in error.message


def test_a_name_too_long_for_any_file_is_refused(folder: Path):
    files = json.loads((folder / MANIFEST).read_text())["files"]
    change_manifest(folder, files=files | {"a" * 5000: files["MODEL_CARD.md"]})
    assert "File name too long" in refused(folder).message


def test_a_limit_that_is_no_number_of_tokens_is_refused(folder: Path):
    state = json.loads((folder / "preprocessing.json").read_text())
    state["text"]["max_tokens"] = float("inf")
    put(folder, "preprocessing.json", json.dumps(state).encode())
    assert refused(folder).code == "bad_preprocessing"


def test_a_tokenizer_that_is_none_of_words_is_refused(folder: Path):
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    del tokenizer["model"]["vocab"]["[UNK]"]
    tokenizer["added_tokens"] = [
        each for each in tokenizer["added_tokens"] if each["content"] != "[UNK]"
    ]
    put(folder, "tokenizer.json", json.dumps(tokenizer).encode())
    error = refused(folder)
    assert error.code == "bad_preprocessing"
    assert "lacks [UNK]" in error.message


def test_the_bundle_itself_may_be_a_link(folder: Path, tmp_path: Path):
    current = tmp_path / "current"
    current.symlink_to(folder, target_is_directory=True)
    assert Bundle.open(current).task.name == "rating"


@pytest.mark.parametrize("format", [0, 3, "1", None, [1]])
def test_an_unknown_format_is_refused_by_its_name(folder: Path, format: Any):
    change_manifest(folder, format=format)
    error = refused(folder)
    assert error.code == "unknown_format"
    assert error.seen == (str(format) if isinstance(format, list) else format)
    assert error.accepted.startswith("format 1 or 2")


def test_a_bundle_of_format_1_is_read_as_one_build_in_onnx(folder: Path):
    newer = Bundle.open(folder)
    to_format_1(folder)
    older = Bundle.open(folder)
    (build,) = older.manifest.builds
    assert build.name == "onnx fp32"
    assert build.graphs == newer.manifest.builds[0].graphs
    assert build.parity == newer.manifest.builds[0].parity
    assert (build.proof, build.metrics, build.fall) == ({}, {}, None)
    assert older.manifest.extent is None
    assert older.build("onnx", "int8", "fp32") == build


def test_a_bundle_of_format_1_without_its_graphs_is_refused(folder: Path):
    to_format_1(folder)
    change_manifest(folder, graphs=None)
    assert "graphs" in refused(folder).field


def test_an_unknown_key_of_the_manifest_is_named(folder: Path):
    change_manifest(folder, licence="mine")
    assert "did you mean 'license'" in refused(folder).accepted
    change_manifest(folder, licence=None)
    change_build(folder, lambda build: build.update(precison="fp32"))
    assert "did you mean 'precision'" in refused(folder).accepted


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\x00", "[" * 100_000])
def test_a_manifest_that_is_none_is_refused(folder: Path, text: str):
    (folder / MANIFEST).write_text(text)
    assert refused(folder).code in ("bad_bundle", "unknown_format")


def test_the_task_must_be_the_one_that_the_manifest_names(folder: Path):
    change_manifest(folder, task="mortality")
    error = refused(folder)
    assert (error.seen, error.accepted) == ("rating", "mortality")


@pytest.mark.parametrize("decision", [{"cuts": [2, 3]}, {"weights": [1, 1, 2]}])
def test_a_decision_must_be_between_the_classes_of_the_label(
    folder: Path, decision: dict[str, list[float]]
):
    fitted = json.loads((folder / CALIBRATION).read_text())
    put(folder, CALIBRATION, json.dumps(fitted | {"decision": decision}).encode())
    error = refused(folder)
    assert (error.code, error.field) == ("bad_bundle", str(folder / CALIBRATION))
    assert "the decision does not fit the label" in str(error)
    assert "a weight for each of 5 classes" in str(error)


def test_the_graphs_must_be_those_of_the_tasks_modalities(folder: Path):
    change_build(folder, lambda build: build["graphs"].pop("image"))
    error = refused(folder)
    assert "the graphs of onnx fp32 do not match the task" in error.message
    assert error.accepted == "fusion, image, tabular, text"


@pytest.mark.parametrize(
    ("runtime", "precision", "accepted"),
    [("openvino", "fp32", "'onnx' or 'torchscript'"), ("onnx", "fp8", "'fp32', 'int8', 'fp16'")],
)
def test_a_build_that_nobody_knows_is_refused_with_those_known(
    folder: Path, runtime: str, precision: str, accepted: str
):
    change_build(folder, lambda build: build.update(runtime=runtime, precision=precision))
    error = refused(folder)
    assert error.field.startswith("builds.0.")
    assert accepted in error.message


def test_two_builds_of_one_name_are_refused(folder: Path):
    (build, *_) = json.loads((folder / MANIFEST).read_text())["builds"]
    change_manifest(folder, builds=[build, build])
    assert "two builds are named onnx fp32" in refused(folder).message


def test_a_graph_left_whole_must_be_one_of_the_build(folder: Path):
    change_build(folder, lambda build: build.update(whole=["image", "tabulra"]))
    assert "onnx fp32 lists graphs as whole that it does not have" in refused(folder).message


def test_a_bundle_without_builds_is_refused(folder: Path):
    change_manifest(folder, builds=[])
    assert refused(folder).field == "builds"


def test_a_build_is_chosen_by_the_first_wish_that_the_bundle_has(folder: Path):
    (build, *_) = json.loads((folder / MANIFEST).read_text())["builds"]
    change_manifest(folder, builds=[build | {"precision": each} for each in ("int8", "fp16")])
    bundle = Bundle.open(folder)  # in fp32 it has none: it may be asked for what it has
    assert bundle.build("onnx", "fp32", "int8", "fp16").name == "onnx int8"
    assert bundle.build("onnx", "fp16", "int8").name == "onnx fp16"
    for wish in (("onnx", "fp32"), ("torchscript", "int8", "fp16")):
        with pytest.raises(BundleError, match="no such build") as caught:
            bundle.build(*wish)  # type: ignore[arg-type]
        assert caught.value.accepted == "onnx int8, onnx fp16"
        assert str(caught.value.seen).startswith(" ".join(wish[:2]))


@pytest.mark.parametrize(
    ("graph", "side", "name", "shape"),
    [
        ("image", "outputs", "tokens", ["rows", 16, 65]),
        ("image", "outputs", "tokens", ["rows", 16]),
        ("fusion", "inputs", "tokens", ["cases", "tokens", 10**12]),
        ("fusion", "inputs", "mask", ["cases"]),
        ("fusion", "outputs", "output", ["cases", 6]),
        ("fusion", "outputs", "embedding", ["cases", "width"]),
    ],
)
def test_shapes_that_do_not_fit_the_bundle_are_refused(
    folder: Path, graph: str, side: str, name: str, shape: list[int | str]
):
    change_build(folder, lambda build: build["graphs"][graph][side][name].update(shape=shape))
    error = refused(folder)
    assert error.message == f"the {graph} graph of onnx fp32 does not match the bundle"
    assert name in str(error.seen)


def test_outputs_of_other_names_or_types_are_refused(folder: Path):
    def rename(build: dict[str, Any]) -> None:
        outputs = build["graphs"]["fusion"]["outputs"]
        outputs["logits"] = outputs.pop("output")

    before = (folder / MANIFEST).read_text()
    change_build(folder, rename)
    assert "logits float32" in str(refused(folder).seen)
    (folder / MANIFEST).write_text(before)
    change_build(
        folder, lambda build: build["graphs"]["text"]["outputs"]["tokens"].update(dtype="float64")
    )
    assert "tokens float64" in str(refused(folder).seen)


@pytest.mark.parametrize("size", [-1, 1.5, None])
def test_a_size_that_is_none_is_refused(folder: Path, size: Any):
    def change(build: dict[str, Any]) -> None:
        build["graphs"]["image"]["inputs"]["pixels"]["shape"][1] = size

    change_build(folder, change)
    assert refused(folder).field.startswith("builds.0.graphs.image.inputs.pixels.shape.1")


@pytest.mark.parametrize("width", [0, -64, 10**30, 63])
def test_a_width_that_is_not_that_of_the_graphs_is_refused(folder: Path, width: int):
    change_manifest(folder, width=width)
    assert refused(folder).code in ("bad_schema", "bad_bundle")


@pytest.mark.parametrize("size", [-1, 0, 10**30])
def test_a_size_that_is_not_the_files_is_refused(folder: Path, size: int):
    files = json.loads((folder / MANIFEST).read_text())["files"]
    files["task.json"]["bytes"] = size
    change_manifest(folder, files=files)
    assert "task.json" in refused(folder).field


def test_a_folder_without_a_manifest_is_no_bundle(tmp_path: Path):
    assert refused(tmp_path).code == "not_a_bundle"
    assert refused(tmp_path / "nowhere").code == "not_a_bundle"


def test_a_graph_that_changed_or_went_after_the_opening_is_not_run(folder: Path):
    bundle = Bundle.open(folder)
    graph = bundle.manifest.builds[0].graphs["fusion"].file
    (folder / graph).write_bytes(b"something else")
    with pytest.raises(BundleError, match="not match the manifest"):
        bundle.read("onnx/fp32/fusion.onnx")
    (folder / graph).unlink()
    with pytest.raises(BundleError, match="is missing a file"):
        bundle.read(graph)


def rewrite(path: Path) -> None:
    """Write into the file as many bytes, and say that it is as old."""
    found = path.stat()
    path.write_bytes(path.read_bytes()[::-1])
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def replace(path: Path) -> None:
    """Put another file in its place."""
    path.with_suffix(".new").write_bytes(b"something else")
    path.with_suffix(".new").replace(path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (rewrite, "not match the manifest"),
        (replace, "not match the manifest"),
        (Path.unlink, "is missing a file"),
    ],
)
@pytest.mark.parametrize("fails", [False, True])
def test_a_file_that_is_read_by_others_stays_as_it_is_until_they_are_done(
    folder: Path, change: Callable[[Path], None], says: str, fails: bool
):
    bundle = Bundle.open(folder)
    graph = bundle.manifest.builds[0].graphs["fusion"].file

    def read(path: Path) -> None:
        change(path)
        if fails:
            raise ValueError("not a graph")

    with pytest.raises(BundleError, match=says), bundle.unchanged(graph) as path:
        read(path)


def test_a_file_that_only_looks_like_another_is_the_same(folder: Path):
    bundle = Bundle.open(folder)
    graph = bundle.manifest.builds[0].graphs["fusion"].file
    with bundle.unchanged(graph) as path:
        assert path.read_bytes() == bundle.read(graph)
        path.chmod(0o600)
        shutil.copy2(path, path.with_suffix(".new"))
        path.with_suffix(".new").replace(path)
    with pytest.raises(ValueError, match="of its own"), bundle.unchanged(graph):
        raise ValueError("an error of its own")


def test_a_file_that_changed_is_not_handed_on(folder: Path):
    bundle = Bundle.open(folder)
    graph = bundle.manifest.builds[0].graphs["fusion"].file
    (folder / graph).write_bytes(b"something else")
    with (
        pytest.raises(BundleError, match="not match the manifest"),
        bundle.unchanged(graph),
    ):
        pytest.fail("it was handed on")
    (folder / graph).unlink()
    with pytest.raises(BundleError, match="is missing a file"), bundle.unchanged(graph):
        pytest.fail("it was handed on")


# ---- the proof ----------------------------------------------------------------------------------


def pickled(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez(file, allow_pickle=True, **(proof() | {"fusion/inputs/mask": array}))
    return file.getvalue()


class Trap:
    """Leaves a file behind when it is read by pickle."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def test_a_proof_is_read_as_it_was_written(folder: Path):
    read = Bundle.open(folder).proof()
    assert read.keys() == proof().keys()
    for name, array in proof().items():
        np.testing.assert_array_equal(read[name], array)
        assert read[name].dtype == array.dtype


def test_a_proof_that_is_a_program_is_refused_and_not_run(folder: Path, tmp_path: Path):
    caught = tmp_path / "caught"
    put(folder, PROOF, pickled(np.array([Trap(caught)], dtype=object)))
    with pytest.raises(BundleError, match="allow_pickle=False"):
        Bundle.open(folder).proof()
    put(folder, PROOF, pickle.dumps(Trap(caught)))
    with pytest.raises(BundleError, match="cannot be read"):
        Bundle.open(folder).proof()
    assert not caught.exists()


def one_array() -> bytes:
    file = io.BytesIO()
    np.save(file, np.ones(3))
    return file.getvalue()


def huge() -> bytes:
    """An archive whose first array says that it is larger than any memory."""
    file = io.BytesIO()
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (%d,), }" % 10**15
    with zipfile.ZipFile(file, "w") as archive:
        start = b"\x93NUMPY\x01\x00" + (len(header) + 1).to_bytes(2, "little")
        archive.writestr("fusion/inputs/mask.npy", start + header + b"\n")
    return file.getvalue()


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"none", one_array(), huge()])
def test_a_proof_that_is_no_archive_of_arrays_is_refused(folder: Path, data: bytes):
    put(folder, PROOF, data)
    with pytest.raises(BundleError, match="cannot be read") as caught:
        Bundle.open(folder).proof()
    assert caught.value.field == str(folder / PROOF)


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("fusion/outputs/output", None),
        ("fusion/outputs/another", np.ones((3, 5), np.float32)),
        ("fusion/outputs/output", np.ones((3, 4), np.float32)),
        ("fusion/outputs/output", np.ones((0, 5), np.float32)),
        ("fusion/outputs/output", np.ones((3, 5), ">f4")),
        ("fusion/inputs/mask", np.ones((3, 3), np.float32)),
        ("image/inputs/pixels", np.ones((), np.uint8)),
        ("text/inputs/token_ids", np.full((3, 3), "word")),
    ],
)
def test_a_proof_of_other_arrays_than_the_graphs_is_refused(
    folder: Path, name: str, array: np.ndarray | None
):
    arrays = proof() | ({} if array is None else {name: array})
    if array is None:
        del arrays[name]
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **arrays)
    put(folder, PROOF, file.getvalue())
    with pytest.raises(
        BundleError, match=f"does not match the inputs and outputs of the graphs: {name}"
    ):
        Bundle.open(folder).proof()


@pytest.mark.parametrize("name", [ARRAYS, PROOF])
def test_a_bundle_without_what_readers_depend_on_is_refused(folder: Path, name: str):
    (folder / name).unlink()
    files = json.loads((folder / MANIFEST).read_text())["files"]
    change_manifest(folder, files={n: each for n, each in files.items() if n != name})
    error = refused(folder)
    assert (error.code, error.field) == ("missing_file", str(folder / name))


def test_an_older_bundle_without_a_proof_can_be_served_but_not_tried(folder: Path):
    to_format_1(folder)
    (folder / PROOF).unlink()
    manifest = json.loads((folder / MANIFEST).read_text())
    del manifest["files"][PROOF]
    (folder / MANIFEST).write_text(json.dumps(manifest))
    bundle = Bundle.open(folder)
    with pytest.raises(BundleError, match="has no inputs to check its graphs with") as caught:
        bundle.proof()
    assert caught.value.code == "no_proof"


def test_what_is_packed_beside_the_arrays_is_refused(folder: Path):
    packed = io.BytesIO((folder / PROOF).read_bytes())
    with zipfile.ZipFile(packed, "a") as archive:
        archive.writestr("readme.txt", b"hello")
    put(folder, PROOF, packed.getvalue())
    with pytest.raises(BundleError, match=r"not an array: readme\.txt"):
        Bundle.open(folder).proof()


def test_a_proof_that_unpacks_to_too_much_is_not_unpacked(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("lanistr.bundle._LARGEST_PROOF", 1000)
    with pytest.raises(BundleError, match="too large"):
        Bundle.open(folder).proof()


# ---- its version --------------------------------------------------------------------------------


def test_a_version_that_is_not_that_of_the_manifest_is_refused(folder: Path):
    change_manifest(folder, version="deadbeef0000")
    error = refused(folder)
    assert error.message.startswith("the manifest does not match its version")
    assert error.seen == "deadbeef0000"


@pytest.mark.parametrize(
    "change",
    [
        lambda said: said.update(demo=False),
        lambda said: said["metrics"].update(accuracy=1.0),
        lambda said: said["builds"][0].update(fall=-3.0),
        lambda said: said["files"][CARD].update(sha256="0" * 64),
        lambda said: said["files"].update(other=said["files"].pop(CARD)),
    ],
)
def test_the_version_covers_all_that_a_manifest_says(folder: Path, change: Any):
    manifest = json.loads((folder / MANIFEST).read_text())
    change(manifest)
    assert version_of(manifest) != manifest["version"]
    (folder / MANIFEST).write_text(json.dumps(manifest))
    assert "not match its version" in refused(folder).message


def test_the_version_hangs_neither_on_the_date_nor_on_the_layout_of_the_page(folder: Path):
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["created"] = "2020-01-01T00:00:00+00:00"
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=7))
    assert Bundle.open(folder).manifest.version == manifest["version"]


def test_a_named_axis_takes_any_number_but_none():
    tensor = Tensor(dtype="float32", shape=("rows", 2))
    assert tensor.fits(np.ones((7, 2), np.float32))
    assert not tensor.fits(np.ones((0, 2), np.float32))
    assert not tensor.fits(np.ones((7, 3), np.float32))
    assert not tensor.fits(np.ones((7, 2)))


# ---- writing ------------------------------------------------------------------------------------


def test_what_is_written_can_be_opened_and_stands_alone(tmp_path: Path):
    folder = tmp_path / "new" / "rating"
    bundle = write_bundle(folder, copy_demo, described)
    assert bundle.folder == folder
    assert Bundle.open(folder).manifest == bundle.manifest
    graph = bundle.manifest.builds[0].graphs["fusion"].file
    assert bundle.read(graph) == (DEMO / graph).read_bytes()
    assert list(folder.parent.iterdir()) == [folder]
    assert folder.stat().st_mode == folder.parent.stat().st_mode  # as the umask has it


def test_the_version_follows_the_contents(tmp_path: Path):
    def another(draft: Path) -> None:
        copy_demo(draft)
        (draft / "MODEL_CARD.md").write_text("# Another\n")

    versions = [
        write_bundle(tmp_path / name, fill, described).manifest.version
        for name, fill in [("a", copy_demo), ("b", copy_demo), ("c", another)]
    ]
    assert versions[0] == versions[1] != versions[2]


def test_an_older_bundle_is_replaced_as_a_whole(folder: Path):
    with (folder / CARD).open("a") as card:  # damaged, but a bundle
        card.write("more")

    def fill(draft: Path) -> None:
        assert (folder / CARD).read_text().endswith("more")  # the older one stands until the end
        copy_demo(draft)

    write_bundle(folder, fill, described)
    assert not (folder / CARD).read_text().endswith("more")
    assert list(folder.parent.iterdir()) == [folder]
    Bundle.open(folder)


@pytest.mark.parametrize("manifest", ['{"name": "my web app"}', "[]", "not JSON", None])
def test_what_is_no_bundle_is_not_replaced(tmp_path: Path, manifest: str | None):
    place = tmp_path / "app"
    (place / "text").mkdir(parents=True)
    (place / "text/thesis.txt").write_text("years of work")
    if manifest is not None:
        (place / MANIFEST).write_text(manifest)
    with pytest.raises(BundleError, match="contains other files") as caught:
        write_bundle(place, copy_demo, described)
    assert caught.value.seen == (MANIFEST if manifest is not None else "text/thesis.txt")
    assert (place / "text/thesis.txt").read_text() == "years of work"


def test_notes_that_somebody_put_into_a_bundle_are_not_lost(folder: Path):
    (folder / "notes.txt").write_text("where it came from")
    with pytest.raises(BundleError, match="contains other files") as caught:
        write_bundle(folder, copy_demo, described)
    assert caught.value.seen == "notes.txt"
    assert (folder / "notes.txt").is_file()


@pytest.mark.parametrize("when", ["is filled", "goes to the disk"])
def test_notes_that_somebody_puts_there_meanwhile_are_not_lost(
    folder: Path, monkeypatch: pytest.MonkeyPatch, when: str
):
    before = (folder / MANIFEST).read_bytes()

    def note() -> None:
        (folder / "notes.txt").write_text("what it did on our ward")

    def fill(draft: Path) -> None:
        copy_demo(draft)
        if when == "is filled":
            note()
        else:
            monkeypatch.setattr("lanistr.draft.fsync", lambda path: note())

    with pytest.raises(BundleError, match="contains other files") as caught:
        write_bundle(folder, fill, described)
    assert caught.value.seen == "notes.txt"
    assert (folder / "notes.txt").is_file()
    assert (folder / MANIFEST).read_bytes() == before
    assert list(folder.parent.iterdir()) == [folder]


@pytest.mark.parametrize("name", [".env", ".git/config", "onnx/.gitattributes"])
@pytest.mark.parametrize("among", ["a bundle", "nothing"])
def test_hidden_files_are_not_lost_either(folder: Path, tmp_path: Path, name: str, among: str):
    place = folder if among == "a bundle" else tmp_path / "new"
    (place / name).parent.mkdir(parents=True, exist_ok=True)
    (place / name).write_text("KEY=1")
    (place / ".DS_Store").write_bytes(b"x")  # the file system's own
    with pytest.raises(BundleError, match="contains other files") as caught:
        write_bundle(place, copy_demo, described)
    assert caught.value.seen == name
    (place / name).unlink()
    write_bundle(place, copy_demo, described)


def test_a_link_to_a_folder_is_not_lost(folder: Path, tmp_path: Path):
    (folder / "data").symlink_to(tmp_path)
    with pytest.raises(BundleError, match="contains other files") as caught:
        write_bundle(folder, copy_demo, described)
    assert caught.value.seen == "data"


def test_a_bundle_can_be_written_where_one_stands_and_where_a_link_leads(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    link = tmp_path / "current"
    link.symlink_to(folder)
    assert write_bundle(link, copy_demo, described).folder == link
    assert link.is_symlink()
    Bundle.open(folder)
    monkeypatch.chdir(folder)
    write_bundle(Path(), copy_demo, described)
    assert list(folder.parent.iterdir()) == [folder]
    Bundle.open(folder)


@pytest.mark.parametrize("fault", [KeyboardInterrupt, OSError])
def test_an_interruption_between_the_renames_leaves_the_older_bundle(
    folder: Path, monkeypatch: pytest.MonkeyPatch, fault: type[BaseException]
):
    before = (folder / MANIFEST).read_bytes()
    rename = Path.rename

    def interrupted(self: Path, target: Path) -> Path:
        if "-draft-" in self.name:
            raise fault
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(fault):
        write_bundle(folder, copy_demo, described)
    assert (folder / MANIFEST).read_bytes() == before
    assert list(folder.parent.iterdir()) == [folder]


def test_an_empty_folder_is_taken(tmp_path: Path):
    (tmp_path / "rating").mkdir()
    write_bundle(tmp_path / "rating", copy_demo, described)
    assert [path.name for path in tmp_path.iterdir()] == ["rating"]


def test_a_failure_leaves_no_draft_and_the_older_bundle_as_it_was(folder: Path):
    before = (folder / MANIFEST).read_bytes()

    def fail(draft: Path) -> None:
        copy_demo(draft)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_bundle(folder, fail, described)
    assert list(folder.parent.iterdir()) == [folder]
    assert (folder / MANIFEST).read_bytes() == before
    Bundle.open(folder)


def test_a_bundle_that_could_not_be_opened_is_not_left_behind(tmp_path: Path):
    def fill(draft: Path) -> None:
        copy_demo(draft)
        (draft / "calibration.json").write_text('{"temperature": -1}')

    with pytest.raises(BundleError, match=r"calibration\.json"):
        write_bundle(tmp_path / "rating", fill, described)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_other_things_is_not_replaced(tmp_path: Path):
    thesis = tmp_path / "rating" / "thesis.tex"
    thesis.parent.mkdir()
    thesis.write_text("years of work")
    for place in (thesis.parent, thesis):
        with pytest.raises(BundleError) as caught:
            write_bundle(place, copy_demo, described)
        assert caught.value.code == "not_a_bundle"
    assert thesis.read_text() == "years of work"
    assert list(tmp_path.iterdir()) == [thesis.parent]
