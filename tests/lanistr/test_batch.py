"""Batches: only the rows that are present, padded only along text."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lanistr.batch import Features, collate, stack
from lanistr.modalities import Modality


def note(*ids: int) -> dict[str, np.ndarray]:
    return {"token_ids": np.array(ids, dtype=np.int64)}


def picture(value: int) -> dict[str, np.ndarray]:
    return {"pixels": np.full((3, 4, 4), value, dtype=np.uint8)}


CASES = [
    Features({Modality.TEXT: (note(2, 7, 3), note(2, 8, 9, 9, 3))}),
    Features({Modality.IMAGE: (picture(1),)}),
    Features({Modality.TEXT: (note(2, 3),), Modality.IMAGE: (picture(2), picture(3))}),
]


def test_an_absent_modality_has_no_rows_and_one_that_nobody_brings_no_key():
    batch = collate(CASES)
    assert batch.size == 3
    assert set(batch.parts) == {Modality.TEXT, Modality.IMAGE}
    assert batch.parts[Modality.TEXT].sample.tolist() == [0, 0, 2]
    assert batch.parts[Modality.IMAGE].sample.tolist() == [1, 2, 2]
    assert batch.parts[Modality.IMAGE].arrays["pixels"][:, 0, 0, 0].tolist() == [1, 2, 3]


def test_presence_says_which_case_brings_what_in_canonical_order():
    assert collate(CASES).presence().tolist() == [
        [True, False, False, False],
        [False, True, False, False],
        [True, True, False, False],
    ]


def test_modalities_stand_in_canonical_order_whatever_the_order_of_the_case():
    rows = {"values": np.zeros((2, 3), np.float32)}
    batch = collate([Features({Modality.TIMESERIES: (rows,), Modality.TEXT: (note(2, 3),)})])
    assert list(batch.parts) == [Modality.TEXT, Modality.TIMESERIES]


def test_text_is_padded_with_zeros_and_the_mask_says_where():
    arrays = collate(CASES).parts[Modality.TEXT].arrays
    assert arrays["token_ids"].tolist() == [[2, 7, 3, 0, 0], [2, 8, 9, 9, 3], [2, 3, 0, 0, 0]]
    assert arrays["attention_mask"].tolist() == [[1, 1, 1, 0, 0], [1] * 5, [1, 1, 0, 0, 0]]


def test_rows_of_one_length_get_a_mask_too():
    assert stack([note(2, 3), note(2, 3)])["attention_mask"].tolist() == [[1, 1], [1, 1]]


def test_labels_and_names_are_handed_through():
    labels = np.array([0, np.nan, 1], dtype=np.float32)
    batch = collate(CASES, labels, ["a", "b", "c"])
    assert batch.labels is labels
    assert batch.ids == ["a", "b", "c"]


def test_an_empty_batch_is_empty():
    assert collate([]).presence().shape == (0, 4)


@given(st.lists(st.lists(st.integers(0, 5), max_size=3), min_size=1, max_size=6))
def test_every_row_of_every_case_is_found_again(cases: list[list[int]]):
    features = [
        Features({Modality.TEXT: tuple(note(*range(1, n + 2)) for n in case)} if case else {})
        for case in cases
    ]
    batch = collate(features)
    lengths = [n + 1 for case in cases for n in case]
    if not lengths:
        assert batch.parts == {}
        return
    part = batch.parts[Modality.TEXT]
    assert part.sample.tolist() == [i for i, case in enumerate(cases) for _ in case]
    assert part.arrays["attention_mask"].sum(axis=1).tolist() == lengths
    assert (part.arrays["token_ids"] > 0).sum(axis=1).tolist() == lengths
