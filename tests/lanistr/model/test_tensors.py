from collections.abc import Callable

import numpy as np
import torch

from lanistr.batch import Arrays, Features, collate
from lanistr.modalities import Modality
from lanistr.model.tensors import to_tensors


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
