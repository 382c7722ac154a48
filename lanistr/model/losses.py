"""The pretraining losses as pure functions: the paper's five, one of ours, and ALBEF's.

Every loss is a mean over what was hidden; where nothing was, it is an exact 0 that still has a
graph, so that a step never turns into NaN and every rank of a distributed run can call backward.

Shapes: B case, N token of fusion, S = 1 + N (fusion's CLS in front), n chosen entry, V word,
D width, K column or candidate, M modality.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional


def mean_or_zero(errors: Tensor) -> Tensor:
    """Return the mean of all entries, 0 where there are none."""
    return errors.sum() / max(errors.numel(), 1)


def mean_where(errors: Tensor, chosen: Tensor) -> Tensor:
    """Return the mean of the entries where `chosen` (same shape, bool), 0 where none is."""
    return (errors * chosen).sum() / chosen.sum().clamp(min=1)


# ---- one modality each --------------------------------------------------------------------------


def masked_language(logits_nV: Tensor, token_ids_n: Tensor) -> Tensor:
    """MLM: cross-entropy of the words at the asked places.

    Source: LANISTR paper, section 3.1 (masked language modelling).
    """
    return mean_or_zero(functional.cross_entropy(logits_nV.float(), token_ids_n, reduction="none"))


def masked_image(predicted_nD: Tensor, pixels_nD: Tensor) -> Tensor:
    """MIM: mean absolute error of the pixels of hidden patches.

    Source: Xie et al. 2022 (SimMIM), section 3.4.
    """
    return mean_or_zero((predicted_nD.float() - pixels_nD).abs())


def masked_features(predicted_RK: Tensor, target_RK: Tensor, hidden_RK: Tensor) -> Tensor:
    """MFM: squared error of hidden entries in units of each column's variance in the batch.

    A column that hardly varies in the batch has no scale of its own there and is left in its units:
    entries vary by about 1 over all cases, and a handful that happen to be alike would make the
    error of one a thousand times too large.

    Source: Arik and Pfister 2021 (TabNet), section "Tabular self-supervised learning".
    """
    target_RK = target_RK.detach()
    variance_K = target_RK.var(dim=0, correction=0)
    scale_K = torch.where(variance_K > _LEAST_VARIANCE, variance_K, 1.0)
    return mean_where((predicted_RK.float() - target_RK).square() / scale_K, hidden_RK)


_LEAST_VARIANCE = 0.1


def masked_series(predicted_RTF: Tensor, values_RTF: Tensor, hidden_RTF: Tensor) -> Tensor:
    """MTM: mean squared error of hidden entries.

    Source: Zerveas et al. 2021, section 3.2.
    """
    return mean_where((predicted_RTF.float() - values_RTF).square(), hidden_RTF)


def softly_named(logits_nV: Tensor, slow_nV: Tensor, token_ids_n: Tensor, *, soft: float) -> Tensor:
    """MLM of ALBEF: the words themselves are to be named, and what slow weights would say.

    Args:
        logits_nV: at the asked places.
        slow_nV: the same of the slow weights, through which no gradient passes.
        token_ids_n: the words that stood there.
        soft: share of what the slow weights say.

    Source: Li et al. 2021 (ALBEF), equation 7.
    """
    logits_nV, slow_nV = logits_nV.float(), slow_nV.detach().float()
    hard_n = functional.cross_entropy(logits_nV, token_ids_n, reduction="none")
    soft_n = functional.cross_entropy(logits_nV, slow_nV.softmax(dim=-1), reduction="none")
    return mean_or_zero((1 - soft) * hard_n + soft * soft_n)


# ---- all modalities together --------------------------------------------------------------------


def summary(predicted_RK: Tensor, figures_RK: Tensor, known_RK: Tensor) -> Tensor:
    """Summary modelling: Huber's loss of the figures that are known.

    Figures of a stay have long tails, which squares would be of alone. Source: Huber 1964.
    """
    errors_RK = functional.huber_loss(predicted_RK.float(), figures_RK, reduction="none")
    return mean_where(errors_RK, known_RK)


def simmmm(e1_nD: Tensor, e2_nD: Tensor, z1_nD: Tensor, z2_nD: Tensor) -> Tensor:
    """SimMMM: the fused tokens of a case and of its masked self should predict one another.

    Args:
        e1_nD: predictor's output for the tokens of one view.
        e2_nD: the same for the other view.
        z1_nD: projector's output for the first view; no gradient passes through it here.
        z2_nD: the same for the other view.

    Returns:
        D(e1, z2) + D(e2, z1), D the negative cosine: from -2 (agreement) to 2.

    Source: LANISTR paper, section 3.3.
    """
    return mean_or_zero(_negative_cosine(e1_nD, z2_nD) + _negative_cosine(e2_nD, z1_nD))


def _negative_cosine(e_nD: Tensor, z_nD: Tensor) -> Tensor:
    return -functional.cosine_similarity(e_nD.float(), z_nD.detach().float(), dim=-1)


def contrast(alike_BK: Tensor, slow_BK: Tensor, *, soft: float) -> Tensor:
    """ITC of ALBEF: of K candidates, case b is to find the one at place b.

    Args:
        alike_BK: how alike cases and candidates are, divided by the temperature.
        slow_BK: the same of the slow weights, through which no gradient passes.
        soft: share of what the slow weights say in what is to be found.

    Source: Li et al. 2021 (ALBEF), equation 6.
    """
    own_BK = torch.eye(*alike_BK.shape, device=alike_BK.device)
    target_BK = (1 - soft) * own_BK + soft * slow_BK.detach().softmax(dim=-1)
    return functional.cross_entropy(alike_BK, target_BK)


def simmmm_tokens(
    mask_BN: Tensor,
    presence_BM: Tensor,
    *,
    on: Literal["any", "parallel"],
    tokens: Literal["all", "cls"],
) -> Tensor:
    """Say which fused tokens SimMMM compares.

    Args:
        mask_BN: (B, N) bool, True for a token that is there.
        presence_BM: (B, M) bool, which case brings which of the model's modalities.
        on: cases with any modality, or only those with all.
        tokens: fusion's CLS and every token that is there, or the CLS alone.

    Returns:
        (B, 1 + N) bool.
    """
    eligible_B = presence_BM.any(dim=1) if on == "any" else presence_BM.all(dim=1)
    rest_BN = mask_BN if tokens == "all" else torch.zeros_like(mask_BN)
    every_BS = torch.cat([torch.ones_like(eligible_B)[:, None], rest_BN], dim=1)
    return every_BS & eligible_B[:, None]
