"""What encoders returned is found again by what they were given, and by nothing else."""

import numpy as np

from lanistr.batch import Features
from lanistr.modalities import Modality
from service.engine.cache import RowKeys, TokenCache
from service.metrics import Metrics

TEXT = Modality.TEXT
TOKENS = np.arange(8, dtype=np.float32).reshape(2, 4)


def key(arrays, version="v1", build="onnx fp32", modality=TEXT):
    (found,) = RowKeys(version, build).of(Features({modality: (arrays,)}))[modality]
    return found


def test_keys_differ_by_all_that_tokens_hang_on():
    row = {"numbers": np.arange(4, dtype=np.float32), "categories": np.arange(2)}
    others = [
        key(row, version="v2"),
        key(row, build="onnx int8"),
        key(row, modality=Modality.TABULAR),
        key(row | {"numbers": np.array([0, 1, 2, 4], np.float32)}),
        key(row | {"numbers": row["numbers"].reshape(2, 2)}),
        key(row | {"categories": np.arange(2, dtype=np.int32)}),
        key({"numbers": row["numbers"]}),
    ]
    assert len({key(row), *others}) == 1 + len(others)
    assert key(row) == key({name: array.copy() for name, array in row.items()})


def test_an_array_counts_by_its_values_not_by_how_it_lies_in_memory():
    array = np.arange(12).reshape(3, 4)
    assert key({"pixels": np.asfortranarray(array)}) == key({"pixels": array})


def test_what_was_longest_not_asked_for_goes_first():
    cache = TokenCache(2 * TOKENS.nbytes)
    for name in (b"a", b"b"):
        cache.put(name, TOKENS)
    assert cache.get(TEXT, b"a") is not None
    cache.put(b"c", TOKENS)
    assert [name in cache for name in (b"a", b"b", b"c")] == [True, False, True]


def test_tokens_that_alone_are_too_many_are_not_held_and_push_nothing_out():
    cache = TokenCache(TOKENS.nbytes)
    cache.put(b"a", TOKENS)
    cache.put(b"b", np.zeros((3, 4), np.float32))
    assert b"a" in cache
    assert b"b" not in cache


def test_it_notes_bytes_and_use_by_modality():
    metrics = Metrics()
    cache = TokenCache(1000, metrics)
    cache.get(TEXT, b"a")
    cache.put(b"a", TOKENS)
    cache.get(TEXT, b"a")
    cache.get(Modality.IMAGE, b"b")

    def noted(name, **labels):
        return metrics.registry().get_sample_value(f"lanistr_cache_{name}", labels)

    assert (noted("bytes"), noted("limit_bytes")) == (TOKENS.nbytes, 1000)
    found = {
        (modality, outcome): noted("rows_total", modality=modality, outcome=outcome)
        for modality in ("text", "image")
        for outcome in ("hit", "miss")
    }
    assert found == {
        ("text", "hit"): 1, ("text", "miss"): 1, ("image", "hit"): None, ("image", "miss"): 1
    }  # fmt: skip
