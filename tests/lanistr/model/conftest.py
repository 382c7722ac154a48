"""A model small enough to run in milliseconds, and cases for it."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pytest
import torch

from lanistr.batch import Arrays, Features, collate
from lanistr.modalities import Modality
from lanistr.model.config import LanistrConfig
from lanistr.model.fusion import FusionConfig
from lanistr.model.heads import HeadConfig, SimMMMConfig
from lanistr.model.image import ImageConfig
from lanistr.model.tabular import TabularConfig
from lanistr.model.tensors import TensorBatch, to_tensors
from lanistr.model.text import TextConfig
from lanistr.model.timeseries import TimeseriesConfig

TEXT = TextConfig(
    vocab_size=60,
    width=16,
    layers=2,
    heads=2,
    feedforward=32,
    max_tokens=16,
    pad_id=0,
    cls_id=2,
    sep_id=3,
    mask_id=4,
)
IMAGE = ImageConfig(size=16, patch=4, width=16, layers=2, heads=2, feedforward=32)
TABULAR = TabularConfig(numbers=3, categories=(5, 7), width=8, steps=2)
# Two numbers, one category in three columns, three indicators.
TIMESERIES = TimeseriesConfig(
    features=8,
    steps=10,
    groups=((0,), (1,), (2, 3, 4)),
    measured=(5, 7, 6),
    width=12,
    layers=2,
    heads=2,
    feedforward=24,
)
PRETRAINING = LanistrConfig(
    text=TEXT,
    image=IMAGE,
    tabular=TABULAR,
    timeseries=TIMESERIES,
    fusion=FusionConfig(width=24, layers=2, heads=2, feedforward=48),
    simmmm=SimMMMConfig(width=32, bottleneck=8),
)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """On tiny tensors a second thread only waits for the first."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(1)  # not the seed above: draws must not repeat its own


@pytest.fixture
def pretraining() -> LanistrConfig:
    return PRETRAINING


@pytest.fixture
def finetuning() -> LanistrConfig:
    head = HeadConfig(kind="classes", outputs=2)
    return PRETRAINING.model_copy(update={"head": head})


def rows(modality: Modality, case: int, count: int = 1) -> tuple[Arrays, ...]:
    """The rows that a case brings of a modality: the same whatever else is in the batch."""
    made = []
    for number in range(count):
        draw = np.random.default_rng([case, number])
        words = draw.integers(5, TEXT.vocab_size, draw.integers(4, 12))
        arrays = {
            Modality.TEXT: {"token_ids": np.concatenate([[2], words, [3]])},
            Modality.IMAGE: {"pixels": draw.integers(0, 256, (3, 16, 16)).astype(np.uint8)},
            Modality.TABULAR: {
                "numbers": draw.normal(size=3).astype(np.float32),
                "categories": draw.integers(0, 5, 2),
            },
            Modality.TIMESERIES: {"values": draw.normal(size=(10, 8)).astype(np.float32)},
        }
        made.append(arrays[modality])
    return tuple(made)


@pytest.fixture
def make_rows() -> Callable[..., tuple[Arrays, ...]]:
    return rows


@pytest.fixture
def make_batch() -> Callable[..., TensorBatch]:
    """Return a function from the modalities of each case to a batch."""

    def make(*cases: Iterable[Modality], first: int = 0) -> TensorBatch:
        features = [
            Features(
                {modality: rows(modality, number) for modality in Modality if modality in case}
            )
            for number, case in enumerate(cases, first)
        ]
        return to_tensors(collate(features))

    return make


@pytest.fixture
def full_batch(make_batch: Callable[..., TensorBatch]) -> TensorBatch:
    return make_batch(*[tuple(Modality)] * 8)
