import math

import pytest
import torch
from torch import Generator, Tensor

from lanistr.modalities import Modality
from lanistr.model.config import LanistrConfig
from lanistr.model.tensors import TensorBatch
from lanistr.model.timeseries import TimeseriesConfig, TimeseriesEncoder, TimeseriesPretext


def config_of(pretraining: LanistrConfig, **changes: object) -> TimeseriesConfig:
    assert pretraining.timeseries is not None
    return pretraining.timeseries.model_copy(update=changes)


def hidden_values(config: TimeseriesConfig, generator: Generator) -> Tensor:
    """What the encoder gets to see of a series of ones."""
    encoder, pretext = TimeseriesEncoder(config), TimeseriesPretext(config)
    seen: list[Tensor] = []
    encoder.project_inp.register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0]))
    pretext(encoder, {"values": torch.ones(200, config.steps, config.features)}, generator)
    return seen[0] == 0


def test_the_columns_of_a_variable_are_hidden_together_and_indicators_never(
    pretraining: LanistrConfig, generator: Generator
) -> None:
    hidden = hidden_values(config_of(pretraining), generator)
    assert hidden[..., :5].float().mean(dim=(0, 1)).min() > 0.1
    assert torch.equal(hidden[..., 2], hidden[..., 3])
    assert torch.equal(hidden[..., 2], hidden[..., 4])
    assert not torch.equal(hidden[..., 0], hidden[..., 1])
    assert not hidden[..., 5:].any()


def test_the_loss_looks_at_hidden_entries_alone(
    pretraining: LanistrConfig, generator: Generator
) -> None:
    """An output layer that says 3 of everything is off by 2 where 1 was hidden."""
    config = config_of(pretraining)
    encoder, pretext = TimeseriesEncoder(config), TimeseriesPretext(config)
    torch.nn.init.zeros_(encoder.output_layer.weight)
    torch.nn.init.constant_(encoder.output_layer.bias, 3.0)
    values = torch.ones(20, config.steps, config.features)
    values[..., 5:] = 1000.0
    loss, tokens = pretext(encoder, {"values": values}, generator)
    assert loss.item() == 4
    assert tokens.shape == (20, config.steps, config.width)


@pytest.mark.parametrize("changes", [{"mask_ratio": 0.0}, {"groups": ()}])
def test_a_batch_without_hidden_steps_costs_nothing(
    pretraining: LanistrConfig,
    full_batch: TensorBatch,
    generator: Generator,
    changes: dict[str, object],
) -> None:
    config = config_of(pretraining, **changes)
    encoder, pretext = TimeseriesEncoder(config), TimeseriesPretext(config)
    loss, _ = pretext(encoder, full_batch.parts[Modality.TIMESERIES].arrays, generator)
    assert loss.item() == 0
    loss.backward()


def test_layers_start_from_weights_of_their_own(pretraining: LanistrConfig) -> None:
    """torch's stack of layers is made of copies, all of which start alike."""
    first, second = TimeseriesEncoder(config_of(pretraining)).layers
    assert not torch.equal(first.linear1.weight, second.linear1.weight)


def test_steps_are_told_apart_by_their_position(pretraining: LanistrConfig) -> None:
    encoder = TimeseriesEncoder(config_of(pretraining)).eval()
    tokens = encoder(torch.ones(1, 10, 8))
    assert not torch.allclose(tokens[0, 0], tokens[0, 1])


@pytest.mark.parametrize(
    ("groups", "message"),
    [(((0,), (0, 1)), "two groups"), (((0,), (8,)), "outside 0 to 7")],
)
def test_groups_that_do_not_fit_the_columns_are_refused(
    groups: tuple[tuple[int, ...], ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        TimeseriesConfig(features=8, steps=10, groups=groups)


def test_runs_too_short_for_their_share_are_refused() -> None:
    with pytest.raises(ValueError, match="too short"):
        TimeseriesConfig(features=8, steps=10, groups=(), mask_ratio=0.8, mask_run=2.0)


# ---- summaries ----------------------------------------------------------------------------------


def test_a_series_is_summed_up_by_what_was_measured_alone() -> None:
    config = TimeseriesConfig(
        features=5, steps=4, groups=((0,), (1, 2)), measured=(4, 3), width=8, heads=2
    )
    pretext = TimeseriesPretext(config)
    values = torch.tensor(
        [
            # one number, two columns of a category, flags of the category and of the number
            [9.0, 1, 0, 1, 0],
            [3.0, 1, 0, 0, 1],
            [5.0, 0, 1, 1, 1],
            [5.0, 0, 1, 0, 0],
        ]
    )
    never = torch.zeros(4, 5)
    figures, known = pretext.summarise({"values": torch.stack([values, never])})
    assert figures.shape == known.shape == (2, pretext.summaries) == (2, 18)
    number, first, second = figures[0].reshape(3, 6)
    log3 = math.log(3)
    torch.testing.assert_close(number, torch.tensor([3, 5, 3, 5, 4, log3]))  # not the 9 of before
    torch.testing.assert_close(first, torch.tensor([1, 0, 0, 1, 0.5, log3]))
    torch.testing.assert_close(second, torch.tensor([0, 1, 0, 1, 0.5, log3]))
    assert known[0].all()
    assert known[1].reshape(3, 6).tolist() == [[False] * 5 + [True]] * 3
    assert figures[1].eq(0).all()


@pytest.mark.parametrize("measured", [(4,), (4, 5), (-1, 3)])
def test_flags_that_fit_no_columns_are_refused(measured: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"measured names|of measured"):
        TimeseriesConfig(features=5, steps=4, groups=((0,), (1, 2)), measured=measured)


def test_without_flags_nothing_is_summed_up() -> None:
    config = TimeseriesConfig(features=5, steps=4, groups=((0,), (1, 2)), width=8, heads=2)
    assert TimeseriesPretext(config).summaries == 0
