"""What a model costs, counted from what it computes."""

from typing import cast

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from lanistr.model.encoder import Encoder
from lanistr.model.lanistr import Lanistr
from lanistr.model.tensors import TensorBatch, TensorPart


def forward_flops(model: Lanistr) -> int:
    """Count the floating-point operations of one complete case: encoders, projections, fusion.

    A multiplication and an addition count as two. The case has the longest text.

    Args:
        model: on the meta device; it is filled with zeros, since BERT and TabNet look at values
            on the way.
    """
    model = model.to_empty(device="cpu").eval()
    for each in (*model.parameters(), *model.buffers()):
        each.data.zero_()
    sample = torch.zeros(1, dtype=torch.int64)
    parts = {
        modality: TensorPart(sample, cast(Encoder, model.encoders[modality]).example(1))
        for modality in model.config.modalities
    }
    # The counter knows plain matrix products, but not the CPU's fused attention.
    plain = sdpa_kernel(SDPBackend.MATH)
    with torch.inference_mode(), plain, FlopCounterMode(display=False) as counter:
        tokens, mask = model.assemble(TensorBatch(1, parts), model.encode(parts))
        model.fusion(tokens, mask)
    return int(counter.get_total_flops())
