import pytest
import torch
from torch import Generator, Tensor

from lanistr.model import masking


def run_lengths(series: Tensor) -> tuple[list[int], list[int]]:
    """Lengths of the hidden and the visible runs of a series, without those cut by its ends."""
    changes = (series[1:] != series[:-1]).nonzero().flatten() + 1
    lengths = changes.diff().tolist()
    starts_hidden = bool(series[changes[0]])
    return lengths[0 if starts_hidden else 1 :: 2], lengths[1 if starts_hidden else 0 :: 2]


def test_hidden_runs_are_geometric_with_the_asked_mean_and_share(generator: Generator) -> None:
    hidden = masking.draw_runs(4, 50_000, 2, ratio=0.15, mean_run=3.0, generator=generator)
    assert hidden.float().mean().item() == pytest.approx(0.15, abs=0.005)
    runs = [run_lengths(hidden[row, :, group]) for row in range(4) for group in range(2)]
    masked = torch.tensor([length for run, _ in runs for length in run], dtype=torch.float)
    visible = torch.tensor([length for _, run in runs for length in run], dtype=torch.float)
    assert masked.mean().item() == pytest.approx(3.0, rel=0.03)
    assert visible.mean().item() == pytest.approx(17.0, rel=0.05)
    # Geometric: a run of mean 3 ends at every step with probability 1/3.
    assert (masked == 1).float().mean().item() == pytest.approx(1 / 3, abs=0.02)
    assert (masked == 2).float().mean().item() == pytest.approx(2 / 9, abs=0.02)


def test_every_step_of_a_short_series_is_hidden_equally_often(generator: Generator) -> None:
    hidden = masking.draw_runs(20_000, 48, 1, ratio=0.15, mean_run=3.0, generator=generator)
    by_step = hidden.float().mean(dim=(0, 2))
    assert (by_step - 0.15).abs().max() < 0.012


def test_variables_are_hidden_independently(generator: Generator) -> None:
    hidden = masking.draw_runs(2_000, 48, 2, ratio=0.15, mean_run=3.0, generator=generator)
    both = (hidden[..., 0] & hidden[..., 1]).float().mean().item()
    assert both == pytest.approx(0.15**2, abs=0.003)


def test_a_ratio_of_zero_hides_no_step(generator: Generator) -> None:
    assert not masking.draw_runs(9, 48, 3, ratio=0.0, mean_run=3.0, generator=generator).any()


@pytest.mark.parametrize(("ratio", "count"), [(0.0, 0), (0.5, 98), (0.6, 118), (1.0, 196)])
def test_every_picture_hides_exactly_its_share_of_patches(
    generator: Generator, ratio: float, count: int
) -> None:
    hidden = masking.draw_patches(50, 196, ratio=ratio, generator=generator)
    assert (hidden.sum(dim=1) == count).all()


def test_every_patch_is_hidden_equally_often(generator: Generator) -> None:
    hidden = masking.draw_patches(20_000, 16, ratio=0.5, generator=generator)
    assert (hidden.float().mean(dim=0) - 0.5).abs().max() < 0.02


def test_columns_are_hidden_at_the_asked_share_row_by_row(generator: Generator) -> None:
    hidden = masking.draw_columns(20_000, 6, ratio=0.15, generator=generator)
    assert (hidden.float().mean(dim=0) - 0.15).abs().max() < 0.012
    assert hidden.unique(dim=0).shape[0] > 40


def test_tokens_are_chosen_only_where_allowed_and_spoilt_in_80_10_10(generator: Generator) -> None:
    ids = torch.randint(5, 10_000, (400, 100))
    allowed = torch.rand(400, 100) < 0.7
    spoilt, chosen = masking.draw_tokens(
        ids, allowed, ratio=0.15, mask_id=4, vocab_size=10_000, generator=generator
    )
    assert not (chosen & ~allowed).any()
    assert chosen[allowed].float().mean().item() == pytest.approx(0.15, abs=0.01)
    assert (spoilt == ids)[~chosen].all()
    masked, kept = (spoilt == 4)[chosen].float().mean(), (spoilt == ids)[chosen].float().mean()
    assert masked.item() == pytest.approx(0.8, abs=0.02)
    assert kept.item() == pytest.approx(0.1, abs=0.02)


def test_the_same_generator_state_draws_the_same_masks() -> None:
    first, second = (
        masking.draw_runs(
            3, 48, 4, ratio=0.15, mean_run=3.0, generator=Generator().manual_seed(seed)
        )
        for seed in (7, 7)
    )
    assert torch.equal(first, second)


def test_modalities_are_hidden_by_chance_but_never_all_of_a_case(generator: Generator) -> None:
    presence = torch.rand(20_000, 4, generator=generator) < 0.7
    kept = masking.draw_modalities(presence, ratio=0.5, generator=generator)
    assert not (kept & ~presence).any()
    assert (kept.any(dim=1) == presence.any(dim=1)).all()
    complete = presence.all(dim=1)
    # One of four stays even when all four draws say hide: 1/2 + 1/4 * 1/16.
    assert kept[complete].float().mean().item() == pytest.approx(0.5 + 1 / 64, abs=0.01)


def test_a_ratio_of_zero_hides_no_modality(generator: Generator) -> None:
    presence = torch.rand(50, 4, generator=generator) < 0.7
    assert (masking.draw_modalities(presence, ratio=0.0, generator=generator) == presence).all()
