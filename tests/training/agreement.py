"""Run by torchrun: do processes whose batch statistics differ predict the same?

python -m torch.distributed.run --nproc-per-node 2 -m tests.training.agreement RUN DATA STRATEGY
"""

import sys
from pathlib import Path

import numpy as np

from lanistr.model.checkpoint import from_pretrained
from lanistr.model.lanistr import Lanistr
from training.data.store import Dataset
from training.distributed import joined, parallelize
from training.finetune import _outputs
from training.recipe import FinetuneRecipe, load_recipe


def main(run: str, data: str, strategy: str) -> None:
    recipe = load_recipe("demo", "finetune", FinetuneRecipe, [f"runtime.strategy={strategy}"])
    with joined("cpu") as world:
        dataset = Dataset.open(Path(data))
        model = from_pretrained(Path(run) / "model", Lanistr)
        for name, buffer in model.named_buffers():
            if "running_mean" in name:
                buffer += world.process
        parallelize(model, recipe.runtime, world)
        rows = dataset.rows("validation")
        outputs = _outputs(model, dataset, rows, recipe, world, None)
        every = world.gather(outputs)
        if world.leads:
            moved = any(
                bool(each.any()) for n, each in model.named_buffers() if "running_mean" in n
            )
            print("statistics there:", moved, "agree:", np.array_equal(every[0], every[1]))
            print("cases:", len(outputs) == len(rows), "finite:", bool(np.isfinite(outputs).all()))


if __name__ == "__main__":
    main(*sys.argv[1:])
