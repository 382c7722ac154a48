"""What a run would build and cost, said before anything is run: `--dry-run`."""

from typing import Any

from lanistr.modalities import Modality
from lanistr.model.lanistr import ForPretraining, Lanistr, count_parameters
from lanistr.preprocess import PreprocessOptions, Preprocessor
from lanistr.tasks import TaskSpec, find_task
from training.flops import forward_flops
from training.optim import check_rates
from training.recipe import Recipe

USUAL_TASK = "mortality"
"""Whose data a recipe for any task is planned for, where there are none."""


def plan(recipe: Recipe, model: Lanistr | ForPretraining) -> dict[str, Any]:
    """Say what a model is made of and where it would start.

    Nothing is asked of the hub: where weights would come from there, the recipe's sizes stand.

    Args:
        recipe: as resolved.
        model: on the meta device.

    Raises:
        ConfigError: a rate is given for a part that the model has not, or that is not trained.
    """
    check_rates(model, recipe.optim)
    counts = count_parameters(model)
    looked = recipe.init.local().named()
    return {
        "recipe": recipe.model_dump(mode="json"),
        "model": model.config.model_dump(mode="json"),
        "init": {
            part: {"from": name, "sizes": "the checkpoint's" if part in looked else "the recipe's"}
            for part, name in recipe.init.named().items()
        },
        "parameters": {
            "total": sum(counts.values()),
            "trained": sum(count_parameters(model, trained=True).values()),
            "by_module": counts,
        },
        "forward_flops_per_sample": forward_flops(
            model if isinstance(model, Lanistr) else model.core
        ),
    }


def sizes_without_data(
    recipe: Recipe, task: TaskSpec | None = None
) -> dict[str, dict[str, Any] | None]:
    """Fill what data would decide from the task's file, where the recipe does not say it.

    The vocabulary is BERT's; categories that only data can tell count as none.
    """
    task = task or find_task(recipe.task or USUAL_TASK)
    known = Preprocessor.fit(list, task, PreprocessOptions()).dimensions()
    known.pop(Modality.TEXT, None)  # fitted on no notes; the encoder's own defaults are BERT's
    sizes = dict(recipe.model)
    if recipe.modalities:
        sizes |= {each: None for each in Modality if each not in recipe.modalities}
    for modality, dimensions in known.items():
        chosen = sizes.get(modality)
        if chosen is not None:
            sizes[modality] = {**dimensions, **chosen}
    return sizes
