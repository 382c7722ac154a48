"""What is hidden from an encoder in pretraining: pure draws from a generator.

Every draw is made on the generator's own device: a CPU generator gives the same masks whatever
the model runs on. Callers move the masks to their data.

Shapes: B case, M modality, R row, L token, P patch, K column, T step, G variable.
"""

import torch
from torch import Generator, Tensor


def draw_tokens(
    token_ids_RL: Tensor,
    maskable_RL: Tensor,
    *,
    ratio: float,
    mask_id: int,
    vocab_size: int,
    generator: Generator,
) -> tuple[Tensor, Tensor]:
    """Choose tokens for the model to name, and spoil them.

    Of the chosen tokens 80% become [MASK], 10% a random word, 10% stay, so that the encoder
    cannot rely on [MASK] marking every place it is asked about.

    Args:
        token_ids_RL: (R, L) int64.
        maskable_RL: (R, L) bool; False for [CLS], [SEP] and padding, which are never chosen.
        ratio: probability that a maskable token is chosen.
        mask_id: the id of [MASK].
        vocab_size: random words are drawn from 0 up to this.
        generator: where the draws come from.

    Returns:
        the spoilt ids (R, L) int64 and the chosen places (R, L) bool.

    Source: Devlin et al. 2019, section 3.1; ratio in the LANISTR paper, Table 5.
    """
    shape, device = token_ids_RL.shape, token_ids_RL.device
    chosen_RL = _uniform(shape, generator).to(device) < ratio
    chosen_RL &= maskable_RL
    fate_RL = _uniform(shape, generator).to(device)
    words_RL = torch.randint(vocab_size, shape, generator=generator, device=generator.device)
    spoilt_RL = torch.where(fate_RL < 0.9, words_RL.to(device), token_ids_RL)
    spoilt_RL = torch.where(fate_RL < 0.8, mask_id, spoilt_RL)
    return torch.where(chosen_RL, spoilt_RL, token_ids_RL), chosen_RL


def draw_patches(rows: int, patches: int, *, ratio: float, generator: Generator) -> Tensor:
    """Return (R, P) bool, True for hidden: exactly round(ratio * P) patches of every picture.

    Source: Xie et al. 2022 (SimMIM), section 3.2; ratio in the LANISTR paper, Table 5.
    """
    # Sorting noise gives a random permutation of the patches' numbers.
    order_RP = _uniform((rows, patches), generator).argsort(dim=1)
    return order_RP < round(ratio * patches)


def draw_columns(rows: int, columns: int, *, ratio: float, generator: Generator) -> Tensor:
    """Return (R, K) bool, True for hidden: each column of each row by itself.

    Source: Arik and Pfister 2021 (TabNet), section "Tabular self-supervised learning".
    """
    return _uniform((rows, columns), generator) < ratio


def draw_runs(
    rows: int,
    steps: int,
    variables: int,
    *,
    ratio: float,
    mean_run: float,
    generator: Generator,
) -> Tensor:
    """Return (R, T, G) bool, True for hidden: runs of geometric length, by row and variable.

    Hidden runs have mean `mean_run`, visible ones `mean_run * (1 - ratio) / ratio`; a series
    starts anywhere in such a sequence of runs, so that a share `ratio` is hidden at every step.

    Source: Zerveas et al. 2021, section 3.2 ("geometric" masking).
    """
    # A two-state Markov chain driven by one uniform number a step. A number below `enter` hides
    # and one above `stay` shows whatever came before; any other repeats the last state. So the
    # state at a step is that of the last decisive number, which a running maximum finds.
    stay, enter = run_probabilities(ratio, mean_run)
    number_RTG = _uniform((rows, steps, variables), generator)
    hides_RTG = number_RTG < enter
    decides_RTG = hides_RTG | (number_RTG >= stay)
    hides_RTG[:, :1] = number_RTG[:, :1] < ratio
    decides_RTG[:, :1] = True
    step_T = torch.arange(steps, device=generator.device)
    last_RTG = (decides_RTG * step_T[:, None]).cummax(dim=1).values
    return hides_RTG.gather(1, last_RTG)


def run_probabilities(ratio: float, mean_run: float) -> tuple[float, float]:
    """Return the probabilities that a hidden step follows a hidden one, and a visible one."""
    return 1 - 1 / mean_run, ratio / (1 - ratio) / mean_run


def draw_modalities(presence_BM: Tensor, *, ratio: float, generator: Generator) -> Tensor:
    """Hide each modality that is present with chance `ratio`, but never all of a case.

    Args:
        presence_BM: (B, M) bool, which case brings which modality.
        ratio: chance of being hidden.
        generator: where the draws come from.

    Returns:
        (B, M) bool, True for what is present and kept.
    """
    draws_BM = _uniform(presence_BM.shape, generator).to(presence_BM.device)
    draws_BM = torch.where(presence_BM, draws_BM, -1.0)
    luckiest_BM = draws_BM == draws_BM.amax(dim=1, keepdim=True)
    return presence_BM & ((draws_BM >= ratio) | luckiest_BM)


def draw_others(alike_BB: Tensor, *, generator: Generator) -> Tensor:
    """Draw another case for each: the more alike, the sooner, and never the case itself.

    Args:
        alike_BB: logits; another case is drawn by the softmax of those of all others.
        generator: where the draws come from.

    Returns:
        (B,) int64.

    Source: Li et al. 2021 (ALBEF), section 3.2 (hard negatives).
    """
    # The largest of logits with Gumbel noise: a softmax may say 0 of all others.
    draws_BB = _uniform((len(alike_BB), len(alike_BB)), generator).to(alike_BB.device)
    noise_BB = -(-draws_BB.clamp(min=1e-20).log()).clamp(min=1e-20).log()
    own_BB = torch.eye(len(alike_BB), dtype=torch.bool, device=alike_BB.device)
    return (alike_BB + noise_BB).masked_fill(own_BB, -torch.inf).argmax(dim=1)


def _uniform(shape: tuple[int, ...], generator: Generator) -> Tensor:
    """Draw numbers from [0, 1) on the generator's device."""
    return torch.rand(shape, generator=generator, device=generator.device)
