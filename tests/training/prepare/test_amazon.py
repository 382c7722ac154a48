"""Amazon's reviews: how lines are read, copies, what stays in one split, and the command."""

import gzip
import io
import json
import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lanistr.errors import ConfigError, DataError
from lanistr.modalities import Modality
from lanistr.tasks import find_task
from training.data.store import SPLITS, Dataset
from training.prepare.__main__ import _parser
from training.prepare.amazon import command
from training.prepare.amazon.files import find_files, read_lines
from training.prepare.amazon.groups import (
    deal,
    first_of_each,
    group_numbers,
    keep_texts_in_one_split,
)
from training.prepare.amazon.pictures import MANIFEST, Entry, Manifest
from training.prepare.amazon.reviews import Review, read_review
from training.prepare.prepared import SplitOptions
from training.prepare.problems import problems_path

RATING = find_task("rating")
SMALL = ("--image-size", "16", "--vocabulary-size", "300", "--max-tokens", "64")


def review(number: int = 0, **changes: Any) -> dict[str, Any]:
    """Return a record as the raw files have it; None takes a column away."""
    record = {
        "overall": float(1 + number % 5),
        "verified": True,
        "reviewTime": "09 4, 2015",
        "reviewerID": f"A{number}",
        "asin": f"B{number}",
        "style": {"Size:": " Big Boys"},
        "reviewerName": "Someone",
        "reviewText": f"text number {number}",
        "summary": "Fine",
        "unixReviewTime": 1441324800,
    } | changes
    return {name: value for name, value in record.items() if value is not None}


def write(path: Path, records: Iterable[dict[str, Any] | bytes]) -> Path:
    lines = [each if isinstance(each, bytes) else json.dumps(each).encode() for each in records]
    data = b"".join(line + b"\n" for line in lines)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
    return path


def prepare(out: Path, *source: Path, options: Iterable[str] = ()) -> Dataset:
    names = [str(each) for each in source]
    words = ["amazon", "--source", *names, "--out", str(out), *SMALL, *options]
    return command.prepare(_parser().parse_args(words))


def problems(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in problems_path(out).read_text().splitlines()]


def parts(data: Dataset, position: int) -> dict[str, Any]:
    """Return what a case brings, decoded again."""
    features = data.features(position)
    text = data.preprocessor.parts[Modality.TEXT]
    found: dict[str, Any] = {str(m): rows for m, rows in features.rows.items()}
    if "text" in found:
        ids = found["text"][0]["token_ids"].tolist()
        found["text"] = text.tokenizer.decode(ids)  # type: ignore[attr-defined]
    return found


def jpeg(shade: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (24, 24), (shade, 90, 120)).save(out, "JPEG")
    return out.getvalue()


# ---- one review ---------------------------------------------------------------------------------


def read(record: dict[str, Any]) -> tuple[Review | str, list[str]]:
    reported: list[str] = []
    return read_review(record, lambda column, seen, accepted: reported.append(column)), reported


def read_well(**changes: Any) -> Review:
    found, reported = read(review(**changes))
    assert isinstance(found, Review)
    assert reported == []
    return found


def test_a_review_is_read_as_the_task_has_it():
    found = read_well(vote="1,341", image=["http://a/1.jpg", "http://a/2.jpg"])
    assert found.row == {
        "reviewerID": "A0",
        "asin": "B0",
        "verified": True,
        "year": "2015",
        "vote": 1341,
        "unixReviewTime": 1441324800,
    }
    assert RATING.tabular is not None
    assert set(found.row) == set(RATING.tabular.fields)
    assert (found.stars, found.picture) == ("1", "http://a/1.jpg")
    assert found.text() == "Fine. text number 0"
    assert found.text(8) == "Fine. te"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"summary": None}, "text number 0"),
        ({"reviewText": None}, "Fine"),
        ({"reviewText": "", "summary": "  "}, ""),
    ],
)
def test_what_there_is_of_a_text_is_the_text(changes: dict[str, Any], text: str):
    assert read_well(**changes).text() == text


def test_what_is_not_said_is_missing():
    columns = ("overall", "verified", "reviewTime", "reviewerID", "unixReviewTime")
    found = read_well(**dict.fromkeys(columns))
    assert found.row == {"asin": "B0"}
    assert found.stars is None


def test_the_year_is_that_of_the_day_in_words_else_of_the_seconds():
    assert read_well(reviewTime="12 31, 1999").row["year"] == "1999"
    assert read_well(reviewTime=None).row["year"] == "2015"


@pytest.mark.parametrize(
    ("column", "value"),
    [
        *(("overall", value) for value in (0, 6, 4.5, "five", True, [5], float("nan"), 10**400)),
        *(
            ("vote", value)
            for value in ("many", "1,23", -1, 2.5, True, "1e3", {}, "9" * 5000, 10**400)
        ),
        *(("verified", value) for value in ("yes", 1)),
        *(("reviewTime", value) for value in ("2015-09-04", 2015, "")),
        *(("unixReviewTime", value) for value in ("now", True, float("inf"), 10**400)),
        *(("reviewText", value) for value in (5, ["a"], "half a smile \ud83d")),
        ("summary", {}),
        ("reviewerID", 7),
        ("style", "red"),
        *(("image", value) for value in ([5], {"a": 1}, 3, ["http://a/\ud83d.jpg"])),
    ],
    ids=lambda value: ascii(value)[:20],
)
def test_a_value_that_cannot_be_is_reported_and_missing(column: str, value: Any):
    found, reported = read(review() | {column: value})
    assert isinstance(found, Review)
    assert reported == [column]
    without = review()
    without.pop(column, None)
    assert found == read(without)[0]


@pytest.mark.parametrize("asin", [None, "", 5, "  "])
def test_a_review_of_no_product_is_none(asin: Any):
    assert read(review() | {"asin": asin})[0] == "no asin: the product is unknown"


# ---- files --------------------------------------------------------------------------------------


def test_lines_that_are_no_objects_are_told_from_those_that_are(tmp_path: Path):
    path = write(
        tmp_path / "Toys.json.gz",
        [
            b"\xef\xbb\xbf" + json.dumps(review()).encode(),
            b"",
            b'{"asin": "B1", "reviewText": "cut o',
            b"{'asin': 'B2'}",
            b'{"asin": "caf\xe9"}',
            b"[1, 2]",
            b"[" * 100_000,
            json.dumps(review(1)).encode(),
        ],
    )
    found = dict(read_lines(path))
    assert [n for n, each in found.items() if isinstance(each, dict)] == [1, 8]
    assert set(found) == {1, 3, 4, 5, 6, 7, 8}
    assert found[5] == "not UTF-8"
    assert found[6] == "not a JSON object"


def test_a_line_without_end_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("training.prepare.amazon.files.LONGEST_LINE", 1000)
    long = json.dumps(review(reviewText="x" * 5000)).encode()
    path = write(tmp_path / "Toys.json", [review(0), long, review(1)])
    kinds = [(number, type(each)) for number, each in read_lines(path)]
    assert kinds == [(1, dict), (2, str), (3, dict)]


@pytest.mark.parametrize("cut", [10, 40])
def test_a_file_that_was_cut_off_is_an_error(tmp_path: Path, cut: int):
    records = [review(i, reviewText=str(random.Random(i).random())) for i in range(50)]
    whole = write(tmp_path / "Toys.json.gz", records).read_bytes()
    (tmp_path / "Toys.json.gz").write_bytes(whole[:-cut])
    with pytest.raises(DataError) as caught:
        prepare(tmp_path / "data", tmp_path)
    assert caught.value.code == "damaged_file"
    (tmp_path / "Toys.json.gz").write_bytes(b"no gzip at all")
    with pytest.raises(DataError, match="after line 0"):
        prepare(tmp_path / "data", tmp_path)


def test_files_and_folders_are_found_and_metadata_is_told_by_its_name(tmp_path: Path):
    write(tmp_path / "raw" / "Toys_5.json.gz", [review()])
    write(tmp_path / "raw" / "meta_Toys.jsonl", [])
    write(tmp_path / "raw" / "data.problems.jsonl", [])
    write(tmp_path / "raw" / MANIFEST, [])
    write(tmp_path / "raw" / "README.txt", [])
    other = write(tmp_path / "Books.json", [review()])
    files = find_files([tmp_path / "raw", other, tmp_path / "raw" / "Toys_5.json.gz"])
    assert [files.name(each) for each in files.reviews] == ["Books.json", "raw/Toys_5.json.gz"]
    assert [files.name(each) for each in files.metadata] == ["raw/meta_Toys.jsonl"]


def test_a_link_is_what_its_own_name_says(tmp_path: Path):
    stored = write(tmp_path / "store" / "5c73b6", [review()])
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "Toys.json").symlink_to(stored)
    (tmp_path / "raw" / "meta_Toys.json").symlink_to(stored)
    files = find_files([tmp_path / "raw"])
    assert [files.name(each) for each in files.reviews] == ["Toys.json"]
    assert [files.name(each) for each in files.metadata] == ["meta_Toys.json"]


@pytest.mark.parametrize("name", ["nothing-there", "."])
def test_a_source_without_reviews_is_the_users_mistake(tmp_path: Path, name: str):
    write(tmp_path / "meta_Toys.json", [])
    with pytest.raises(DataError) as caught:
        find_files([tmp_path / name])
    assert caught.value.code == "no_data"


# ---- copies, groups, splits ---------------------------------------------------------------------

HASHES = st.integers(0, 8)


@given(st.lists(st.tuples(HASHES, HASHES, st.booleans()), min_size=1, max_size=60))
def test_the_groups_are_the_finest_that_keep_products_and_texts_together(
    rows: list[tuple[int, int, bool]],
):
    products = np.array([p for p, _, _ in rows], dtype=np.uint64)
    texts = np.array([t for _, t, _ in rows], dtype=np.uint64)
    has_text = np.array([h for _, _, h in rows])
    found = group_numbers(products, texts, has_text, "product-and-text").tolist()
    naive = list(range(len(rows)))  # merge as long as something that belongs together is apart
    changed = True
    while changed:
        changed = False
        for i, (p, t, h) in enumerate(rows):
            for j, (q, u, g) in enumerate(rows):
                if (p == q or (h and g and t == u)) and naive[i] != naive[j]:
                    low = min(naive[i], naive[j])
                    naive[i] = naive[j] = low
                    changed = True
    assert len(set(zip(found, naive, strict=True))) == len(set(found)) == len(set(naive))


def test_a_product_and_a_text_that_many_reviews_join_are_joined():
    same = np.zeros(256, dtype=np.uint64)  # 256 would be 0 in eight bits
    products, texts = np.append(same, 1), np.append(same, 0)
    found = group_numbers(products, texts, np.ones(257, dtype=bool), "product-and-text")
    assert set(found.tolist()) == {0}


@given(st.lists(HASHES, max_size=40), st.integers(0, 3))
def test_the_first_of_each_is_kept_and_what_is_exempt(keys: list[int], every: int):
    exempt = np.array([every > 0 and i % 4 < every for i in range(len(keys))], dtype=bool)
    kept = first_of_each(np.array(keys, dtype=np.uint64), exempt)
    for i, key in enumerate(keys):
        assert kept[i] == (exempt[i] or key not in keys[:i])


@given(
    st.lists(st.integers(0, 9), min_size=30, max_size=200),
    st.sampled_from([(0.8, 0.1, 0.1), (0.6, 0.2, 0.2), (0.5, 0.0, 0.5), (1.0, 0.0, 0.0)]),
    st.integers(0, 4),
)
def test_shares_of_reviews_are_met_as_well_as_groups_allow(
    sizes: list[int], shares: tuple[float, float, float], seed: int
):
    amounts = np.array(sizes, dtype=np.int64)
    codes = deal(amounts, SplitOptions(shares=shares, seed=seed))
    for code, share in enumerate(shares):
        assert abs(amounts[codes == code].sum() - share * amounts.sum()) <= max(sizes)


def test_a_large_group_goes_where_it_fits_and_each_split_is_drawn():
    sizes = np.array([70, *[1] * 30])
    dealt = [deal(sizes, SplitOptions(seed=seed)) for seed in range(40)]
    assert {int(codes[0]) for codes in dealt} == {0}
    assert len({codes.tobytes() for codes in dealt}) > 30
    halves = [deal(np.array([10] * 10), SplitOptions(seed=seed)) for seed in range(40)]
    assert {int(codes[0]) for codes in halves} == {0, 1, 2}


@given(st.lists(st.tuples(HASHES, st.integers(0, 2), st.booleans()), min_size=1, max_size=60))
def test_no_text_is_left_in_two_splits_and_as_few_reviews_as_can_be_are_cut(
    rows: list[tuple[int, int, bool]],
):
    texts = np.array([t for t, _, _ in rows], dtype=np.uint64)
    splits = np.array([s for _, s, _ in rows], dtype=np.int8)
    chosen = np.array([c for _, _, c in rows])
    kept = chosen & keep_texts_in_one_split(texts, splits, chosen)
    for text in set(texts.tolist()):
        there = Counter(splits[(texts == text) & chosen].tolist())
        assert Counter(splits[(texts == text) & kept].tolist()) == dict(there.most_common(1)) or (
            len(set(splits[(texts == text) & kept].tolist())) == 1
            and int(((texts == text) & kept).sum()) == max(there.values())
        )


def crossing(data: Dataset, key: dict[str, Any]) -> int:
    """Count the values of `key`, by case, that stand in more than one split."""
    splits: dict[Any, set[str]] = defaultdict(set)
    for case, split in zip(data.ids(range(len(data))), data.splits, strict=True):
        if key[case]:
            splits[key[case]].add(split)
    return sum(len(each) > 1 for each in splits.values())


@pytest.mark.parametrize(
    ("by", "products_cross", "texts_cross"),
    [
        ("product-and-text", False, False),
        ("product-cut-text", False, False),
        ("text", True, False),
        ("product", False, True),
    ],
)
def test_what_is_asked_for_does_not_cross_splits(
    tmp_path: Path, by: str, products_cross: bool, texts_cross: bool
):
    rng = random.Random(0)
    records = [
        review(
            i,
            asin=f"B{(listing := rng.randrange(60))}",
            reviewText=rng.choice([f"t{listing // 3}", f"own words {i}", None]),
        )
        for i in range(300)
    ]
    path = write(tmp_path / "Toys.json", records)
    data = prepare(tmp_path / "data", path, options=["--split-by", by])
    names = [f"Toys.json:{number}" for number in range(1, 301)]
    asins = {name: each["asin"] for name, each in zip(names, records, strict=True)}
    texts = {name: each.get("reviewText") for name, each in zip(names, records, strict=True)}
    assert (crossing(data, asins) > 0) == products_cross
    assert (crossing(data, texts) > 0) == texts_cross
    assert set(data.splits) == set(SPLITS)
    cut = data.card.source["counts"].get("text_in_two_splits", 0)
    assert len(data) == 300 - cut
    assert (cut > 0) == (by == "product-cut-text")


def test_groups_that_are_too_large_stop_the_run_and_say_how_large(tmp_path: Path):
    records = [review(i, reviewText="Great product") for i in range(97)]
    path = write(tmp_path / "raw" / "Toys.json", [*records, *(review(i) for i in range(97, 100))])
    with pytest.raises(ConfigError) as caught:
        prepare(tmp_path / "data", path)
    assert caught.value.code == "cannot_split"
    assert "the largest group has 97 of 100 reviews (97.0%)" in str(caught.value)
    assert "product-cut-text" in caught.value.accepted
    assert [each.name for each in tmp_path.iterdir()] == ["raw"]


@pytest.mark.parametrize(
    ("by", "helps"), [("product-cut-text", ["text", "product"]), ("product", ["text"])]
)
def test_a_way_to_split_that_failed_is_not_proposed(by: str, helps: list[str], tmp_path: Path):
    records = [review(i, asin="B0" if i < 97 else f"B{i}") for i in range(100)]
    path = write(tmp_path / "raw" / "Toys.json", records)
    with pytest.raises(ConfigError) as caught:
        prepare(tmp_path / "data", path, options=["--split-by", by])
    assert (caught.value.code, caught.value.seen) == ("cannot_split", by)
    assert re.findall(r"([a-z-]+) \(", caught.value.accepted) == helps


def test_copies_under_variants_of_a_product_are_counted_and_dropped(tmp_path: Path):
    first = review(0, asin="B-first")
    variant = first | {"asin": "B-other", "image": ["http://a/1.jpg"], "style": {"Size:": " S"}}
    others = [
        first | {"asin": "B-x", "reviewerID": "A-other"},  # the same words by another
        first | {"asin": "B-y", "unixReviewTime": 1441411200},  # and on another day
        first | {"asin": "B-z", "overall": 5.0},
    ]
    anonymous = [review(1, reviewerID=None, reviewText=None) for _ in range(2)]
    bare = [review(2, reviewText=None, asin="B-a", style={"Size:": s}) for s in ("S", "M", "S")]
    rest = [review(i) for i in range(10, 60)]
    path = write(tmp_path / "Toys.json", [first, variant, *others, *anonymous, *bare, *rest])
    split = ["--split-by", "text"]
    data = prepare(tmp_path / "drop", path, options=split)
    assert data.card.source["counts"]["copies"] == 2
    assert [int(each.rpartition(":")[2]) for each in data.ids(range(9))] == [
        1,
        3,
        4,
        5,
        6,
        7,
        8,
        9,
        11,
    ]
    kept = prepare(tmp_path / "keep", path, options=[*split, "--duplicates", "keep"])
    assert kept.card.source["counts"]["copies"] == 2
    assert len(kept) == len(data) + 2


@pytest.mark.parametrize("by", ["product-and-text", "text"])
def test_copies_without_a_text_that_are_kept_stand_in_one_split(by: str, tmp_path: Path):
    records = [review(i, reviewText=None, asin=f"B{i}{size}") for i in range(60) for size in "SM"]
    path = write(tmp_path / "Toys.json", records)
    data = prepare(tmp_path / "data", path, options=["--duplicates", "keep", "--split-by", by])
    names = data.ids(range(len(data)))
    writers = {name: (int(name.rpartition(":")[2]) - 1) // 2 + 1 for name in names}
    assert crossing(data, writers) == 0
    assert set(data.splits) == set(SPLITS)


# ---- the whole ----------------------------------------------------------------------------------


def toys(folder: Path, count: int = 80) -> Path:
    """Write reviews, metadata and a folder of pictures."""
    write(
        folder / "Toys_5.json.gz",
        [review(i, image=[f"own/{i}"] if i % 2 else None) for i in range(count)],
    )
    write(
        folder / "meta_Toys.json.gz",
        [
            {"asin": "B0", "imageURLHighRes": ["high/0"], "imageURL": ["low/0"]},
            {"asin": "B0", "imageURLHighRes": ["high/other"], "imageURL": []},
            {"asin": "B1", "imageURLHighRes": ["high/dead"], "imageURL": ["low/1"]},
            {"asin": "B2", "imageURLHighRes": ["high/dead"], "imageURL": []},
            {"asin": "B5", "imageURL": "low/5"},
            {"asin": "B9"},
        ],
    )
    with Manifest(folder / "pictures") as manifest:
        for shade, url in enumerate(
            ["high/0", "low/0", "high/other", "low/1", "own/1", "own/3", "low/5"]
        ):
            manifest.keep(url, jpeg(20 + 30 * shade), "JPEG")
        manifest.fail("high/dead", "http_404", "Not Found", True, 1)
    return folder


def shades(data: Dataset) -> dict[str, int]:
    """Return the red of each case's picture."""
    found = {}
    for position, case in enumerate(data.ids(range(len(data)))):
        if data.brings(position, Modality.IMAGE):
            pixels = data.features(position).rows[Modality.IMAGE][0]["pixels"]
            found[case.rpartition(":")[2]] = round(float(pixels[0].mean()))
    return found


def test_the_picture_is_the_products_best_else_the_reviewers(tmp_path: Path):
    raw = toys(tmp_path / "raw")
    data = prepare(tmp_path / "data", raw, options=["--pictures", str(raw / "pictures")])
    # high/0 for line 1; low/1, as high/dead is dead; none for B2; own/3 for line 4; low/5
    assert shades(data) == pytest.approx({"1": 20, "2": 110, "4": 170, "6": 200}, abs=3)
    assert data.card.source["counts"]["picture_not_there"] == 37
    assert shades(prepare(tmp_path / "without", raw)) == {}


def test_labels_words_and_rows_come_out_as_they_went_in(tmp_path: Path):
    raw = toys(tmp_path / "raw")
    data = prepare(tmp_path / "data", raw, options=["--max-text-characters", "11"])
    assert data.labels.tolist() == [float(i % 5) for i in range(80)]
    assert parts(data, 3)["text"] == "fine. text"
    assert data.card.source["counts"]["text_cut"] == 80
    numbers = parts(data, 3)["tabular"][0]["numbers"]
    assert numbers.tolist() == [0.0, 0.0, 1.0, 0.0]  # votes are missing, the time is the mean
    assert data.subgroups() == {"category": ["Toys"] * 80, "verified": ["true"] * 80}


def test_pictures_that_are_not_as_they_were_fetched_are_missing_and_listed(tmp_path: Path):
    raw = toys(tmp_path / "raw")
    entries = {
        json.loads(line)["url"]: json.loads(line)
        for line in (raw / "pictures" / MANIFEST).read_text().splitlines()
    }
    (raw / "pictures" / entries["low/5"]["file"]).unlink()
    (raw / "pictures" / entries["high/0"]["file"]).write_bytes(b"changed")
    junk = Entry(
        url="own/1", status="kept", file="junk", bytes=4, sha256=sha256(b"junk").hexdigest()
    )
    (raw / "pictures" / "junk").write_bytes(b"junk")
    with (raw / "pictures" / MANIFEST).open("a") as lines:
        lines.write(junk.line())
    out = tmp_path / "data"
    data = prepare(out, raw, options=["--pictures", str(raw / "pictures")])
    assert shades(data) == pytest.approx({"1": 50, "2": 110, "4": 170}, abs=3)
    found = problems(out)
    assert sorted(each["seen"] for each in found) == ["high/0", "low/5", "own/1"]
    assert {each["code"] for each in found} == {"unreadable_picture"}
    assert sum("not an image" in each["message"] for each in found) == 1
    assert data.card.source["problems"] == {"unreadable_picture": 3}
    options = ["--pictures", str(raw / "pictures"), "--most-problems", "2"]
    with pytest.raises(DataError, match="too many images") as caught:
        prepare(tmp_path / "none", raw, options=options)
    assert caught.value.code == "too_many_problems"
    assert not (tmp_path / "none").exists()


def test_broken_lines_and_values_are_listed_by_file_and_line(tmp_path: Path):
    records: list[Any] = [review(i) for i in range(300)]
    records[6] = b'{"asin": "B6"'
    records[11] = review(11, vote="many")
    records[12] = review(12, vote="2 \ud83d")  # half of an emoji
    out = tmp_path / "data"
    data = prepare(out, write(tmp_path / "raw" / "Toys.json", records))
    assert len(data) == 299
    assert [
        (each["code"], each["file"], each["row"], each["column"]) for each in problems(out)
    ] == [
        ("broken_line", "Toys.json", 7, ""),
        ("bad_value", "Toys.json", 12, "vote"),
        ("bad_value", "Toys.json", 13, "vote"),
    ]
    assert problems(out)[2]["seen"] == "2 \ud83d"
    counts = data.card.source["counts"]
    assert (counts["lines"], counts["broken_lines"]) == (300, 1)
    assert data.card.source["problems"] == {"bad_value": 2, "broken_line": 1}


@pytest.mark.parametrize(("broken", "stops"), [(3, False), (4, True)])
def test_more_than_one_line_in_a_hundred_broken_stops_the_run(
    tmp_path: Path, broken: int, stops: bool
):
    records = [b"broken"] * broken + [review(i) for i in range(300 - broken)]
    out = tmp_path / "data"
    path = write(tmp_path / "raw" / "Toys.json", records)
    if not stops:
        assert len(prepare(out, path)) == 297
        return
    with pytest.raises(DataError) as caught:
        prepare(out, path)
    assert caught.value.code == "too_many_broken_lines"
    assert caught.value.seen == "4 of 300 lines"
    assert not out.exists()
    assert len(problems(out)) == 4


def test_a_file_of_another_kind_is_given_up_early(tmp_path: Path):
    path = write(tmp_path / "raw" / "Toys.json", [b"asin,reviewText"] * 5000)
    with pytest.raises(DataError) as caught:
        prepare(tmp_path / "data", path)
    assert caught.value.seen == "1,001 of 1,001 lines"


def test_reviews_whose_columns_have_other_names_stop_the_run(tmp_path: Path):
    """The files of 2023 name the product as those of 2018 do, and call all else otherwise."""
    record = {"rating": 5.0, "title": "Good", "text": "Works", "images": [], "asin": "B0"}
    record |= {"user_id": "A0", "timestamp": 1588687728923, "verified_purchase": True}
    path = write(tmp_path / "raw" / "Toys.jsonl", [record] * 300)
    with pytest.raises(DataError) as caught:
        prepare(tmp_path / "data", path)
    assert caught.value.code == "too_many_broken_lines"
    message = problems(tmp_path / "data")[0]["message"]
    assert "rating, title, text" in message
    assert "accepted: overall, reviewText" in message


def test_too_many_bad_values_stop_the_run(tmp_path: Path):
    path = write(tmp_path / "raw" / "Toys.json", [review(i, vote="many") for i in range(300)])
    with pytest.raises(DataError) as caught:
        prepare(tmp_path / "data", path, options=["--most-problems", "20"])
    assert caught.value.code == "too_many_problems"
    assert len(problems(tmp_path / "data")) == 21
    assert not (tmp_path / "data").exists()


def test_complete_reviews_are_drawn_in_the_numbers_asked_for(tmp_path: Path):
    raw = tmp_path / "raw"
    urls = [f"own/{i}" for i in range(0, 120, 2)]
    write(raw / "Toys.json", [review(i, image=[f"own/{i}"]) for i in range(120)])
    with Manifest(raw / "pictures") as manifest:
        for url in urls:
            manifest.keep(url, jpeg(100), "JPEG")
    options = [
        *("--pictures", str(raw / "pictures"), "--complete-only"),
        *("--splits", "0.5", "0.25", "0.25", "--rows", "20", "10", "12"),
    ]
    one, same, other = (
        prepare(tmp_path / f"data{i}", raw, options=[*options, "--seed", seed])
        for i, seed in enumerate(["2022", "2022", "2023"])
    )
    assert one.card.cases == {"train": 20, "validation": 10, "test": 12}
    assert set(one.card.missing.values()) == {0.0}
    assert one.card.source["counts"]["incomplete"] == 60
    assert one.ids(range(42)) == same.ids(range(42)) != other.ids(range(42))
    with pytest.raises(ConfigError) as caught:
        prepare(tmp_path / "more", raw, options=[*options, "--rows", "31", "10", "12"])
    assert (caught.value.field, caught.value.accepted) == (
        "--rows",
        "at most 30; or other --splits",
    )


def test_no_review_left_is_the_users_mistake(tmp_path: Path):
    empty = write(tmp_path / "raw" / "Toys.json", [])
    some = write(tmp_path / "raw" / "Books.json", [review(i) for i in range(20)])
    for source, options in ((empty, []), (some, ["--complete-only"])):
        with pytest.raises(DataError) as caught:
            prepare(tmp_path / "data", source, options=options)
        assert caught.value.code == "no_records"
    assert not (tmp_path / "data").exists()


def test_two_runs_are_identical_byte_by_byte_wherever_the_files_stand(tmp_path: Path):
    outs = []
    for place in ("here", "there"):
        raw = toys(tmp_path / place / "raw")
        outs.append(tmp_path / place / "data")
        prepare(outs[-1], raw, options=["--pictures", str(raw / "pictures")])
    names = sorted(path.name for path in outs[0].iterdir())
    assert names == sorted(path.name for path in outs[1].iterdir())
    for name in names:
        assert (outs[0] / name).read_bytes() == (outs[1] / name).read_bytes(), name
    files = Dataset.open(outs[0]).card.source["files"]
    assert set(files) == {"Toys_5.json.gz", "meta_Toys.json.gz", "pictures/manifest.jsonl"}
    assert all(len(each) == 64 for each in files.values())


def test_another_data_sets_preprocessing_can_be_taken(tmp_path: Path):
    first = prepare(tmp_path / "first", write(tmp_path / "Toys.json", map(review, range(60))))
    path = write(
        tmp_path / "Books.json",
        (review(i, reviewText=f"novel {i}", unixReviewTime=i) for i in range(100, 160)),
    )
    own, taken = tmp_path / "own", tmp_path / "taken"
    prepare(own, path)
    data = prepare(taken, path, options=["--preprocessing", str(first.folder)])
    for name in ("preprocessing.json", "tokenizer.json"):
        state = (first.folder / name).read_bytes()
        assert (taken / name).read_bytes() == state != (own / name).read_bytes()
    assert len(data) == 60
    with pytest.raises(ConfigError, match="no fitted preprocessing"):
        prepare(tmp_path / "none", path, options=["--preprocessing", str(tmp_path)])
    assert not (tmp_path / "none").exists()


# ---- real files ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "lines", "reviews", "stars"),
    [
        ("AMAZON_FASHION_5", 3176, 449, [17, 15, 49, 66, 302]),
        ("All_Beauty_5", 5269, 1382, [30, 26, 66, 153, 1107]),
    ],
)
def test_real_reviews_come_out_once_each_and_no_text_crosses_splits(
    open_data: Path, tmp_path: Path, name: str, lines: int, reviews: int, stars: list[int]
):
    path = open_data / "amazon_2018_5core" / f"{name}.json.gz"
    if not path.is_file():
        pytest.fail(f"{path} is not there")
    data = prepare(tmp_path / "data", path, options=["--split-by", "text"])
    assert data.card.source["counts"]["lines"] == lines
    assert len(data) == reviews
    assert np.bincount(data.labels.astype(int)).tolist() == stars
    assert data.card.refused == {}
    assert not problems_path(tmp_path / "data").exists()
    with gzip.open(path) as raw:
        records = [json.loads(line) for line in raw]
    names = [f"{name}.json.gz:{number}" for number in range(1, lines + 1)]
    texts = {n: each.get("reviewText") for n, each in zip(names, records, strict=True)}
    assert crossing(data, texts) == 0
    first = data.ids([0])[0]
    assert first == f"{name}.json.gz:1"
    assert parts(data, 0)["text"].startswith("five stars. ")


def test_real_fashion_is_one_product_to_the_strict_split(open_data: Path, tmp_path: Path):
    path = open_data / "amazon_2018_5core" / "AMAZON_FASHION_5.json.gz"
    with pytest.raises(ConfigError, match=r"409 of 449 reviews \(91\.1%\)"):
        prepare(tmp_path / "data", path)
    data = prepare(tmp_path / "data", path, options=["--split-by", "product-cut-text"])
    assert data.card.source["counts"]["text_in_two_splits"] == 2
