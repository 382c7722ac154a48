"""Bundles: whole or refused, written whole or not at all."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from lanistr.bundle import Bundle, write_bundle
from lanistr.errors import BundleError
from lanistr.manifest import MANIFEST
from service.settings import DEMO_BUNDLES

ADDED = {"format", "version", "created", "files"}  # by `write_bundle` itself


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of a demo bundle that a test may damage."""
    return Path(shutil.copytree(DEMO_BUNDLES / "rating", tmp_path / "bundles" / "rating"))


def change_manifest(folder: Path, **changes: Any) -> None:
    path = folder / MANIFEST
    manifest = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in manifest.items() if v is not None}))


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
    assert set(bundle.manifest.graphs) == {*bundle.task.modalities, "fusion"}
    assert set(bundle.preprocessor.parts) == set(bundle.task.modalities)
    assert bundle.card().startswith("# ")
    for graph, entry in bundle.manifest.graphs.items():
        assert len(bundle.graph(graph)) == bundle.manifest.files[entry.file].bytes  # type: ignore[arg-type]


def test_what_the_file_system_hides_in_a_folder_is_passed_over(folder: Path):
    (folder / ".DS_Store").write_bytes(b"x")
    (folder / "onnx" / ".DS_Store").write_bytes(b"x")
    (folder / "..data").mkdir()
    (folder / "..data" / "task.json").write_bytes(b"{}")
    assert Bundle.open(folder).task.name == "rating"


def every_file() -> list[str]:
    found = (DEMO_BUNDLES / "rating").rglob("*")
    return sorted(str(p.relative_to(DEMO_BUNDLES / "rating")) for p in found if p.is_file())


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
    assert "stand inside it" in error.message


def test_an_absolute_path_is_refused(folder: Path):
    files = json.loads((folder / MANIFEST).read_text())["files"]
    name = str(folder / "MODEL_CARD.md")
    change_manifest(folder, files=files | {name: files["MODEL_CARD.md"]})
    assert "stand inside it" in refused(folder).message


@pytest.mark.parametrize("name", ["task.json", "onnx/fusion.onnx", "onnx"])
def test_a_link_in_the_place_of_a_file_or_a_folder_is_refused(folder: Path, name: str):
    moved = folder.parent / "elsewhere"
    (folder / name).rename(moved)
    (folder / name).symlink_to(moved)
    assert "stand inside it" in refused(folder).message


def test_the_bundle_itself_may_be_a_link(folder: Path, tmp_path: Path):
    current = tmp_path / "current"
    current.symlink_to(folder, target_is_directory=True)
    assert Bundle.open(current).task.name == "rating"


@pytest.mark.parametrize("format", [2, "1", None, [1]])
def test_an_unknown_format_is_refused(folder: Path, format: Any):
    change_manifest(folder, format=format)
    error = refused(folder)
    assert error.code == "unknown_format"
    assert "format 1" in error.accepted


def test_an_unknown_key_of_the_manifest_is_named(folder: Path):
    change_manifest(folder, precison="fp32")
    assert "did you mean 'precision'" in refused(folder).accepted


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\x00"])
def test_a_manifest_that_is_none_is_refused(folder: Path, text: str):
    (folder / MANIFEST).write_text(text)
    assert refused(folder).code in ("bad_bundle", "unknown_format")


def test_the_task_must_be_the_one_that_the_manifest_names(folder: Path):
    change_manifest(folder, task="mortality")
    error = refused(folder)
    assert (error.seen, error.accepted) == ("rating", "mortality")


def test_the_graphs_must_be_those_of_the_tasks_modalities(folder: Path):
    graphs = json.loads((folder / MANIFEST).read_text())["graphs"]
    del graphs["image"]
    change_manifest(folder, graphs=graphs)
    assert refused(folder).accepted == "fusion, image, tabular, text"


def test_a_folder_without_a_manifest_is_no_bundle(tmp_path: Path):
    assert refused(tmp_path).code == "not_a_bundle"
    assert refused(tmp_path / "nowhere").code == "not_a_bundle"


def test_a_graph_that_changed_or_went_after_the_opening_is_not_run(folder: Path):
    bundle = Bundle.open(folder)
    (folder / "onnx" / "fusion.onnx").write_bytes(b"something else")
    with pytest.raises(BundleError, match="not what its manifest says"):
        bundle.graph("fusion")
    (folder / "onnx" / "fusion.onnx").unlink()
    with pytest.raises(BundleError, match="lacks a file"):
        bundle.graph("fusion")


# ---- writing ------------------------------------------------------------------------------------


def copy_demo(draft: Path) -> None:
    shutil.copytree(DEMO_BUNDLES / "rating", draft, dirs_exist_ok=True)
    (draft / MANIFEST).unlink()


def described() -> Mapping[str, Any]:
    manifest = json.loads((DEMO_BUNDLES / "rating" / MANIFEST).read_text())
    return {name: value for name, value in manifest.items() if name not in ADDED}


def test_what_is_written_can_be_opened_and_stands_alone(tmp_path: Path):
    folder = tmp_path / "new" / "rating"
    bundle = write_bundle(folder, copy_demo, described)
    assert bundle.folder == folder
    assert Bundle.open(folder).manifest == bundle.manifest
    assert bundle.graph("fusion") == (folder / "onnx" / "fusion.onnx").read_bytes()
    assert list(folder.parent.iterdir()) == [folder]
    assert folder.stat().st_mode & 0o777 == 0o755


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
    (folder / "left-over.txt").write_text("of the older one")

    def fill(draft: Path) -> None:
        assert (folder / "left-over.txt").exists()  # the older one stands until the end
        copy_demo(draft)

    write_bundle(folder, fill, described)
    assert not (folder / "left-over.txt").exists()
    assert list(folder.parent.iterdir()) == [folder]
    Bundle.open(folder)


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
