"""What a Transformer costs, counted from its sizes and from the tokens that it is given.

A multiplication and an addition count as two; norms, activations and sums as nothing. Padding does
not count: it is no work that the case asks for.
"""

from torch import Tensor


def transformer_flops(tokens_R: Tensor, *, width: int, feedforward: int, layers: int) -> int:
    """Count a forward pass over rows of so many tokens each.

    Four square matrices and two of the feed-forward part by token, and two products of all tokens
    with all.
    """
    tokens = int(tokens_R.sum())
    pairs = int((tokens_R * tokens_R).sum())
    matrices = 2 * tokens * (4 * width * width + 2 * width * feedforward)
    return layers * (matrices + 4 * pairs * width)
