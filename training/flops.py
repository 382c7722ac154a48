"""What training costs: floating-point operations by batch, and how many the device could do."""

import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from lanistr.modalities import Modality
from lanistr.model.baselines.albef_pretraining import AlbefForPretraining
from lanistr.model.encoder import Pretext
from lanistr.model.fusion import Fusion
from lanistr.model.heads import MarkedProjection
from lanistr.model.lanistr import ForPretraining, Lanistr
from lanistr.model.pretraining import LanistrForPretraining
from lanistr.model.tensors import TensorBatch, TensorPart

BACKWARD = 2
"""A backward pass costs two forward ones: one product for the inputs, one for the weights."""


def forward_flops(model: Lanistr) -> int:
    """Count the operations of one complete case with the longest text, on any device."""
    sample = torch.zeros(1, dtype=torch.int64)
    parts: dict[str, TensorPart] = {}
    with torch.device("cpu"):
        for modality in model.config.modalities:
            parts[modality] = TensorPart(sample, model.encoder(modality).example(1))
    batch = TensorBatch(1, {m: parts[m] for m in model.config.modalities})
    return _encode(model, batch) + _fuse(model, batch)


def step_flops(model: Lanistr | ForPretraining, batch: TensorBatch) -> int:
    """Count the operations of a training step over a batch that stands on the CPU.

    Frozen encoders run forward alone, and not at all where their outputs were stored.
    """
    if isinstance(model, Lanistr):
        trained = next(model.encoders.parameters()).requires_grad
        encode = _encode(model, batch) * (1 + BACKWARD * trained)
        return encode + (1 + BACKWARD) * (_fuse(model, batch) + _head(model, batch))
    # Not by its class itself, on top of which sharding puts one.
    count = next(count for kind, count in _COUNTED.items() if isinstance(model, kind))
    return count(model, batch)


def _lanistr(model: ForPretraining, batch: TensorBatch) -> int:
    """Count a step of LANISTR's pretraining, which takes two views of each case."""
    assert isinstance(model, LanistrForPretraining)
    core = model.core
    views = 2 if model.projector is not None else 1
    forward = views * _encode(core, batch)
    for modality, part in batch.parts.items():
        pretext = model.pretexts[modality]
        assert isinstance(pretext, Pretext)
        forward += pretext.flops(part.arrays)
    if model.projector is not None:
        forward += 2 * (_fuse_all(core, batch) + _compare(model, batch))
    if len(model.summaries):
        predictors = _matrices(model.summaries) + _matrices(model.shortcuts)
        forward += _fuse(core, batch) + 2 * batch.size * predictors
    return (1 + BACKWARD) * forward


def _albef(model: ForPretraining, batch: TensorBatch) -> int:
    """Count a step of ALBEF's pretraining: each pair, two that are none, and words to name.

    The slow weights run forward alone, and do all but what says of pairs whether they are some.
    """
    assert isinstance(model, AlbefForPretraining)
    core, notes = model.core, batch.parts[Modality.TEXT]
    pretext = model.pretexts[Modality.TEXT]
    assert isinstance(pretext, Pretext)
    fused = _fuse(core, batch)
    slow = _encode(core, batch) + core.encoder(Modality.TEXT).flops(notes.arrays)
    slow += fused + pretext.flops(notes.arrays) + 2 * batch.size * _matrices(model.spaces)
    compared = 4 * batch.size * (batch.size + len(model.queue.cases)) * model.sizes.space
    tried = 3 if batch.size > 1 else 1
    fast = slow + compared + tried * (fused + 2 * batch.size * _matrices(model.matching))
    return slow + compared + (1 + BACKWARD) * fast


_COUNTED: Mapping[type[ForPretraining], Callable[[ForPretraining, TensorBatch], int]] = {
    LanistrForPretraining: _lanistr,
    AlbefForPretraining: _albef,
}


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Measure the device's matrix products, in operations a second: what 100% of it would be."""
    size = 8192 if device.type == "cuda" else 768
    left = torch.randn(size, size, device=device, dtype=dtype)
    right = torch.randn(size, size, device=device, dtype=dtype)
    best = float("inf")
    for _ in range(8):
        _wait(device)
        started = time.perf_counter()
        left @ right
        _wait(device)
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _encode(model: Lanistr, batch: TensorBatch) -> int:
    return sum(
        model.encoder(modality).flops(part.arrays)
        for modality, part in batch.parts.items()
        if "encoded" not in part.arrays
    )


def _fuse(model: Lanistr, batch: TensorBatch) -> int:
    """Count projections, and fusion as far as it is needed to gather all tokens."""
    return _project(model, batch) + model.fusion.flops(_by_case(model, batch))


def _fuse_all(model: Lanistr, batch: TensorBatch) -> int:
    """Count projections, and fusion of all tokens."""
    assert isinstance(model.fusion, Fusion)
    return _project(model, batch) + model.fusion.flops(_by_case(model, batch), cls_only=False)


def _project(model: Lanistr, batch: TensorBatch) -> int:
    count = 0
    for modality, part in batch.parts.items():
        pooled = model.fusion.pooled
        tokens = len(part.sample) if pooled else int(_tokens(model, modality, part).sum())
        projection = model.projections[modality]
        matrices = _matrices(projection)
        if isinstance(projection, MarkedProjection) and projection.shortcut is not None:
            matrices //= 2  # one of two of the same size, whichever a token goes through
        count += 2 * tokens * matrices
    return count


def _by_case(model: Lanistr, batch: TensorBatch) -> dict[str, Tensor]:
    """Return (B,) how many tokens of each case fusion takes, by modality."""
    nothing_B = torch.zeros(batch.size, dtype=torch.int64)
    tokens: dict[str, Tensor] = dict.fromkeys(model.config.modalities, nothing_B)
    for modality, part in batch.parts.items():
        # Several rows of a case share their places, where they are averaged.
        joined = "amax" if model.fusion.pooled or model.encoder(modality).averages else "sum"
        own_R = _tokens(model, modality, part)
        tokens[modality] = nothing_B.scatter_reduce(0, part.sample, own_R, joined)
    return tokens


def _tokens(model: Lanistr, modality: str, part: TensorPart) -> Tensor:
    """Return (R,) how many tokens each row hands on to fusion."""
    encoder, rows = model.encoder(modality), len(part.sample)
    if model.fusion.pooled:
        return torch.full((rows,), len(encoder.vectors) or 1)
    if "encoded" not in part.arrays:
        mask_RN = encoder.token_mask(**part.arrays)
        return torch.full((rows,), encoder.handed_on) if mask_RN is None else mask_RN.sum(dim=1)
    return part.arrays["attention_mask"].sum(dim=1)


def _head(model: Lanistr, batch: TensorBatch) -> int:
    return 0 if model.head is None else 2 * batch.size * _matrices(model.head)


def _compare(model: LanistrForPretraining, batch: TensorBatch) -> int:
    """Count SimMMM's projector and predictor over the tokens of one view."""
    simmmm = model.config.simmmm
    assert simmmm is not None
    assert model.projector is not None
    assert model.predictor is not None
    tokens = batch.size
    if simmmm.tokens == "all":
        for modality, part in batch.parts.items():
            past = len(part.sample) * model.core.encoder(modality).shortcuts
            tokens += int(_tokens(model.core, modality, part).sum()) - past
    return 2 * tokens * (_matrices(model.projector) + _matrices(model.predictor))


def _matrices(module: torch.nn.Module) -> int:
    return sum(each.numel() for each in module.parameters() if each.ndim == 2)
