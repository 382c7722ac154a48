"""The FLOP count, against the formulas."""

import torch

from lanistr.model.fusion import FusionConfig
from lanistr.model.image import ImageConfig
from lanistr.model.lanistr import Lanistr, LanistrConfig
from lanistr.model.text import TextConfig
from lanistr.model.timeseries import TimeseriesConfig
from training.flops import forward_flops


def transformer(tokens: int, width: int, feedforward: int, layers: int) -> int:
    """Four square matrices, two of the feed-forward part, and two products of all with all."""
    matrices = 2 * tokens * (4 * width * width + 2 * width * feedforward)
    return layers * (matrices + 2 * 2 * tokens * tokens * width)


def test_the_count_is_that_of_the_matrix_products_of_one_complete_case() -> None:
    config = LanistrConfig(
        text=TextConfig(vocab_size=200, width=16, layers=2, heads=2, feedforward=32, max_tokens=24),
        image=ImageConfig(size=32, patch=8, width=24, layers=1, heads=2, feedforward=40),
        timeseries=TimeseriesConfig(
            features=7, steps=12, groups=(), width=8, layers=3, heads=2, feedforward=16
        ),
        fusion=FusionConfig(width=20, layers=2, heads=2, feedforward=48),
    )
    with torch.device("meta"):
        model = Lanistr(config)
    patches = (32 // 8) ** 2
    fused = 1 + 1 + (patches + 1) + 12
    assert forward_flops(model) == (
        transformer(24, 16, 32, layers=2)
        + 2 * patches * 3 * 8 * 8 * 24
        + transformer(patches + 1, 24, 40, layers=1)
        + 2 * 12 * 7 * 8
        + transformer(12, 8, 16, layers=3)
        + 2 * (1 * 16 + (patches + 1) * 24 + 12 * 8) * 20
        + transformer(fused, 20, 48, layers=2)
    )
