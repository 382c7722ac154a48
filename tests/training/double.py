"""Run a stage of training in double precision, where rounding is no excuse for a difference.

python -m tests.training.double pretrain --recipe ...
"""

import importlib
import sys

import torch
from torch import Tensor

from lanistr.model.tensors import TensorBatch


def main() -> None:
    torch.set_default_dtype(torch.float64)
    Tensor.float = Tensor.double  # type: ignore[method-assign]
    copy = TensorBatch.to

    def widened(self: TensorBatch, device: torch.device | str) -> TensorBatch:
        return copy(
            self._each(lambda each: each.double() if each.is_floating_point() else each), device
        )

    TensorBatch.to = widened  # type: ignore[method-assign]
    stage = importlib.import_module(f"training.{sys.argv.pop(1)}")
    stage.main()


if __name__ == "__main__":
    main()
