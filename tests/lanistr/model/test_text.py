from collections.abc import Callable

import torch
from torch import Generator

from lanistr.modalities import Modality
from lanistr.model.config import LanistrConfig
from lanistr.model.tensors import TensorBatch
from lanistr.model.text import TextConfig, TextEncoder, TextPretext


def config_of(pretraining: LanistrConfig, **changes: object) -> TextConfig:
    assert pretraining.text is not None
    return pretraining.text.model_copy(update=changes)


def test_padding_does_not_change_what_a_note_means(
    pretraining: LanistrConfig, make_batch: Callable[..., TensorBatch]
) -> None:
    encoder = TextEncoder(config_of(pretraining)).eval()
    together = make_batch(*[[Modality.TEXT]] * 6).parts[Modality.TEXT].arrays
    assert together["attention_mask"].min() == 0
    all_tokens = encoder(**together)
    for case in range(6):
        alone = make_batch([Modality.TEXT], first=case).parts[Modality.TEXT].arrays
        torch.testing.assert_close(encoder(**alone)[0], all_tokens[case])


def test_a_note_is_one_token_or_all_of_them(
    pretraining: LanistrConfig, full_batch: TensorBatch
) -> None:
    arrays = full_batch.parts[Modality.TEXT].arrays
    length = arrays["token_ids"].shape[1]
    one = TextEncoder(config_of(pretraining))
    assert one(**arrays).shape == (8, 1, 16)
    assert one.token_mask(**arrays) is None
    every = TextEncoder(config_of(pretraining, tokens="all"))
    assert every(**arrays).shape == (8, length, 16)
    mask = every.token_mask(**arrays)
    assert mask is not None
    assert torch.equal(mask.long(), arrays["attention_mask"])


def spy_on_vocabulary(pretext: TextPretext) -> list[int]:
    """Record how many places reach the vocabulary."""
    asked: list[int] = []
    pretext.decoder.register_forward_hook(lambda _m, inputs, _o: asked.append(len(inputs[0])))
    return asked


def test_only_hidden_words_reach_the_vocabulary(
    pretraining: LanistrConfig, full_batch: TensorBatch, generator: Generator
) -> None:
    arrays = full_batch.parts[Modality.TEXT].arrays
    config = config_of(pretraining, mask_ratio=1.0)
    pretext = TextPretext(config)
    asked = spy_on_vocabulary(pretext)
    pretext(TextEncoder(config), arrays, generator)
    # Everything but [CLS] and [SEP] of 8 notes.
    assert asked == [int(arrays["attention_mask"].sum()) - 2 * 8]


def test_mlm_positions_all_asks_for_every_token_but_padding(
    pretraining: LanistrConfig, full_batch: TensorBatch, generator: Generator
) -> None:
    arrays = full_batch.parts[Modality.TEXT].arrays
    config = config_of(pretraining, mlm_positions="all")
    pretext = TextPretext(config)
    asked = spy_on_vocabulary(pretext)
    pretext(TextEncoder(config), arrays, generator)
    assert asked == [int(arrays["attention_mask"].sum())]


def test_a_batch_without_hidden_words_costs_nothing(
    pretraining: LanistrConfig, full_batch: TensorBatch, generator: Generator
) -> None:
    config = config_of(pretraining, mask_ratio=0.0)
    encoder, pretext = TextEncoder(config), TextPretext(config)
    loss, tokens = pretext(encoder, full_batch.parts[Modality.TEXT].arrays, generator)
    assert loss.item() == 0
    loss.backward()
    assert tokens.isfinite().all()
