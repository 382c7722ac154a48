"""ALBEF's fusion against the library's BERT, and what it makes of cases that lack something."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import BertConfig, BertForPreTraining, BertModel

from lanistr.batch import Features, collate
from lanistr.errors import ConfigError
from lanistr.modalities import Modality
from lanistr.model.config import LanistrConfig
from lanistr.model.hub import InitialWeights, load_initial
from lanistr.model.image import ImageConfig
from lanistr.model.lanistr import Lanistr, count_parameters
from lanistr.model.pretraining import for_pretraining
from lanistr.model.tensors import TensorBatch, to_tensors
from lanistr.model.text import TextConfig
from tests.published import write_bert

BOTH = (Modality.TEXT, Modality.IMAGE)
SUBSETS = ((), (Modality.TEXT,), (Modality.IMAGE,), BOTH)
MakeBatch = Callable[..., TensorBatch]
MakeRows = Callable[..., tuple[dict[str, object], ...]]


def albef(config: LanistrConfig, layers: int = 2, **image: object) -> LanistrConfig:
    """The sizes of a config, for ALBEF."""
    assert config.text is not None
    assert config.image is not None
    text = config.text.model_dump() | {"tokens": "all", "layers": layers, "lent": 0.5}
    return LanistrConfig.model_validate(
        {
            "text": text,
            "image": config.image.model_dump() | image,
            "fusion": {"kind": "albef", "space": 8, "queue": 6},
            "head": config.head,
        }
    )


@pytest.fixture
def model(finetuning: LanistrConfig) -> Lanistr:
    return Lanistr(albef(finetuning, layers=4)).eval()


def fused(model: Lanistr, batch: TensorBatch) -> Tensor:
    """What fusion gathers of each case, before it is normalised."""
    return model.fusion.gather(*model.assemble(batch, model.encode(batch.parts)))


# ---- against the library ------------------------------------------------------------------------


def test_started_from_a_bert_it_says_of_notes_alone_what_all_layers_of_that_bert_do(
    finetuning: LanistrConfig, make_batch: MakeBatch, tmp_path: Path
) -> None:
    bert: BertForPreTraining = write_bert(tmp_path, num_hidden_layers=4)
    model = Lanistr(albef(finetuning, layers=4)).eval()
    before = {n: each.clone() for n, each in model.fusion.named_parameters()}
    report = load_initial(model, InitialWeights(text=str(tmp_path)))
    assert "encoders.text.bert" in report.loaded
    for name, each in model.fusion.named_parameters():
        assert torch.equal(each, before[name]) == ("crossattention" in name), name
    batch = make_batch([Modality.TEXT], [Modality.TEXT], BOTH)
    notes = batch.parts[Modality.TEXT].arrays
    with torch.no_grad():
        whole = bert.bert(notes["token_ids"], attention_mask=notes["attention_mask"])
        found = fused(model, batch)
    cls = whole.last_hidden_state[:, 0]
    torch.testing.assert_close(found[:2], cls[:2], rtol=1e-4, atol=1e-5)
    assert (found[2] - cls[2]).abs().max() > 1e-2  # the picture has its say


def test_a_note_with_a_picture_is_fused_as_by_the_library_with_a_second_attention(
    model: Lanistr, make_batch: MakeBatch
) -> None:
    assert model.config.text is not None
    bert = BertModel(
        BertConfig(
            vocab_size=1, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
            intermediate_size=32, is_decoder=True, add_cross_attention=True,
        ),
        add_pooling_layer=False,
    ).eval()  # fmt: skip
    bert.encoder.layer.load_state_dict(model.fusion.layers.state_dict())
    batch = make_batch(BOTH, BOTH, BOTH)
    words, pictures = (model.encoders[m](**batch.parts[m].arrays) for m in BOTH)
    there = batch.parts[Modality.TEXT].arrays["attention_mask"].bool()
    hidden = words
    for layer in bert.encoder.layer:
        mask = torch.where(there, 0.0, torch.finfo(torch.float32).min)[:, None, None, :]
        hidden = layer(hidden, attention_mask=mask, encoder_hidden_states=pictures)
    torch.testing.assert_close(fused(model, batch), hidden[:, 0], rtol=1e-4, atol=1e-5)


# ---- what a case brings -------------------------------------------------------------------------


def test_a_case_is_judged_alike_alone_and_beside_cases_with_other_modalities(
    model: Lanistr, make_batch: MakeBatch
) -> None:
    together = model(make_batch(*SUBSETS))
    for place, subset in enumerate(SUBSETS):
        alone = model(make_batch(subset, first=place))
        torch.testing.assert_close(together.logits[place], alone.logits[0])
        torch.testing.assert_close(together.embedding[place], alone.embedding[0])
    assert len({round(each, 5) for each in together.logits[:, 0].tolist()}) == len(SUBSETS)
    assert together.logits.isfinite().all()


def test_of_a_picture_alone_every_weight_of_its_way_learns(
    model: Lanistr, make_batch: MakeBatch
) -> None:
    model.train()
    model(make_batch([Modality.IMAGE], [Modality.IMAGE])).logits.sum().backward()
    for part in ("encoders.image", "fusion", "head"):
        for name, each in model.get_submodule(part).named_parameters():
            if "mask_token" not in name:
                assert each.grad is not None, name
                assert each.grad.isfinite().all(), name
    first = model.fusion.layers[0].crossattention.self
    assert first.value.weight.grad.abs().sum() > 0


def test_several_notes_speak_together_whatever_their_order_and_several_pictures_as_their_mean(
    model: Lanistr, make_rows: MakeRows
) -> None:
    one, other = make_rows(Modality.TEXT, 0, 2)
    seen, again = make_rows(Modality.IMAGE, 0, 2)
    cases = [
        ((one, other), (seen,)),
        ((other, one), (seen,)),
        ((one,), (seen,)),
        ((one,), (seen, again)),
        ((one,), (again, seen)),
        ((one,), (seen, seen)),
    ]
    features = [Features({Modality.TEXT: t, Modality.IMAGE: i}) for t, i in cases]
    together = model(to_tensors(collate(features))).logits
    torch.testing.assert_close(together[0], together[1])
    torch.testing.assert_close(together[3], together[4])
    torch.testing.assert_close(together[2], together[5])
    for place in (0, 3):
        assert (together[place] - together[2]).abs().max() > 1e-6


def test_a_picture_of_another_width_is_brought_to_that_of_words(
    finetuning: LanistrConfig, make_batch: MakeBatch
) -> None:
    model = Lanistr(albef(finetuning, width=12)).eval()
    assert count_parameters(model)["projections.image"] == 12 * 16 + 16
    assert count_parameters(model)["projections.text"] == 0
    assert model(make_batch(BOTH)).embedding.shape == (1, 16)


# ---- sizes --------------------------------------------------------------------------------------


def test_albef_has_the_published_sizes() -> None:
    config = LanistrConfig.model_validate(
        {
            "text": TextConfig(tokens="all", lent=0.5),
            "image": ImageConfig(),
            "fusion": {"kind": "albef"},
        }
    )
    with torch.device("meta"):
        counts = count_parameters(for_pretraining(config))
        assert Lanistr(config).fusion.gathered == 768
    layer, attention = 7_087_872, 2_363_904  # of BERT-base; an attention with its norm
    assert counts["core.encoders.text"] == 108_891_648 - 6 * layer
    assert counts["core.fusion"] == 6 * (layer + attention)
    pooler, mask_token = 590_592, 768
    bert = counts["core.encoders.text"] + counts["core.fusion"] + pooler
    assert round(bert / 1e6, 1) == 123.7  # as the paper has BERT with its second attentions
    assert round((counts["core.encoders.image"] - mask_token) / 1e6, 1) == 85.8
    assert counts["spaces.text"] == counts["spaces.image"] == 768 * 256 + 256
    assert counts["matching"] == 768 * 2 + 2
    assert counts["slow"] == 0  # what follows is no parameter


# ---- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"image": None}, "ALBEF fuses text and image, but this model has text"),
        ({"tabular": {"numbers": 3}}, "but this model has text, image, tabular"),
        ({"text": {"lent": 0.0}}, r"text\.lent"),
        ({"text": {"tokens": "cls"}}, r"text\.tokens=all"),
        ({"text": {"layers": 1}}, "lent=0.5 of 1 layers is none or all"),
        ({"fusion": {"kind": "transformer", "width": 16, "heads": 2}}, r"text\.lent must be 0"),
        ({"fusion": {"kind": "albef", "layers": 2}}, "one of kind, momentum"),
    ],
)
def test_what_cannot_be_is_refused_and_says_why(
    changes: dict[str, dict[str, object] | None], said: str, finetuning: LanistrConfig
) -> None:
    sizes = albef(finetuning).model_dump()
    for part, change in changes.items():
        keeps = change is not None and "kind" not in change
        sizes[part] = {**(sizes[part] or {}), **(change or {})} if keeps else change
    with pytest.raises(ConfigError, match=said):
        LanistrConfig.parse(sizes, ConfigError, "recipe", within=("model",))
