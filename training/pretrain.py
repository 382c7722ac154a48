"""`python -m training.pretrain`: learn from every case of a prepared data set, labelled or not."""

import json
import logging

import torch

from lanistr.command import run_command
from lanistr.errors import ConfigError
from lanistr.model.checkpoint import load_core, load_heads
from lanistr.model.hub import load_initial
from lanistr.model.lanistr import ForPretraining
from lanistr.model.pretraining import for_pretraining
from training.arguments import require_paths, training_parser
from training.cases import draw_unlabelled, warn_of_absent
from training.compatibility import check_fits
from training.distributed import joined, parallelize, save_whole, whole_weights
from training.initial import (
    initial_model,
    open_data,
    refuse_other_system,
    refuse_two_starts,
)
from training.loop import Trainer
from training.objectives import Pretraining
from training.plan import plan, sizes_without_data
from training.recipe import PretrainRecipe, load_recipe, model_config
from training.run import Run

log = logging.getLogger(__name__)

EXAMPLE = """python -m training.pretrain --recipe small --data data/stays --out runs/stays
  torchrun --nproc-per-node 8 -m training.pretrain --recipe mimic-iv --data data/x --out runs/x"""

_OPTIONAL_LOSSES = {"summary", "itc", "itm"}
"""Losses that some models lack whatever the data bring; recipes weigh all others in any case."""


def main() -> None:
    """Pretrain as the command line says."""
    parser = training_parser(
        "pretrain",
        "Pretrain on all training cases of a prepared data set, labelled or not.",
        EXAMPLE,
    )
    arguments = parser.parse_args()
    recipe = load_recipe(arguments.recipe, "pretrain", PretrainRecipe, arguments.overrides)
    refuse_two_starts(recipe, arguments.init)
    _refuse_plateau(recipe)

    # ---- what it would cost --------------------------------------------------------------------
    if arguments.dry_run:
        if arguments.data:
            fitted = open_data(arguments.data, recipe).preprocessor
            sizes = initial_model(recipe.model, recipe.init.local(), fitted)
            config = model_config(sizes, fitted.dimensions())
        else:
            sizes = initial_model(sizes_without_data(recipe), recipe.init.local(), None)
            config = model_config(sizes, None)
        with torch.device("meta"):
            planned = for_pretraining(config)
        _refuse_unfit(recipe, planned)
        _warn_of_unused_weights(recipe, planned)
        print(json.dumps(plan(recipe, planned), indent=1))
        return

    # ---- data and model ------------------------------------------------------------------------
    require_paths(arguments)
    with joined(arguments.device) as world:
        dataset = open_data(arguments.data, recipe)
        world.share(dataset.verify)
        positions = draw_unlabelled(dataset, recipe.share, recipe.seed, complete=recipe.complete)
        torch.manual_seed(recipe.seed)
        fitted = dataset.preprocessor
        sizes = initial_model(recipe.model, recipe.init, fitted)
        model = for_pretraining(model_config(sizes, fitted.dimensions()))
        _refuse_unfit(recipe, model)
        if world.leads:
            warn_of_absent(dataset, positions)
            _warn_of_unused_weights(recipe, model)
        load_initial(model.core, recipe.init)
        if arguments.init:
            start = Run.open(arguments.init)
            refuse_other_system(recipe, start)
            check_fits(start, dataset)
            load_core(model.core, start.model_folder)
            fresh = load_heads(model, start.model_folder).fresh
            if fresh and world.leads:
                nothing = "%s has no weights of this size for %s: initialized at random"
                log.warning(nothing, start.folder, ", ".join(fresh))
        run = world.share(
            lambda: Run.begin(
                arguments.out,
                stage="pretrain",
                recipe=recipe,
                dataset=dataset,
                init=arguments.init,
                model=model,
            )
        )

        # ---- steps -----------------------------------------------------------------------------
        runs = parallelize(model.to(world.device), recipe.runtime, world)
        trainer = Trainer(
            Pretraining(model, recipe.losses, runs),
            dataset,
            positions,
            recipe=recipe,
            run=run,
            world=world,
        )
        for _ in trainer.walk():
            pass
        save_whole(whole_weights(model), model, run.model_folder, world)
        trainer.close()
    if world.leads:
        cases = f"{len(positions)} of {len(dataset.rows('train'))} training cases"
        if recipe.complete:
            cases += " that have every modality" if recipe.share == 1 else ", all complete"
        print(f"{run.folder}: {trainer.steps} steps over {cases}")


def _refuse_plateau(recipe: PretrainRecipe) -> None:
    """Refuse a plateau, which only validations show.

    Raises:
        ConfigError: the recipe does.
    """
    if recipe.optim.plateau is not None:
        raise ConfigError(
            "pretraining has no validation, so it cannot detect a plateau",
            field="optim.plateau",
            seen=recipe.optim.plateau,
            accepted="null; a number only for fine-tuning",
        )


def _warn_of_unused_weights(recipe: PretrainRecipe, model: ForPretraining) -> None:
    """Warn of weights that the recipe gives to losses that the model does not have."""
    had = {loss.split("_")[0] for loss in model.means}
    for name in sorted(_OPTIONAL_LOSSES & recipe.losses.model_fields_set - had):
        if getattr(recipe.losses, name):
            log.warning("losses.%s has no effect: the model has no such loss", name)


def _refuse_unfit(recipe: PretrainRecipe, model: ForPretraining) -> None:
    """Refuse settings that the model cannot be pretrained with.

    Raises:
        ConfigError: naming the setting.
    """
    if model.complete and not recipe.complete:
        raise ConfigError(
            f"{recipe.system} learns from cases that have every modality",
            field="complete",
            seen=recipe.complete,
            accepted="true",
        )
    if recipe.runtime.strategy == "fsdp" and not model.shards:
        raise ConfigError(
            f"the weights of {recipe.system} cannot be sharded, as it keeps a moving average of "
            "them",
            field="runtime.strategy",
            seen=recipe.runtime.strategy,
            accepted="ddp",
        )


if __name__ == "__main__":
    run_command(main)
