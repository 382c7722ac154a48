"""The paper's sizes have exactly the paper's parameters."""

from collections.abc import Iterator

import pytest
import torch

from lanistr.model.config import LanistrConfig
from lanistr.model.fusion import FusionConfig
from lanistr.model.heads import HeadConfig
from lanistr.model.image import ImageConfig
from lanistr.model.lanistr import Lanistr, count_parameters
from lanistr.model.pretraining import LanistrForPretraining
from lanistr.model.tabular import TabularConfig
from lanistr.model.text import TextConfig
from lanistr.model.timeseries import TimeseriesConfig

TEXT = TextConfig(pooler=True)
IMAGE = ImageConfig(pooler=True)
FUSION = FusionConfig(pooler=True)
TIMESERIES = TimeseriesConfig(features=76, steps=48, groups=tuple((i,) for i in range(59)))
CATEGORIES = (11, 222, 3333, 44)  # the formula holds for any
TABULAR = TabularConfig(numbers=2, categories=CATEGORIES)
EMBEDDED = 3 * sum(CATEGORIES)

MIMIC = LanistrConfig(text=TEXT, image=IMAGE, timeseries=TIMESERIES, fusion=FUSION)
AMAZON = LanistrConfig(text=TEXT, image=IMAGE, tabular=TABULAR, fusion=FUSION)


@pytest.fixture(autouse=True)
def without_memory() -> Iterator[None]:
    with torch.device("meta"):
        yield


def with_head(config: LanistrConfig, classes: int) -> LanistrConfig:
    return config.model_copy(update={"head": HeadConfig(kind="classes", outputs=classes)})


def test_mimic_pretraining_has_the_papers_modules_and_total() -> None:
    counts = count_parameters(LanistrForPretraining(MIMIC))
    assert counts == {
        "core.encoders.text": 109_482_240,
        "core.encoders.image": 86_389_248 + 768,
        "core.encoders.timeseries": 204_220,
        "core.projections.text": 590_592,
        "core.projections.image": 590_592,
        "core.projections.timeseries": 59_136,
        "core.fusion": 43_120_128,
        "pretexts.text": 24_063_546,
        "pretexts.image": 590_592,
        "pretexts.timeseries": 0,
        "projector": 9_967_616,
        "predictor": 2_099_712,
    }
    assert sum(counts.values()) == 277_158_390


def test_mimic_fine_tuning_has_the_papers_totals() -> None:
    model = Lanistr(with_head(MIMIC, 2))
    assert count_parameters(model)["head"] == 1_182_722
    assert sum(count_parameters(model).values()) == 241_619_646
    model.freeze_encoders()
    assert sum(count_parameters(model).values()) == 241_619_646
    assert sum(count_parameters(model, trained=True).values()) == 45_543_170


def test_amazon_pretraining_has_the_papers_total() -> None:
    counts = count_parameters(LanistrForPretraining(AMAZON))
    assert counts["core.projections.tabular"] == 49_920
    assert counts["core.encoders.tabular"] + counts["pretexts.tabular"] == 576_324 + EMBEDDED
    assert sum(counts.values()) == 277_521_278 + EMBEDDED


def test_amazon_fine_tuning_has_the_papers_totals() -> None:
    tabular = TABULAR.model_copy(update={"output_mapping": 768})
    config = AMAZON.model_copy(update={"tabular": tabular})
    model = Lanistr(with_head(config, 5)).freeze_encoders()
    assert count_parameters(model)["head"] == 1_185_029
    assert count_parameters(model)["encoders.tabular"] == 564_192 + EMBEDDED
    assert sum(count_parameters(model).values()) == 241_972_709 + EMBEDDED
    assert sum(count_parameters(model, trained=True).values()) == 45_536_261


def test_leaving_the_unused_poolers_out_spares_their_parameters() -> None:
    bare = LanistrConfig(
        text=TextConfig(), image=ImageConfig(), timeseries=TIMESERIES, fusion=FusionConfig()
    )
    spared = sum(count_parameters(Lanistr(MIMIC)).values())
    spared -= sum(count_parameters(Lanistr(bare)).values())
    assert spared == 1_771_776
