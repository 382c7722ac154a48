"""What a Transformer costs, counted from its sizes and from the tokens that it is given.

A multiplication and an addition count as two; norms, activations and sums as nothing. Padding does
not count: it is no work that the case asks for.
"""

from collections.abc import Mapping

import torch
from torch import Tensor


def transformer_flops(
    tokens_R: Tensor, *, width: int, feedforward: int, layers: int, cls_only: bool = False
) -> int:
    """Count a forward pass over rows of so many tokens each.

    Four square matrices and two of the feed-forward part by token, and two products of all tokens
    with all. With `cls_only` the last layer is computed for one token of each row, of which all
    others need their key and value.
    """
    tokens, pairs = int(tokens_R.sum()), int((tokens_R * tokens_R).sum())
    pair, square, feed = 4 * width, 2 * width * width, 4 * width * feedforward
    layer = tokens * (4 * square + feed) + pairs * pair
    if not cls_only:
        return layers * layer
    last = tokens * (2 * square + pair) + len(tokens_R) * (2 * square + feed)
    return (layers - 1) * layer + last


def sum_by_case(tokens: Mapping[str, Tensor]) -> Tensor:
    """Return how many tokens (B,) each case brings in all, from how many it brings by modality."""
    return torch.stack(list(tokens.values())).sum(dim=0)
