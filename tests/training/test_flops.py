"""The FLOP count, against the formulas."""

from pathlib import Path

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from lanistr.model.checkpoint import from_pretrained
from lanistr.model.config import LanistrConfig
from lanistr.model.fusion import FusionConfig
from lanistr.model.heads import SummaryConfig
from lanistr.model.image import ImageConfig
from lanistr.model.lanistr import Lanistr
from lanistr.model.pretraining import LanistrForPretraining
from lanistr.model.tensors import to_tensors
from lanistr.model.text import TextConfig
from lanistr.model.timeseries import TimeseriesConfig
from training.data.store import Dataset
from training.flops import forward_flops, matmul_rate, step_flops


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
        + transformer(fused, 20, 48, layers=1)
        + 2 * fused * 2 * 20 * 20  # keys and values of the last layer, where one token asks
        + 2 * (2 * 20 * 20 + 2 * 20 * 48)
        + 2 * 2 * fused * 20
    )


def counted(run: object) -> int:
    """What torch's own counter sees of a forward pass; it knows plain matrix products alone."""
    assert callable(run)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops())


@pytest.mark.parametrize("summary", [None, SummaryConfig(width=48)])
def test_a_pretraining_step_costs_what_the_counter_sees_times_three(
    stays_pretrained: Path, stays_dataset: Dataset, summary: SummaryConfig | None
) -> None:
    model = from_pretrained(stays_pretrained / "model", LanistrForPretraining)
    model = LanistrForPretraining(model.config.model_copy(update={"summary": summary}))
    # One case at a time: nothing is padded, so what is computed is what the case asks for.
    complete = [
        int(i)
        for i in stays_dataset.rows("train")
        if stays_dataset.patterns([i])[0].count("+") == 3
    ]
    ours = seen = 0
    for case in complete[:12]:
        batch = to_tensors(stays_dataset.batch([case]))
        ours += step_flops(model, batch)
        seen += 3 * counted(lambda b=batch: model(b, torch.Generator().manual_seed(1)))
    assert ours == pytest.approx(seen, rel=0.03)  # how many words are asked for is by chance


def test_a_fine_tuning_step_costs_three_passes_or_with_frozen_encoders_less(
    stays_finetuned: Path, stays_dataset: Dataset
) -> None:
    model = from_pretrained(stays_finetuned / "model", Lanistr)
    case = next(
        i for i in stays_dataset.rows("train") if stays_dataset.patterns([i])[0].count("+") == 3
    )
    batch = to_tensors(stays_dataset.batch([int(case)]))
    forward = counted(lambda: model(batch))
    assert step_flops(model, batch) == pytest.approx(3 * forward, rel=1e-6)
    encode = counted(lambda: [model.encoders[m](**p.arrays) for m, p in batch.parts.items()])
    model.freeze_encoders()
    assert step_flops(model, batch) == pytest.approx(3 * forward - 2 * encode, rel=1e-6)


def test_the_device_can_do_more_than_nothing() -> None:
    assert matmul_rate(torch.device("cpu"), torch.float32) > 1e8
