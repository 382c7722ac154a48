"""`python -m training.pretrain`: learn from every case of a prepared data set, labelled or not."""

import json

import torch
from tqdm import tqdm

from lanistr.command import run_command
from lanistr.model.checkpoint import load_core, save_pretrained
from lanistr.model.hub import load_initial
from lanistr.model.lanistr import LanistrForPretraining
from training.data.loader import load
from training.data.sampler import epoch_batches
from training.data.store import Dataset
from training.initial import initial_model, refuse_two_starts
from training.loop import StepLog, train_epoch
from training.objectives import Pretraining
from training.optim import make_optimizer, make_schedule
from training.plan import plan, sizes_without_data
from training.recipe import PretrainRecipe, load_recipe, model_config
from training.run import LOG, Run, check_fits
from training.settings import choose_device, require_paths, training_parser

EXAMPLE = "python -m training.pretrain --recipe small --data data/stays --out runs/stays"


def main() -> None:
    """Pretrain as the command line says."""
    parser = training_parser("pretrain", "Pretrain on every case of a prepared data set.", EXAMPLE)
    arguments = parser.parse_args()
    recipe = load_recipe(arguments.recipe, "pretrain", PretrainRecipe, arguments.overrides)
    refuse_two_starts(recipe, arguments.init)

    # ---- what it would cost --------------------------------------------------------------------
    if arguments.dry_run:
        if arguments.data:
            fitted = Dataset.open(arguments.data).preprocessor
            sizes = initial_model(recipe.model, recipe.init.local(), fitted)
            config = model_config(sizes, fitted.dimensions())
        else:
            sizes = initial_model(sizes_without_data(recipe), recipe.init.local(), None)
            config = model_config(sizes, None)
        with torch.device("meta"):
            planned = LanistrForPretraining(config)
        print(json.dumps(plan(recipe, planned), indent=1))
        return

    # ---- data, model, optimiser ----------------------------------------------------------------
    require_paths(arguments)
    device = choose_device(arguments.device)
    dataset = Dataset.open(arguments.data)
    positions = dataset.rows("train")
    torch.manual_seed(recipe.seed)
    fitted = dataset.preprocessor
    sizes = initial_model(recipe.model, recipe.init, fitted)
    model = LanistrForPretraining(model_config(sizes, fitted.dimensions()))
    load_initial(model.core, recipe.init)
    if arguments.init:
        check_fits(Run.open(arguments.init), dataset)
        load_core(model.core, Run.open(arguments.init).model_folder)
    model.to(device)
    run = Run.create(
        arguments.out,
        stage="pretrain",
        recipe=recipe,
        dataset=dataset,
        init=arguments.init,
        model=model,
    )
    optim = recipe.optim
    steps = optim.epochs * -(-len(positions) // optim.batch_size)
    optimizer = make_optimizer(model, optim)
    schedule = make_schedule(optimizer, optim, steps)
    # Not the seed of the weights: streams that start alike would draw masks like weights.
    generator = torch.Generator(device).manual_seed(recipe.seed + 1_000_003)

    # ---- epochs --------------------------------------------------------------------------------
    log = StepLog(run.folder / LOG)
    step = 0
    for epoch in tqdm(range(optim.epochs), desc="pretraining", unit=" epochs", disable=None):
        batches = epoch_batches(
            positions, dataset.tokens, optim.batch_size, seed=recipe.seed, epoch=epoch
        )
        step = train_epoch(
            Pretraining(model, recipe.losses),
            load(dataset, batches, recipe.workers),
            optimizer=optimizer,
            schedule=schedule,
            clip=optim.clip,
            generator=generator,
            device=device,
            log=log,
            epoch=epoch,
            step=step,
        )
    save_pretrained(model.eval(), run.model_folder)
    print(f"{run.folder}: {step} steps over {len(positions)} cases")


if __name__ == "__main__":
    run_command(main)
