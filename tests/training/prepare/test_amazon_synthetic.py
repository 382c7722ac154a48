"""Made-up reviews in Amazon's files: gaps, dirt, and that the real preparer reads them."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lanistr.errors import ConfigError, DataError
from lanistr.modalities import Modality
from training.prepare.__main__ import _parser
from training.prepare.amazon import command
from training.prepare.amazon.pictures import read_manifest
from training.prepare.synthetic import amazon
from training.prepare.synthetic import command as synthetic

SMALL = ("--image-size", "16", "--vocabulary-size", "300", "--max-tokens", "64")


def written(out: Path, samples: int = 1500, **changes: Any) -> Path:
    out.mkdir(parents=True)
    amazon.write_amazon(
        out, **{"samples": samples, "missing": 0.3, "unlabelled": 0.0, "seed": 0} | changes
    )
    return out


def lines(path: Path) -> list[bytes]:
    with gzip.open(path) as file:
        return file.read().splitlines(keepends=True)


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines(path) if line.endswith(b"}\n")]


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("synthetic") / "raw")


def test_there_are_as_many_lines_as_asked_for_with_amazons_gaps(raw: Path):
    found = records(raw / "Synthetic.json.gz")
    assert len(lines(raw / "Synthetic.json.gz")) == 1500
    shares = {
        name: sum(name in each for each in found) / len(found)
        for name in ("vote", "style", "image", "reviewText", "summary", "overall", "asin")
    }
    assert shares["vote"] == pytest.approx(0.10, abs=0.03)
    assert shares["style"] == pytest.approx(0.92, abs=0.03)
    assert 0 < shares["image"] < 0.05
    assert 0.99 < shares["reviewText"] < 1
    assert shares["overall"] == shares["asin"] == 1
    assert {each["overall"] for each in found} == {1.0, 2.0, 3.0, 4.0, 5.0}


def test_reviews_are_repeated_under_variants_and_usual_texts_by_others(raw: Path):
    found = records(raw / "Synthetic.json.gz")
    contents = {
        json.dumps({name: value for name, value in each.items() if name != "asin"}): each["asin"]
        for each in found
    }
    assert 0.08 < 1 - len(contents) / len(found) < 0.16
    assert sum(each.get("reviewText") == "Great product" for each in found) > 3


def test_every_reviewed_product_stands_in_the_metadata_and_its_pictures_in_the_manifest(raw: Path):
    reviewed = {each["asin"] for each in records(raw / "Synthetic.json.gz")}
    products = records(raw / "meta_Synthetic.json.gz")
    assert reviewed <= {each["asin"] for each in products}
    assert len(products) > len({each["asin"] for each in products})  # some stand there twice
    manifest = read_manifest(raw / "pictures")
    for product in products:
        given = [manifest.get(url) for url in product["imageURLHighRes"][:1]]
        if not any(each and each.status == "kept" for each in given):
            assert all(url in manifest for url in product["imageURL"])
    without = sum(not each["imageURL"] for each in products) / len(products)
    assert without == pytest.approx(0.3, abs=0.08)
    dead = sum(each.reason == "http_404" for each in manifest.values()) / len(manifest)
    assert dead == pytest.approx(0.2, abs=0.06)
    kept = [each for each in manifest.values() if each.status == "kept"]
    assert all(each.whole(raw / "pictures") for each in kept)
    with Image.open(raw / "pictures" / str(kept[0].file)) as picture:
        assert picture.format == "JPEG"


def test_the_same_seed_makes_the_same_lines_whatever_their_number(tmp_path: Path, raw: Path):
    fewer, other = written(tmp_path / "fewer", 200), written(tmp_path / "other", 200, seed=1)
    name = "Synthetic.json.gz"
    assert lines(fewer / name) == lines(raw / name)[:200] != lines(other / name)
    again = written(tmp_path / "again", 200)
    for path in sorted(each for each in fewer.rglob("*") if each.is_file()):
        assert path.read_bytes() == (again / path.relative_to(fewer)).read_bytes()


def test_some_lines_are_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(amazon, "_BROKEN", 0.1)  # less than the share of copies
    found = lines(written(tmp_path / "raw", 400) / "Synthetic.json.gz")
    assert len(found) == 400
    assert 20 < sum(not line.endswith(b"}\n") for line in found) < 60


def test_the_real_preparer_reads_them(tmp_path: Path, raw: Path):
    words = ["amazon", "--source", str(raw), "--pictures", str(raw / "pictures"), *SMALL]
    data = command.prepare(_parser().parse_args([*words, "--out", str(tmp_path / "data")]))
    counts = data.card.source["counts"]
    assert counts["lines"] == 1500
    assert counts["copies"] > 100
    assert set(data.card.source["problems"]) <= {"broken_line"}
    assert len(data) == 1500 - counts["copies"] - counts["broken_lines"]
    assert 0.2 < data.card.missing[Modality.IMAGE] < 0.6
    assert data.card.missing[Modality.TEXT] < 0.01
    assert data.card.missing[Modality.TABULAR] == 0


def test_the_command_writes_them_beside_the_data_set(tmp_path: Path):
    words = ["synthetic", "--task", "rating", "--samples", "40", *SMALL, "--unlabelled", "1"]
    words += ["--out", str(tmp_path / "data"), "--raw", str(tmp_path / "raw")]
    synthetic.prepare(_parser().parse_args([*words, "--raw-layout", "amazon"]))
    names = sorted(each.name for each in (tmp_path / "raw").iterdir())
    assert names == ["Synthetic.json.gz", "meta_Synthetic.json.gz", "pictures"]
    assert not any("overall" in each for each in records(tmp_path / "raw" / "Synthetic.json.gz"))
    assert (tmp_path / "data" / "dataset.json").is_file()


@pytest.mark.parametrize(
    "words",
    [
        ["--task", "rating"],
        ["--task", "mortality", "--raw", "RAW"],
    ],
)
def test_a_layout_needs_a_folder_and_its_own_task(tmp_path: Path, words: list[str]):
    raw = str(tmp_path / "raw")
    given = [raw if word == "RAW" else word for word in words]
    arguments = ["synthetic", "--out", str(tmp_path / "data"), "--raw-layout", "amazon", *given]
    with pytest.raises(ConfigError) as caught:
        synthetic.prepare(_parser().parse_args(arguments))
    assert caught.value.field == "--raw-layout"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "mine.txt").write_text("mine")
    words = ["synthetic", "--task", "rating", "--out", str(tmp_path / "data"), *SMALL]
    words += ["--raw", str(tmp_path / "raw"), "--raw-layout", "amazon"]
    with pytest.raises(DataError):
        synthetic.prepare(_parser().parse_args(words))
    assert [each.name for each in (tmp_path / "raw").iterdir()] == ["mine.txt"]
