"""How ALBEF learns: the arithmetic against plain loops, and whether it learns what pairs."""

from collections.abc import Callable
from dataclasses import replace
from math import exp, log

import numpy as np
import pytest
import torch
from torch import Tensor

from lanistr.batch import Features, collate
from lanistr.modalities import Modality
from lanistr.model import losses, masking
from lanistr.model.baselines.albef import Albef, AlbefConfig, Sides
from lanistr.model.baselines.albef_pretraining import AlbefForPretraining, Queue
from lanistr.model.config import LanistrConfig
from lanistr.model.image import ImageConfig
from lanistr.model.tensors import TensorBatch, to_tensors
from lanistr.model.text import TextConfig

BOTH = (Modality.TEXT, Modality.IMAGE)
MakeBatch = Callable[..., TensorBatch]


@pytest.fixture
def model(pretraining: LanistrConfig) -> AlbefForPretraining:
    assert pretraining.text is not None
    config = LanistrConfig.model_validate(
        {
            "text": pretraining.text.model_dump() | {"tokens": "all", "lent": 0.5},
            "image": pretraining.image,
            "fusion": {"kind": "albef", "space": 8, "queue": 6},
        }
    )
    return AlbefForPretraining(config)


def numbered(batch: TensorBatch, first: int = 0) -> TensorBatch:
    return replace(batch, cases=torch.arange(first, first + batch.size))


def alone(fresh: object) -> list[object]:
    """What gathering is for one process."""
    return [fresh]


# ---- arithmetic ---------------------------------------------------------------------------------


def test_slow_weights_keep_a_share_of_what_they_were_and_start_as_the_weights_themselves(
    model: AlbefForPretraining,
) -> None:
    fast = {n: p for n, p in model.named_parameters() if n.split(".")[0] in ("core", "spaces")}
    with torch.no_grad():
        for each in fast.values():
            each.normal_()  # as if they had been loaded
    model.begin(0.0)
    slow = dict(model.slow.named_buffers())
    expected = {name: each.detach().clone() for name, each in fast.items()}
    for step in range(1, 4):
        for name, each in expected.items():
            assert torch.equal(each, slow[name]) or step > 1
        with torch.no_grad():
            for each in fast.values():
                each += torch.randn_like(each)
        model.begin(step / 2)
        for name, each in fast.items():
            expected[name] = 0.995 * expected[name] + 0.005 * each.detach()
            torch.testing.assert_close(slow[name], expected[name])
    assert not list(model.slow.parameters())


def test_the_share_of_what_slow_weights_say_rises_over_the_first_epoch(
    model: AlbefForPretraining,
) -> None:
    shares = []
    for epochs in (0.0, 0.25, 0.5, 1.0, 7.0):
        model.begin(epochs)
        shares.append(model.soft)
    assert shares == pytest.approx([0, 0.1, 0.2, 0.4, 0.4])


def test_the_temperature_is_brought_back_to_its_bounds(model: AlbefForPretraining) -> None:
    for found, kept in ((-1.0, 0.001), (0.2, 0.2), (3.0, 0.5)):
        with torch.no_grad():
            model.queue.temperature.fill_(found)
        model.begin(1.0)
        assert model.queue.temperature.item() == pytest.approx(kept)


@pytest.mark.parametrize("size", [0, 1, 5, 7])
def test_the_queue_holds_the_last_cases_in_any_portions(size: int) -> None:
    queue = Queue(AlbefConfig(kind="albef", queue=size, space=3))
    come: list[int] = []
    for coming in (2, 3, 1, 12, 4):
        cases = torch.arange(len(come), len(come) + coming)
        vectors = cases[:, None].float().expand(-1, 3)
        queue.push(vectors, -vectors, cases)
        come += cases.tolist()
        last = set(come[-size:] if size else [])
        assert set(queue.cases.tolist()) - {-1} == last
        assert queue.text[:, 0].tolist() == [max(0.0, each) for each in queue.cases.tolist()]
        assert torch.equal(queue.image, -queue.text)


def test_contrast_is_as_in_plain_loops(model: AlbefForPretraining, make_batch: MakeBatch) -> None:
    generator = torch.Generator().manual_seed(3)

    def vectors(count: int) -> Tensor:
        drawn = torch.randn(count, 8, generator=generator)
        return drawn / drawn.norm(dim=1, keepdim=True)

    fast, slow, waiting = (
        [vectors(3), vectors(3)],
        [vectors(3), vectors(3)],
        [vectors(4), vectors(4)],
    )
    model.queue.push(*waiting, torch.tensor([9, 1, 8, 7]))  # two places of six stay empty
    cases, soft, temperature = [0, 1, 2], 0.3, 0.07
    model.soft = soft
    by_text, by_image, loss = model.compare(fast, slow, torch.tensor(cases))
    total = 0.0
    for asking, asked in ((0, 1), (1, 0)):  # notes find pictures, pictures notes
        for b in range(3):
            held = [(slow[asked][k], k == b) for k in range(3)]
            held += [
                (waiting[asked][k], False)
                for k, other in enumerate([9, 1, 8, 7])
                if other != cases[b]
            ]
            alike = [float(fast[asking][b] @ vector) / temperature for vector, _ in held]
            slowly = [float(slow[asking][b] @ vector) / temperature for vector, _ in held]
            for k, (_, own) in enumerate(held):
                said = exp(slowly[k]) / sum(map(exp, slowly))
                target = (1 - soft) * own + soft * said
                total -= target * (alike[k] - log(sum(map(exp, alike)))) / 3 / 2
    assert loss.item() == pytest.approx(total, rel=1e-5)
    torch.testing.assert_close(by_text, fast[0] @ slow[1].T / temperature)
    torch.testing.assert_close(by_image, fast[1] @ slow[0].T / temperature)


def test_words_are_named_as_written_and_as_slow_weights_would() -> None:
    torch.manual_seed(1)
    logits, slow = torch.randn(4, 6), torch.randn(4, 6)
    words = torch.tensor([5, 0, 2, 2])
    said = logits.log_softmax(dim=1)
    hard = -sum(float(said[n, int(w)]) for n, w in enumerate(words)) / 4
    soft = -float((slow.softmax(dim=1) * said).sum()) / 4
    for share in (0.0, 0.4, 1.0):
        found = losses.softly_named(logits, slow, words, soft=share)
        assert found.item() == pytest.approx((1 - share) * hard + share * soft, rel=1e-5)
    assert losses.softly_named(logits[:0], slow[:0], words[:0], soft=0.4).item() == 0


def test_a_wrong_partner_is_never_the_right_one_and_likelier_the_more_alike(
) -> None:  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    alike = torch.tensor([[9.0, 1.0, 0.0, -1.0], [0, 900, 0, 0], [0, -900, 800, 0], [0, 1, 2, 3]])
    drawn = torch.stack([masking.draw_others(alike, generator=generator) for _ in range(4000)])
    for case in range(4):
        others = torch.tensor([k for k in range(4) if k != case])
        counts = torch.stack([(drawn[:, case] == k).double().mean() for k in others])
        expected = alike[case, others].double().softmax(dim=0)
        torch.testing.assert_close(counts, expected, atol=0.03, rtol=0)
        assert not (drawn[:, case] == case).any()


# ---- a step -------------------------------------------------------------------------------------


def test_a_step_gives_three_losses_and_a_gradient_to_every_weight(
    model: AlbefForPretraining, make_batch: MakeBatch, generator: torch.Generator
) -> None:
    model.begin(1.0)
    named = model.train()(numbered(make_batch(BOTH, BOTH, BOTH, BOTH)), generator)
    assert list(named) == list(model.means) == ["itc", "itm", "mlm"]
    sum(named.values()).backward()
    for name, each in model.named_parameters():
        if "mask_token" not in name:
            assert each.grad is not None, name
    assert all(each.grad is None for each in model.slow.buffers())


def test_a_note_is_tried_with_a_picture_like_it_and_a_picture_with_a_note_like_it(
    model: AlbefForPretraining, make_batch: MakeBatch, generator: torch.Generator
) -> None:
    core = model.core.eval()
    batch = make_batch(*[BOTH] * 4)
    laid = core.lay(batch, core.encode(batch.parts))
    assert isinstance(core.fusion, Albef)
    sides = core.fusion.sides(*laid[Modality.TEXT], *laid[Modality.IMAGE])
    tried: list[Sides] = []
    core.fusion.register_forward_pre_hook(lambda _, given: tried.extend(given))
    # Of four, each note is most like the next picture, and each picture like the note after next.
    likeness = torch.eye(4) * 6
    for _ in range(100):
        model.match(sides, likeness.roll(1, dims=1), likeness.roll(2, dims=1), generator)

    def numbers(tokens_nTD: Tensor, known_BTD: Tensor) -> Tensor:
        same_nB = (tokens_nTD[:, None] == known_BTD).flatten(2).all(dim=2)
        assert (same_nB.sum(dim=1) == 1).all()
        return same_nB.long().argmax(dim=1)

    own = torch.arange(4)
    liked = []
    for each in tried:
        notes, pictures = numbers(each.words, sides.words), numbers(each.patches, sides.patches)
        assert torch.equal(notes[:8], own.repeat(2))
        assert torch.equal(pictures[:4], own)
        assert torch.equal(pictures[8:], own)
        liked.append(torch.stack([pictures[4:8] == (own + 1) % 4, notes[8:] == (own + 2) % 4]))
    # exp(6) to 1 against each of the two others.
    assert (torch.stack(liked).double().mean(dim=(0, 2)) > 0.95).all()


def test_what_was_seen_waits_in_the_queue_as_the_slow_weights_saw_it_after_the_step_alone(
    model: AlbefForPretraining, make_batch: MakeBatch, generator: torch.Generator
) -> None:
    model.eval().begin(0.0)
    first, second = (numbered(make_batch(BOTH, BOTH, first=n), first=n) for n in (0, 2))
    for batch in (first, second, replace(make_batch(BOTH), cases=None)):  # of whom none counts
        model(batch, generator)
        assert (model.queue.cases == -1).all()
    seen = [text for text, _, _ in model.fresh]
    model.end(alone)
    assert model.queue.cases.tolist() == [0, 1, 2, 3, -1, -1]
    torch.testing.assert_close(model.queue.text[:4], torch.cat(seen))
    assert model.queue.text[:4].norm(dim=1).tolist() == pytest.approx([1.0] * 4)
    assert model.fresh == []


def test_what_processes_saw_enters_in_the_order_in_which_one_would_have_seen_it(
    model: AlbefForPretraining,
) -> None:
    def seen(case: int) -> tuple[Tensor, Tensor, Tensor]:
        return torch.full((1, 8), case), torch.full((1, 8), case), torch.tensor([case])

    model.end(lambda _: [[seen(0), seen(2), seen(4)], [seen(1), seen(3)]])
    assert model.queue.cases.tolist() == [0, 1, 2, 3, 4, -1]


def test_one_pair_alone_has_no_other_to_be_matched_with(
    model: AlbefForPretraining, make_batch: MakeBatch, generator: torch.Generator
) -> None:
    model.begin(0.0)
    named = model(numbered(make_batch(BOTH)), generator)
    assert named["itm"].item() == 0
    assert all(each.isfinite() for each in named.values())
    sum(named.values()).backward()


def test_several_notes_of_a_case_are_compared_as_their_mean_and_all_their_words_asked_for(
    model: AlbefForPretraining,
    make_rows: Callable[..., tuple[dict[str, object], ...]],
    generator: torch.Generator,
) -> None:
    pictures = make_rows(Modality.IMAGE, 0), make_rows(Modality.IMAGE, 1)
    one, other = make_rows(Modality.TEXT, 0, 2)
    model.eval().begin(0.0)
    seen = []
    for notes in ((one, other), (one,), (other,)):
        cases = [{Modality.TEXT: notes}, {Modality.TEXT: make_rows(Modality.TEXT, 5)}]
        features = [
            Features({**case, Modality.IMAGE: picture})
            for case, picture in zip(cases, pictures, strict=True)
        ]
        named = model(numbered(to_tensors(collate(features))), generator)
        assert all(each.isfinite() for each in named.values())
        seen.append(model.fresh[-1][0][0])
    # A linear map of the mean is the mean of the maps, before all are brought to length 1.
    plane = torch.linalg.lstsq(torch.stack(seen[1:]).T, seen[0][:, None])
    torch.testing.assert_close(torch.stack(seen[1:]).T @ plane.solution, seen[0][:, None])
    assert (plane.solution > 0).all()


def test_a_case_without_a_picture_is_a_mistake_of_the_caller(
    model: AlbefForPretraining, make_batch: MakeBatch, generator: torch.Generator
) -> None:
    with pytest.raises(AssertionError, match="pairs alone"):
        model(make_batch(BOTH, [Modality.TEXT]), generator)


# ---- learning -----------------------------------------------------------------------------------

KINDS = 16


def pairs(seed: int) -> TensorBatch:
    """Pictures of 16 patches, another one bright in each, and notes of the word for it."""
    draw = np.random.default_rng(seed)
    cases = []
    for kind in map(int, draw.permutation(KINDS)):
        row, column = divmod(kind, 4)
        pixels = draw.integers(0, 40, (3, 8, 8)).astype(np.uint8)
        pixels[:, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2] = 255
        note, picture = {"token_ids": np.array([2, 5 + kind, 3])}, {"pixels": pixels}
        cases.append(Features({Modality.TEXT: (note,), Modality.IMAGE: (picture,)}))
    return numbered(to_tensors(collate(cases)), first=KINDS * seed)


def test_it_learns_which_note_and_which_picture_are_a_pair_and_reads_hidden_words_off_the_picture(
) -> None:  # fmt: skip
    config = LanistrConfig(
        text=TextConfig(
            vocab_size=30, width=64, layers=2, heads=4, feedforward=64, max_tokens=8, dropout=0.0,
            tokens="all", lent=0.5, cls_id=2, sep_id=3, mask_id=4, mask_ratio=0.3,
        ),
        image=ImageConfig(size=8, patch=2, width=64, layers=1, heads=4, feedforward=64),
        fusion=AlbefConfig(kind="albef", space=16, queue=KINDS, momentum=0.9),
    )  # fmt: skip
    model = AlbefForPretraining(config).train()
    with torch.no_grad():
        for each in model.core.parameters():
            each *= 4 if each.ndim > 1 else 1  # so small a BERT hardly moves from its usual start
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    generator = torch.Generator().manual_seed(0)
    seen: list[list[float]] = []
    for step in range(180):
        model.begin(step / 30)
        named = model(pairs(step), generator)
        optimizer.zero_grad()
        sum(named.values()).backward()
        optimizer.step()
        model.end(alone)
        seen.append([each.item() for each in named.values()])
    itc, itm, mlm = np.mean(seen[-20:], axis=0)
    # By chance log 32, 0.64 and log 16: of 32 candidates, of three pairs one, of 16 words.
    assert itc < 1.2
    assert itm < 0.45
    assert mlm < log(KINDS) - 1

    model.eval()(pairs(10_000), generator)
    text, image, _ = model.fresh[-1]
    assert ((text @ image.T).argmax(dim=1) == torch.arange(KINDS)).double().mean() > 0.9
