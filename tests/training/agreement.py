"""Run twice at once: do processes whose batch statistics differ predict what the first one would?

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
from training.predict import predict
from training.recipe import FinetuneRecipe, load_recipe


def main(run: str, data: str, strategy: str) -> None:
    recipe = load_recipe("demo", "finetune", FinetuneRecipe, [f"runtime.strategy={strategy}"])
    with joined("cpu") as world:
        dataset = Dataset.open(Path(data))
        model = from_pretrained(Path(run) / "model", Lanistr)
        parallelize(model, recipe.runtime, world)  # makes them alike
        statistics = [each for name, each in model.named_buffers() if "running_mean" in name]
        for each in statistics:
            each += world.process
        rows = dataset.rows("validation")
        # Every process, since they run together what they share.
        alone = world.gather(predict(model, dataset, rows, world.device))
        outputs = _outputs(model, dataset, rows, recipe, world, None)
        every = world.gather(outputs)
        few = _outputs(model, dataset, rows[:1], recipe, world, None)  # fewer than processes
        kept = world.gather([each.numpy().copy() for each in statistics])
        if world.leads:
            print("statistics count:", not np.allclose(alone[0], alone[1], atol=1e-3))
            print("agree:", np.array_equal(every[0], every[1]))
            print("as the first:", np.allclose(outputs, alone[0], rtol=0, atol=1e-5))
            print("one case:", np.allclose(few, outputs[:1], rtol=0, atol=1e-5))
            print("left alike:", all(map(np.array_equal, *kept)))
            print("cases:", len(outputs) == len(rows), "finite:", bool(np.isfinite(outputs).all()))


if __name__ == "__main__":
    main(*sys.argv[1:])
