from collections.abc import Callable

import numpy as np
import torch

from lanistr.batch import Arrays, Features, collate
from lanistr.modalities import Modality
from lanistr.model.tensors import places, take, to_tensors


def test_a_batch_keeps_its_rows_dtypes_labels_and_presence(
    make_rows: Callable[..., tuple[Arrays, ...]],
) -> None:
    cases = [
        Features({Modality.IMAGE: make_rows(Modality.IMAGE, 0, count=2)}),
        Features({}),
        Features({Modality.TABULAR: make_rows(Modality.TABULAR, 1)}),
    ]
    labels = np.array([0, np.nan, 1], dtype=np.float32)
    plain = collate(cases, labels)
    batch = to_tensors(plain)
    assert batch.parts[Modality.IMAGE].sample.tolist() == [0, 0]
    assert batch.parts[Modality.IMAGE].arrays["pixels"].dtype == torch.uint8
    assert batch.labels is not None
    assert batch.labels.isnan().tolist() == [False, True, False]
    presence = batch.presence(Modality, torch.device("cpu"))
    assert np.array_equal(presence.numpy(), plain.presence())


# ---- reading what a mask chooses ----------------------------------------------------------------


def test_what_is_taken_at_the_places_of_a_mask_is_what_the_mask_indexes() -> None:
    torch.manual_seed(0)
    mask = torch.rand(3, 5) < 0.5
    tokens = torch.randn(3, 5, 2, requires_grad=True)
    chosen = places(mask)
    assert torch.equal(take(tokens, chosen), tokens[mask])
    assert torch.equal(take(tokens[..., 0], chosen), tokens[..., 0][mask])
    weights = torch.randn(len(chosen), 2)
    found, wanted = (
        torch.autograd.grad((each * weights).sum(), tokens)[0]
        for each in (take(tokens, chosen), tokens[mask])
    )
    assert torch.equal(found, wanted)


def test_a_mask_that_chooses_nothing_gives_no_rows() -> None:
    nothing = places(torch.zeros(3, 5, dtype=torch.bool))
    assert take(torch.randn(3, 5, 2), nothing).shape == (0, 2)
