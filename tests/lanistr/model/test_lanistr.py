from collections.abc import Callable
from itertools import combinations

import pytest
import torch
from torch import nn

from lanistr.batch import Arrays, Features, collate
from lanistr.errors import ConfigError
from lanistr.modalities import Modality
from lanistr.model.config import LanistrConfig
from lanistr.model.heads import HeadConfig
from lanistr.model.lanistr import Lanistr
from lanistr.model.tensors import TensorBatch, to_tensors

SUBSETS = [
    subset for size in range(1, 5) for subset in combinations(tuple(Modality), size)
]  # fifteen
MakeBatch = Callable[..., TensorBatch]
MakeRows = Callable[..., tuple[Arrays, ...]]


@pytest.fixture
def model(finetuning: LanistrConfig) -> Lanistr:
    return Lanistr(finetuning).eval()


@pytest.mark.parametrize("subset", SUBSETS, ids="+".join)
def test_a_case_is_judged_alike_alone_and_beside_cases_with_other_modalities(
    model: Lanistr, make_batch: MakeBatch, subset: tuple[Modality, ...]
) -> None:
    alone = model(make_batch(subset))
    beside = model(make_batch(subset, tuple(Modality), [], *[[each] for each in Modality]))
    assert alone.logits.shape == (1, 2)
    torch.testing.assert_close(beside.logits[:1], alone.logits)
    torch.testing.assert_close(beside.embedding[:1], alone.embedding)


def test_every_modality_that_is_added_changes_the_judgement(
    model: Lanistr, make_batch: MakeBatch
) -> None:
    cls = [model(make_batch(subset)).embedding[0] for subset in SUBSETS]
    for one, other in combinations(cls, 2):
        assert not torch.allclose(one, other, atol=1e-4)


def test_the_encoder_of_an_absent_modality_is_not_run(
    model: Lanistr, make_batch: MakeBatch
) -> None:
    rows: dict[str, int] = {}
    for name, encoder in model.encoders.items():
        encoder.register_forward_hook(
            lambda _m, _i, tokens, name=name: rows.update({name: len(tokens)})
        )
    model(make_batch([Modality.TEXT], [Modality.TEXT, Modality.TABULAR], []))
    assert rows == {"text": 2, "tabular": 1}


def test_tokens_stand_in_canonical_order_and_absent_ones_are_masked(
    model: Lanistr, make_batch: MakeBatch
) -> None:
    batch = make_batch(tuple(Modality), [Modality.IMAGE], [Modality.TEXT, Modality.TIMESERIES])
    projected = model.encode(batch.parts)
    tokens, mask = model.assemble(batch, dict(reversed(projected.items())))
    assert tokens.shape == (3, 1 + 17 + 1 + 10, 24)
    assert mask[0].all()
    assert mask[1].tolist() == [False] + [True] * 17 + [False] * 11
    assert mask[2].tolist() == [True] + [False] * 18 + [True] * 10
    assert not tokens[~mask].any()
    torch.testing.assert_close(tokens[2, 0], projected[Modality.TEXT][1, 0])
    torch.testing.assert_close(tokens[1, 1:18], projected[Modality.IMAGE][1])


def test_a_batch_in_which_nobody_brings_anything_is_still_judged(
    model: Lanistr, make_batch: MakeBatch
) -> None:
    output = model(make_batch([], []))
    assert output.logits.isfinite().all()
    torch.testing.assert_close(output.logits[0], output.logits[1])


def test_several_pictures_of_a_case_are_averaged_before_normalisation(
    model: Lanistr, make_rows: MakeRows
) -> None:
    two = Features({Modality.IMAGE: make_rows(Modality.IMAGE, 0, count=2)})
    one = Features({Modality.IMAGE: make_rows(Modality.IMAGE, 1)})
    batch = to_tensors(collate([one, two, one]))
    projected = model.encode(batch.parts)
    tokens, mask = model.assemble(batch, projected)
    assert mask.all()
    torch.testing.assert_close(tokens[1], projected[Modality.IMAGE][1:3].mean(dim=0))
    torch.testing.assert_close(tokens[2], projected[Modality.IMAGE][3])


def test_all_tokens_of_a_note_enter_fusion_and_its_padding_does_not(
    finetuning: LanistrConfig, make_batch: MakeBatch
) -> None:
    assert finetuning.text is not None
    text = finetuning.text.model_copy(update={"tokens": "all"})
    model = Lanistr(finetuning.model_copy(update={"text": text})).eval()
    batch = make_batch(*[[Modality.TEXT]] * 6)
    _, mask = model.assemble(batch, model.encode(batch.parts))
    assert torch.equal(mask.long(), batch.parts[Modality.TEXT].arrays["attention_mask"])
    together = model(batch)
    for case in range(6):
        alone = model(make_batch([Modality.TEXT], first=case))
        torch.testing.assert_close(alone.logits[0], together.logits[case])


def test_several_notes_of_which_fusion_sees_every_token_stand_side_by_side(
    finetuning: LanistrConfig, make_rows: MakeRows
) -> None:
    assert finetuning.text is not None
    text = finetuning.text.model_copy(update={"tokens": "all"})
    model = Lanistr(finetuning.model_copy(update={"text": text})).eval()
    first, second, third = make_rows(Modality.TEXT, 0, count=3)
    cases = [Features({Modality.TEXT: rows}) for rows in ((first,), (second, third), ())]
    batch = to_tensors(collate(cases))
    projected = model.encode(batch.parts)
    tokens, mask = model.assemble(batch, projected)
    for case, rows in enumerate(([0], [1, 2], [])):
        part = batch.parts[Modality.TEXT]
        expected = [
            projected[Modality.TEXT][row, : int(part.arrays["attention_mask"][row].sum())]
            for row in rows
        ]
        torch.testing.assert_close(tokens[case][mask[case]], torch.cat([tokens[0, :0], *expected]))
    together = model(batch)
    for place, case in enumerate(cases):
        alone = model(to_tensors(collate([case])))
        torch.testing.assert_close(alone.logits[0], together.logits[place])


def test_tokens_encoded_before_give_the_same_answer(
    model: Lanistr, full_batch: TensorBatch
) -> None:
    encoded = {
        modality: model.encoders[modality](**part.arrays)
        for modality, part in full_batch.parts.items()
    }
    torch.testing.assert_close(model(full_batch, encoded).logits, model(full_batch).logits)


def test_each_encoder_gives_an_example_of_what_it_takes(model: Lanistr) -> None:
    for modality in model.config.modalities:
        encoder = model.encoder(modality)
        tokens = encoder(**encoder.example(3))
        assert tokens.shape[0::2] == (3, encoder.width), modality


def test_embeddings_have_length_one(model: Lanistr, full_batch: TensorBatch) -> None:
    torch.testing.assert_close(model(full_batch).embedding.norm(dim=1), torch.ones(8))


def test_frozen_encoders_stay_as_they_are_while_the_rest_is_trained(
    finetuning: LanistrConfig, full_batch: TensorBatch
) -> None:
    """The released code left frozen encoders in train mode: dropout on, batch norms drifting."""
    model = Lanistr(finetuning).freeze_encoders().train()
    assert not any(module.training for module in model.encoders.modules())
    for part in (model.projections, model.fusion, model.head):
        assert part is not None
        assert all(module.training for module in part.modules())
    before = {name: each.clone() for name, each in model.encoders.state_dict().items()}
    optimiser = torch.optim.AdamW(each for each in model.parameters() if each.requires_grad)
    for _ in range(3):
        optimiser.zero_grad()
        nn.functional.cross_entropy(
            model(full_batch).logits, torch.arange(8, dtype=torch.int64) % 2
        ).backward()
        optimiser.step()
    after = model.encoders.state_dict()
    assert all(torch.equal(each, after[name]) for name, each in before.items())
    projected = model.projections["text"][0].weight.grad
    assert projected is not None
    assert projected.any()


def test_every_modality_gets_a_gradient_when_all_is_trained(
    finetuning: LanistrConfig, full_batch: TensorBatch
) -> None:
    model = Lanistr(finetuning).eval()
    model(full_batch).logits.square().sum().backward()
    for encoder in model.encoders.values():
        grads = [each.grad for each in encoder.parameters() if each.grad is not None]
        assert sum(each.abs().sum() for each in grads) > 0


@pytest.mark.parametrize(
    ("kind", "outputs", "shape"),
    [("classes", 3, (8, 3)), ("ordinal", 5, (8, 5)), ("regression", 1, (8, 1))],
)
def test_each_kind_of_head_fits_the_model(
    pretraining: LanistrConfig,
    full_batch: TensorBatch,
    kind: str,
    outputs: int,
    shape: tuple[int, int],
) -> None:
    head = HeadConfig.model_validate({"kind": kind, "outputs": outputs})
    model = Lanistr(pretraining.model_copy(update={"head": head}))
    assert model(full_batch).logits.shape == shape


def test_a_model_of_one_modality_is_a_model(
    finetuning: LanistrConfig, make_batch: MakeBatch
) -> None:
    config = finetuning.model_copy(update={"text": None, "image": None, "timeseries": None})
    assert config.modalities == (Modality.TABULAR,)
    assert Lanistr(config)(make_batch([Modality.TABULAR], [])).logits.shape == (2, 2)


def test_a_config_survives_json_and_names_what_is_wrong(finetuning: LanistrConfig) -> None:
    assert LanistrConfig.model_validate_json(finetuning.model_dump_json()) == finetuning
    with pytest.raises(ConfigError, match="did you mean 'width'"):
        LanistrConfig.parse({"fusion": {"widht": 3}}, ConfigError, "recipe")
    with pytest.raises(ConfigError, match="at least one of text, image, tabular, timeseries"):
        LanistrConfig.parse({}, ConfigError, "recipe")


def test_losses_of_heads_are_named_by_words_that_print_as_such(finetuning: LanistrConfig) -> None:
    model = Lanistr(finetuning.model_copy(update={"unimodal": True}))
    names = [name for modality in model.unimodal for name in model.heads(modality)]
    assert repr(names) == repr([each.value for each in Modality])
