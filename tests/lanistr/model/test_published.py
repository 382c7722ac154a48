"""What is asked of the model hub."""

import shutil
from fnmatch import fnmatch
from pathlib import Path

import pytest

from lanistr.errors import CheckpointError
from lanistr.model.published import fetch
from tests.published import write_bert

NOT_ASKED_FOR = ("tf_model.h5", "flax_model.msgpack", "README.md", "modeling_mine.py")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a repository on a hub that gives what it is asked for by pattern."""
    remote, here = tmp_path / "remote", tmp_path / "here"
    write_bert(remote)
    for name in (*NOT_ASKED_FOR, "pytorch_model.bin"):
        (remote / name).write_text("")

    def give(name: str, allow_patterns: list[str]) -> str:
        if name != "bert-base-uncased":
            raise OSError("404\nno such repository")
        here.mkdir(exist_ok=True)
        for file in remote.iterdir():
            if any(fnmatch(file.name, pattern) for pattern in allow_patterns):
                shutil.copy(file, here)
        return str(here)

    monkeypatch.setattr("lanistr.model.published.snapshot_download", give)
    return remote


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


def test_to_know_the_sizes_no_weights_are_fetched(hub: Path) -> None:
    assert names(fetch("bert-base-uncased")) == {"config.json", "vocab.txt"}


def test_of_the_weights_one_format_is_fetched_and_no_code(hub: Path) -> None:
    fetched = names(fetch("bert-base-uncased", weights=True))
    assert fetched == {"config.json", "vocab.txt", "model.safetensors"}


def test_weights_in_pieces_are_fetched_with_their_index(hub: Path) -> None:
    pieces = {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"}
    (hub / "model.safetensors").unlink()
    for name in (*pieces, "model.safetensors.index.json"):
        (hub / name).write_text("")
    fetched = names(fetch("bert-base-uncased", weights=True))
    assert fetched == {"config.json", "vocab.txt", "model.safetensors.index.json", *pieces}


def test_pickled_weights_are_fetched_where_there_are_no_others(hub: Path) -> None:
    (hub / "model.safetensors").unlink()
    fetched = names(fetch("bert-base-uncased", weights=True))
    assert fetched == {"config.json", "vocab.txt", "pytorch_model.bin"}


def test_what_the_hub_does_not_give_is_refused_in_one_line(hub: Path) -> None:
    with pytest.raises(
        CheckpointError, match="could not be fetched from the model hub: OSError: 404 no such"
    ) as refused:
        fetch("bert-base-incased")
    assert refused.value.seen == "bert-base-incased"
    assert "a folder in the hub's format" in refused.value.accepted


def test_a_folder_goes_before_a_name_of_the_hub(
    hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bert-base-uncased").mkdir()
    assert fetch("bert-base-uncased", weights=True) == Path("bert-base-uncased")
