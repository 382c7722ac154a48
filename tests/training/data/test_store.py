"""The prepared data set on disk: what is read is what was prepared."""

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from lanistr.batch import collate
from lanistr.errors import ConfigError, DataError, LanistrError
from lanistr.issues import IssueLog
from lanistr.modalities import Modality
from lanistr.preprocess import PreprocessOptions
from lanistr.preprocess.image import ImageOptions
from lanistr.preprocess.text import TextOptions
from lanistr.sample import Sample
from lanistr.tasks import TaskSpec, find_task
from training import finetune, pretrain
from training.data.store import SPLITS, Dataset, new_folder
from training.prepare.lazy import Shared
from training.prepare.prepared import SplitOptions, prepare
from training.prepare.synthetic import SyntheticOptions, draw

SAMPLES = list(draw("mortality", SyntheticOptions(samples=60, missing=0.4, unlabelled=0.3)))
OPTIONS = PreprocessOptions(
    text=TextOptions(vocabulary_size=300, max_tokens=32), image=ImageOptions(size=24)
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return prepare(
        lambda: SAMPLES,
        find_task("mortality"),
        tmp_path_factory.mktemp("store") / "data",
        options=OPTIONS,
        splits=SplitOptions(),
        source={"from": "synthetic"},
    )


@pytest.fixture
def copied(data: Dataset, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(data.folder, tmp_path / "data"))


# ---- reading ------------------------------------------------------------------------------------


def test_stored_arrays_are_those_that_the_preprocessor_gives_on_the_raw_record(data: Dataset):
    for position, sample in enumerate(SAMPLES):
        fresh = data.preprocessor.apply(sample, IssueLog())
        stored = data.features(position)
        assert set(stored.rows) == set(fresh.rows)
        for modality, rows in fresh.rows.items():
            assert len(rows) == len(stored.rows[modality])
            for now, then in zip(rows, stored.rows[modality], strict=True):
                assert set(now) == set(then)
                for name, array in now.items():
                    assert (array.dtype, array.shape) == (then[name].dtype, then[name].shape)
                    if modality == Modality.IMAGE:
                        away = np.abs(array.astype(int) - then[name].astype(int))
                        assert away.mean() < 4, (position, away.mean())
                    else:
                        np.testing.assert_array_equal(array, then[name])


def test_a_missing_modality_is_a_null_reference(data: Dataset):
    with pa.memory_map(str(data.folder / "index.arrow")) as file:
        index = pa.ipc.open_file(file).read_all().to_pylist()
    for position, (sample, row) in enumerate(zip(SAMPLES, index, strict=True)):
        for modality in Modality:
            there = modality in sample.parts
            assert (row[modality] is not None) == data.brings(position, modality) == there
        assert data.patterns([position])[0] == "+".join(m for m in Modality if m in sample.parts)


def test_what_cases_bring_is_read_by_columns(
    data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = [3, 0, 3, 1]
    expected = ["+".join(m for m in Modality if m in SAMPLES[each].parts) for each in some]
    monkeypatch.delattr(Dataset, "brings")  # a million cases are not asked one by one
    assert data.patterns(some).tolist() == expected
    assert data.patterns([]).shape == (0,)


def test_every_row_is_referred_to_once_and_in_order(data: Dataset):
    with pa.memory_map(str(data.folder / "index.arrow")) as file:
        index = pa.ipc.open_file(file).read_all()
    for modality in Modality:
        referred = [i for each in index[modality].to_pylist() for i in each or ()]
        with pa.memory_map(str(data.folder / f"{modality}.arrow")) as file:
            assert referred == list(range(pa.ipc.open_file(file).read_all().num_rows))


def test_names_labels_subgroups_and_token_counts_are_kept(data: Dataset):
    assert len(data) == len(SAMPLES)
    assert data.ids(range(len(data))) == [sample.id for sample in SAMPLES]
    labels = [data.task.label.encode(sample.label) for sample in SAMPLES]
    np.testing.assert_array_equal(data.labels, np.array(labels, np.float32))
    assert np.isnan(data.labels).any()
    assert data.subgroups() == {"gender": [sample.subgroups["gender"] for sample in SAMPLES]}
    for position in range(len(data)):
        notes = data.features(position).rows.get(Modality.TEXT, ())
        assert data.tokens[position] == sum(len(row["token_ids"]) for row in notes)
    assert data.synthetic


@pytest.mark.parametrize(
    ("minimum", "left"),
    [
        ([["text", "tabular"]], [["text"]]),
        ([["tabular"], ["text", "image"], ["text"]], [["text"]]),
        ([["tabular"], ["timeseries", "image"]], []),
    ],
)
def test_of_what_a_case_must_bring_the_part_that_is_read_is_still_wanted(
    minimum: list[list[str]], left: list[list[str]], data: Dataset
):
    opened = Dataset.open(data.folder)
    opened.task = TaskSpec.model_validate(opened.task.model_dump() | {"minimum": minimum})
    found = opened.only([Modality.TEXT]).task.minimum
    assert [list(each) for each in found] == left


def test_a_batch_is_its_cases_with_labels_and_names(data: Dataset):
    positions = [5, 3, 17]
    batch = data.batch(positions)
    wanted = collate([data.features(i) for i in positions])
    assert batch.ids == data.ids(positions)
    np.testing.assert_array_equal(batch.labels, data.labels[positions])
    np.testing.assert_array_equal(batch.presence(), wanted.presence())
    for modality, part in wanted.parts.items():
        for name, array in part.arrays.items():
            np.testing.assert_array_equal(batch.parts[modality].arrays[name], array)


def test_splits_part_the_cases_and_labelled_ones_can_be_asked_for(data: Dataset):
    rows = [data.rows(split) for split in SPLITS]
    assert sorted(np.concatenate(rows).tolist()) == list(range(len(data)))
    assert all((np.diff(each) > 0).all() for each in rows)
    labelled = data.rows("train", labelled=True)
    assert set(labelled) < set(rows[0])
    assert not np.isnan(data.labels[labelled]).any()


def test_an_unknown_split_is_refused_and_the_nearest_named(data: Dataset):
    with pytest.raises(DataError, match="did you mean 'train'"):
        data.rows("trains")


# ---- dataset.json -------------------------------------------------------------------------------


def test_the_hashes_are_true_and_cover_every_file(data: Dataset):
    others = {path.name for path in data.folder.iterdir()} - {"dataset.json"}
    assert set(data.card.hashes) == others
    for name, digest in data.card.hashes.items():
        assert hashlib.sha256((data.folder / name).read_bytes()).hexdigest() == digest


def test_the_card_counts_what_is_there(data: Dataset):
    card = data.card
    assert card.cases == {split: len(data.rows(split)) for split in SPLITS}
    assert sum(card.labelled.values()) == sum(s.label is not None for s in SAMPLES)
    for modality in Modality:
        share = np.mean([modality not in sample.parts for sample in SAMPLES])
        assert card.missing[modality] == pytest.approx(share, abs=1e-4)
    assert card.source["from"] == "synthetic"
    assert card.source["preprocessing"]["text"]["max_tokens"] == 32
    assert card.source["splits"]["seed"] == 0


def test_a_moved_data_set_opens_in_its_new_place(copied: Path, data: Dataset):
    again = Dataset.open(copied)
    assert again.card == data.card
    assert again.features(0).rows.keys() == data.features(0).rows.keys()


def test_what_is_no_data_set_is_refused(tmp_path: Path, copied: Path):
    with pytest.raises(DataError) as caught:
        Dataset.open(tmp_path / "nowhere")
    assert caught.value.code == "no_data"
    card = json.loads((copied / "dataset.json").read_text())
    (copied / "dataset.json").write_text(json.dumps(card | {"format": 99}))
    with pytest.raises(DataError) as caught:
        Dataset.open(copied)
    assert caught.value.code == "unknown_format"


@pytest.mark.parametrize("content", ["{", "[]", "null", '{"format": 1}', "\x00"])
def test_a_damaged_card_is_refused(copied: Path, content: str):
    (copied / "dataset.json").write_text(content)
    with pytest.raises(DataError):
        Dataset.open(copied)


@pytest.mark.parametrize(
    "name", ["index.arrow", "text.arrow", "image.arrow", "preprocessing.json", "tokenizer.json"]
)
@pytest.mark.parametrize("damage", ["missing", "empty", "cut"])
def test_a_damaged_file_is_refused(copied: Path, name: str, damage: str):
    content = (copied / name).read_bytes()
    (copied / name).unlink()
    if damage != "missing":
        (copied / name).write_bytes(content[: len(content) // 2 if damage == "cut" else 0])
    with pytest.raises(LanistrError) as caught:
        Dataset.open(copied)
    assert name in str(caught.value) or "preprocessing" in str(caught.value)


@pytest.mark.parametrize("name", ["image.arrow", "index.arrow", "preprocessing.json"])
def test_a_bit_that_turned_is_found_by_reading_all(copied: Path, name: str):
    whole = Dataset.open(copied)
    whole.verify()
    content = bytearray((copied / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copied / name).write_bytes(content)
    with pytest.raises(DataError, match="the file was changed after it was written") as caught:
        whole.verify()
    assert caught.value.field == str(copied / name)


@pytest.mark.parametrize("main", [pretrain.main, finetune.main])
def test_training_does_not_begin_on_damaged_data(
    copied: Path, tmp_path: Path, main: Callable[[], None], monkeypatch: pytest.MonkeyPatch
):
    content = bytearray((copied / "image.arrow").read_bytes())
    content[len(content) // 2] ^= 1
    (copied / "image.arrow").write_bytes(content)
    words = ["--recipe", "demo", "--data", copied, "--out", tmp_path / "run"]
    monkeypatch.setattr(sys, "argv", ["train", *map(str, words)])
    with pytest.raises(DataError, match=r"image\.arrow: the file was changed after it was written"):
        main()
    assert not (tmp_path / "run").exists()


# ---- a new folder -------------------------------------------------------------------------------


def test_a_folder_appears_only_when_it_is_whole(tmp_path: Path):
    out = tmp_path / "a" / "b"
    with new_folder(out) as draft:
        (draft / "x.txt").write_text("x")
        assert not out.exists()
    assert (out / "x.txt").read_text() == "x"
    assert list(out.parent.iterdir()) == [out]
    assert out.stat().st_mode == out.parent.stat().st_mode  # as the umask has it


def interrupted(out: Path) -> None:
    with new_folder(out) as draft:
        (draft / "x.txt").write_text("x")
        raise KeyboardInterrupt


def test_an_interrupted_folder_vanishes(tmp_path: Path):
    with pytest.raises(KeyboardInterrupt):
        interrupted(tmp_path / "b")
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_is_taken_and_a_file_is_not(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    with new_folder(tmp_path / "empty") as draft:
        (draft / "x.txt").write_text("x")
    assert (tmp_path / "empty" / "x.txt").exists()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DataError):
        interrupted(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_what_somebody_puts_into_a_folder_s_place_meanwhile_is_not_lost(tmp_path: Path):
    def meanwhile(out: Path) -> None:
        with new_folder(out) as draft:
            (draft / "x.txt").write_text("x")
            out.mkdir()
            (out / "mine.txt").write_text("mine")

    with pytest.raises(DataError, match="the folder exists"):
        meanwhile(tmp_path / "data")
    assert [each.name for each in tmp_path.rglob("*")] == ["data", "mine.txt"]


def test_what_somebody_puts_there_at_the_very_last_moment_is_not_lost_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    out = tmp_path / "data"

    def settled(folder: Path) -> None:
        (out / "mine").mkdir(parents=True, exist_ok=True)

    monkeypatch.setattr("training.data.store.refuse_filled", settled)
    with (
        pytest.raises(ConfigError, match="something was put there in the meantime"),
        new_folder(out),
    ):
        pass
    assert [each.name for each in tmp_path.rglob("*")] == ["data", "mine"]


def test_what_is_put_back_into_a_folder_s_place_is_not_replaced(tmp_path: Path):
    aside = tmp_path / ".data-old-a1b2c3d4"
    (aside / "data").mkdir(parents=True)
    (aside / "data" / "x.txt").write_text("mine")
    os.utime(aside, (0, 0))
    with pytest.raises(DataError, match="the folder exists"):
        interrupted(tmp_path / "data")
    assert (tmp_path / "data" / "x.txt").read_text() == "mine"
    assert not aside.exists()


def test_records_without_a_label_column_of_any_kind_can_be_stored(tmp_path: Path):
    samples = [Sample({Modality.TABULAR: {"age": 40 + i}}, id=str(i)) for i in range(10)]
    data = prepare(
        lambda: samples,
        find_task("mortality"),
        tmp_path / "data",
        options=OPTIONS,
        splits=SplitOptions(),
        source={},
    )
    assert np.isnan(data.labels).all()
    assert data.subgroups() == {}
    with pytest.raises(DataError, match="no labelled cases"):
        data.rows("train", labelled=True)


# ---- content that several cases share -----------------------------------------------------------


def test_the_same_content_is_stored_once_and_referred_to_by_every_case_that_brings_it(
    tmp_path: Path,
):
    notes = ("extubated without issue", "failed sbt, back on ac")
    samples = [
        Sample({Modality.TEXT: (notes[i % 2],), Modality.TABULAR: {"age": 60 + i}}, id=str(i))
        for i in range(10)
    ]
    data = prepare(
        lambda: samples,
        find_task("mortality"),
        tmp_path / "data",
        options=OPTIONS,
        splits=SplitOptions(),
        source={},
    )
    rows = [data.references(Modality.TEXT, [i]).tolist() for i in range(10)]
    assert rows == [[0], [1]] * 5
    assert len(data.references(Modality.TABULAR, range(10))) == 10
    with pa.memory_map(str(data.folder / "text.arrow")) as file:
        assert pa.ipc.open_file(file).read_all().num_rows == 2
    for position, sample in enumerate(samples):
        fresh = data.preprocessor.apply(sample, IssueLog()).rows[Modality.TEXT]
        stored = data.features(position).rows[Modality.TEXT]
        np.testing.assert_array_equal(fresh[0]["token_ids"], stored[0]["token_ids"])


def test_a_late_part_is_read_once_for_all_samples_that_bring_it(tmp_path: Path):
    looks: list[str] = []

    def read(note: str) -> tuple[str, ...]:
        looks.append(note)
        return (note,)

    def samples() -> Iterator[Sample]:
        for i in range(8):
            note = "failed sbt" if i % 2 else "___"  # of the second nothing is left
            yield Sample(
                {
                    Modality.TEXT: Shared(note, partial(read, note)),
                    Modality.TABULAR: {"age": 60 + i},
                },
                id=str(i),
            )

    options = OPTIONS.model_copy(update={"text": TextOptions(vocabulary=vocabulary(tmp_path))})
    data = prepare(
        samples,
        find_task("mortality"),
        tmp_path / "data",
        options=options,
        splits=SplitOptions(),
        source={},
    )
    assert looks == ["___", "failed sbt"]
    assert [data.brings(i, Modality.TEXT) for i in range(8)] == [False, True] * 4
    assert data.card.issues == {"empty/dropped": 1}
    assert data.tokens.tolist() == [0, 4] * 4


def vocabulary(folder: Path) -> Path:
    path = folder / "vocab.txt"
    path.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "failed", "sbt"]))
    return path
