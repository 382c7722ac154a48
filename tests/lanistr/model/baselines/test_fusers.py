"""What joins the modalities in the baselines: told apart by nothing but what a case brings."""

from collections.abc import Callable
from itertools import combinations

import pytest
import torch
from torch import nn
from torch.nn import functional

from lanistr.batch import Features, collate
from lanistr.errors import ConfigError
from lanistr.modalities import Modality
from lanistr.model.baselines.autogluon import embedding_width
from lanistr.model.baselines.medfuse import ResNetConfig, ResNetEncoder
from lanistr.model.config import LanistrConfig
from lanistr.model.heads import HeadConfig
from lanistr.model.image import ImageConfig
from lanistr.model.lanistr import Lanistr, count_parameters
from lanistr.model.pretraining import LanistrForPretraining
from lanistr.model.tensors import TensorBatch, to_tensors
from lanistr.model.text import TextConfig

KINDS = ("late-fusion", "autogluon-mlp", "autogluon-transformer", "medfuse")
SUBSETS = [tuple(s) for size in (0, 1, 2, 4) for s in combinations(Modality, size)]
MakeBatch = Callable[..., TensorBatch]

TRANSFORMER = {"kind": "autogluon-transformer"}
COLUMNS = {"kind": "columns", "numbers": 3, "categories": (5, 7)}


def of_kind(kind: str, finetuning: LanistrConfig, **parts: object) -> Lanistr:
    sizes = finetuning.model_dump() | {"fusion": {"kind": kind}} | parts
    return Lanistr(LanistrConfig.model_validate(sizes)).eval()


@pytest.mark.parametrize("tabular", [{}, {"tabular": COLUMNS}], ids=["tabnet", "columns"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_case_is_judged_alike_alone_and_beside_cases_with_other_modalities(
    kind: str, tabular: dict[str, object], finetuning: LanistrConfig, make_batch: MakeBatch
) -> None:
    model = of_kind(kind, finetuning, **tabular)
    together = model(make_batch(*SUBSETS))
    for place, subset in enumerate(SUBSETS):
        alone = model(make_batch(subset, first=place))
        torch.testing.assert_close(together.logits[place], alone.logits[0])
        torch.testing.assert_close(together.embedding[place], alone.embedding[0])
    assert len({round(each, 5) for each in together.logits[:, 0].tolist()}) == len(SUBSETS)


@pytest.mark.parametrize("kind", KINDS)
def test_several_notes_of_a_case_count_as_their_mean(
    kind: str,
    finetuning: LanistrConfig,
    make_rows: Callable[..., tuple[dict[str, object], ...]],
) -> None:
    model = of_kind(kind, finetuning)
    one, other = make_rows(Modality.TEXT, 0, 2)
    cases = [Features({Modality.TEXT: rows}) for rows in ((one, other), (one, one), (one,))]
    both, twice, once = model(to_tensors(collate(cases))).logits
    torch.testing.assert_close(twice, once)
    assert (both - once).abs().max() > 1e-6


def test_late_fusion_is_a_layer_over_the_pooled_vectors_one_after_another(
    finetuning: LanistrConfig, make_batch: MakeBatch
) -> None:
    model = of_kind("late-fusion", finetuning)
    brought = (Modality.IMAGE, Modality.TIMESERIES)
    batch = make_batch(brought)
    tokens = {m: model.encoders[m](**part.arrays) for m, part in batch.parts.items()}
    picture, series = tokens[Modality.IMAGE][:, 0], tokens[Modality.TIMESERIES].mean(dim=1)
    nothing = torch.zeros(1, 16)  # as wide as the widest encoder
    side_by_side = torch.cat(
        [
            nothing,
            model.projections["image"].maps[0](picture),
            nothing,
            model.projections["timeseries"].maps[0](series),
        ],
        dim=1,
    )
    expected = functional.normalize(model.fusion.layer(side_by_side), dim=-1)
    torch.testing.assert_close(model(batch).embedding, expected)


def test_medfuse_takes_the_series_first_and_as_many_steps_as_there_are_vectors(
    finetuning: LanistrConfig, make_batch: MakeBatch
) -> None:
    parts = {"image": {"kind": "resnet", "size": 16, "layers": (1, 1, 1, 1)}}
    parts |= {"timeseries": {"kind": "lstm", "features": 8, "steps": 10, "width": 24}}
    model = of_kind("medfuse", finetuning, **parts, fusion={"kind": "medfuse", "width": 24})
    lstm = nn.LSTM(24, 512, batch_first=True)  # torch's own, with the weights of ours
    weights = model.fusion.cell.state_dict()
    lstm.load_state_dict({f"{name}_l0": each for name, each in weights.items()})
    batch = make_batch([Modality.IMAGE, Modality.TIMESERIES], [Modality.TIMESERIES])
    series = model.encoders["timeseries"](**batch.parts[Modality.TIMESERIES].arrays)
    picture = model.projections["image"](
        model.encoders["image"](**batch.parts[Modality.IMAGE].arrays)
    )[..., :24]
    for place, steps in enumerate((torch.cat([series[:1], picture], dim=1), series[1:])):
        _, (state, _) = lstm(steps)
        expected = functional.normalize(state[0, 0], dim=-1)
        torch.testing.assert_close(model(batch).embedding[place], expected)


def test_what_cannot_be_is_refused_by_the_name_of_its_setting(finetuning: LanistrConfig) -> None:
    with pytest.raises(ConfigError, match=r"model\.fusion\.heads.*seen 3"):
        of_kind("autogluon-transformer", finetuning, fusion={**TRANSFORMER, "heads": 3})
    for part, kind in (("fusion", {"kind": "late-fusion"}), ("tabular", COLUMNS)):
        sizes = finetuning.model_dump() | {"head": None, part: kind}
        with pytest.raises(ConfigError, match=rf"model\.{part}\.kind"):
            LanistrForPretraining(LanistrConfig.model_validate(sizes))
    with pytest.raises(ConfigError, match=r"recipe\.fusion\.kind.*did you mean 'late-fusion'"):
        LanistrConfig.parse(
            finetuning.model_dump() | {"fusion": {"kind": "late_fusion"}},
            ConfigError,
            "recipe",
            within=("recipe",),
        )
    with pytest.raises(ConfigError, match=r"^fusion\.heads: .*one of hidden, kind, width"):
        LanistrConfig.parse(
            finetuning.model_dump() | {"fusion": {"kind": "late-fusion", "heads": 2}},
            ConfigError,
            "recipe",
        )


@pytest.mark.parametrize("kind", ["late-fusion", "autogluon-mlp"])
def test_heads_of_single_modalities_speak_of_their_rows_while_the_model_learns(
    kind: str, finetuning: LanistrConfig, make_batch: MakeBatch
) -> None:
    model = of_kind(kind, finetuning, unimodal=True, tabular=COLUMNS)
    batch = make_batch(tuple(Modality), [Modality.TEXT], [Modality.TABULAR])
    assert model(batch).unimodal == {}
    said = model.train()(batch).unimodal
    assert {name: tuple(each.shape) for name, each in said.items()} == {
        "text": (2, 2),
        "image": (1, 2),
        "tabular_0": (2, 2),
        "tabular_1": (2, 2),
        "timeseries": (1, 2),
    }


# ---- published sizes ----------------------------------------------------------------------------

CATEGORIES = (11, 222, 3333, 44)
WIDTHS = (6, 32, 100, 13)  # of their embeddings


def test_embeddings_of_categories_are_as_long_as_autogluons() -> None:
    assert tuple(map(embedding_width, CATEGORIES)) == WIDTHS
    assert (embedding_width(1), embedding_width(10**6)) == (2, 100)


def layer(width_in: int, width_out: int) -> int:
    return width_in * width_out + width_out


def unit(width_in: int, width_out: int) -> int:
    return 2 * width_in + layer(width_in, width_out)


TABLE = (
    sum(codes * width for codes, width in zip(CATEGORIES, WIDTHS, strict=True))
    + sum(unit(width, 64) for width in WIDTHS)
    + unit(4 * 64, 4 * 64)
    + layer(4 * 64, 64)
    + unit(2, 128)
)
ADAPTERS = {"text": 590_592, "image": 590_592, "tabular": layer(64, 768) + layer(128, 768)}
BLOCK = 4 * layer(768, 768) + layer(768, 2 * 192) + layer(192, 768) + 2 * 768


@pytest.mark.parametrize(
    ("kind", "fusion", "head"),
    [
        ("autogluon-mlp", unit(4 * 768, 128), layer(128, 5)),
        ("autogluon-transformer", 3 * BLOCK + 2 * 2 * 768 + 768 + 2 * 768, layer(768, 5)),
    ],
)
def test_autogluon_has_the_published_sizes(kind: str, fusion: int, head: int) -> None:
    config = LanistrConfig.model_validate(
        {
            "text": TextConfig(),
            "image": ImageConfig(),
            "tabular": {"kind": "columns", "numbers": 2, "categories": CATEGORIES},
            "fusion": {"kind": kind},
            "head": HeadConfig(kind="classes", outputs=5, layers=0),
        }
    )
    with torch.device("meta"):
        counts = count_parameters(Lanistr(config))
    assert counts["encoders.tabular"] == TABLE
    assert {m: counts[f"projections.{m}"] for m in ADAPTERS} == ADAPTERS
    assert (counts["fusion"], counts["head"]) == (fusion, head)


def test_medfuse_has_the_published_sizes() -> None:
    config = LanistrConfig.model_validate(
        {
            "image": {"kind": "resnet"},
            "timeseries": {"kind": "lstm", "features": 76, "steps": 48},
            "fusion": {"kind": "medfuse"},
            "head": HeadConfig(kind="regression", outputs=1, layers=0),  # one output, as published
        }
    )
    with torch.device("meta"):
        counts = count_parameters(Lanistr(config))
    assert counts == {
        "encoders.image": 21_284_672,
        "encoders.timeseries": 868_352,
        "projections.image": 131_328,
        "projections.timeseries": 0,
        "fusion": 1_576_960,
        "head": 513,
    }


def test_an_empty_picture_for_company_leaves_what_was_learned_of_pictures() -> None:
    encoder = ResNetEncoder(ResNetConfig(kind="resnet", size=32, layers=(1, 1, 1, 1))).train()
    before = {name: each.clone() for name, each in encoder.named_buffers()}
    encoder(**encoder.example(1)).sum().backward()
    for name, each in encoder.named_buffers():
        torch.testing.assert_close(each, before[name], rtol=0, atol=0)
    assert all(each.grad is not None for each in encoder.parameters())
    encoder(**encoder.drawn(2, torch.Generator()))
    assert any(not torch.equal(each, before[name]) for name, each in encoder.named_buffers())
