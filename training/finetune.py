"""`python -m training.finetune`: learn a task from the labelled cases of a prepared data set."""

import json

import numpy as np
import torch
from tqdm import tqdm

from lanistr.calibration import Calibration
from lanistr.command import run_command
from lanistr.errors import ConfigError
from lanistr.model.checkpoint import from_pretrained, load_core, read_config, save_pretrained
from lanistr.model.hub import InitialWeights, load_initial
from lanistr.model.lanistr import Lanistr, LanistrConfig
from lanistr.tasks import LabelSpec, TaskSpec, find_task
from training.data.loader import load
from training.data.sampler import epoch_batches
from training.data.store import Dataset
from training.initial import initial_model, refuse_frozen_at_random, refuse_two_starts
from training.loop import StepLog, train_epoch
from training.metrics import check_metric, higher_is_better, known, measure
from training.objectives import Task
from training.optim import make_optimizer, make_schedule
from training.plan import USUAL_TASK, plan, sizes_without_data
from training.predict import predict
from training.recipe import FinetuneRecipe, head_config, load_recipe, model_config
from training.run import LOG, Run, check_fits
from training.settings import choose_device, require_paths, training_parser

EXAMPLE = (
    "python -m training.finetune --recipe small --data data/stays --init runs/stays"
    " --out runs/stays-ft"
)


def main() -> None:
    """Fine-tune as the command line says."""
    parser = training_parser("finetune", "Learn a task from labelled cases.", EXAMPLE)
    arguments = parser.parse_args()
    recipe = load_recipe(arguments.recipe, "finetune", FinetuneRecipe, arguments.overrides)

    refuse_two_starts(recipe, arguments.init)
    init = Run.open(arguments.init) if arguments.init else None
    if init:
        _refuse_sizes(arguments.overrides)

    # ---- what it would cost --------------------------------------------------------------------
    if arguments.dry_run:
        planned_for = Dataset.open(arguments.data) if arguments.data else None
        print(json.dumps(plan(recipe, _planned(recipe, planned_for, init)), indent=1))
        return

    # ---- data and model ------------------------------------------------------------------------
    require_paths(arguments)
    device = choose_device(arguments.device)
    dataset = Dataset.open(arguments.data)
    if recipe.task not in (None, dataset.task.name):
        raise ConfigError(
            "the recipe is for another task",
            field="--recipe",
            seen=recipe.task,
            accepted=dataset.task.name,
        )
    if recipe.freeze_encoders and not init:
        refuse_frozen_at_random(recipe.init, dataset.task.modalities)
    label = dataset.task.label
    positions = dataset.rows("train", labelled=True)
    if recipe.labels is not None:
        rng = np.random.default_rng(recipe.seed)
        positions = np.sort(rng.permutation(positions)[: recipe.labels])
    validation = dataset.rows("validation", labelled=True)
    check_metric(dataset.task.metric, dataset.labels[validation], label)
    torch.manual_seed(recipe.seed)
    model = Lanistr(_config(recipe, dataset.task, dataset, init, recipe.init))
    load_initial(model, recipe.init)
    if init:
        load_core(model, init.model_folder)
    if recipe.freeze_encoders:
        model.freeze_encoders()
    model.to(device)
    run = Run.create(
        arguments.out,
        stage="finetune",
        recipe=recipe,
        dataset=dataset,
        init=arguments.init,
        model=model,
    )

    # ---- epochs, keeping the best on the validation split --------------------------------------
    optim = recipe.optim
    objective = Task(
        model, regression=label.kind == "regression", modality_dropout=recipe.modality_dropout
    )
    optimizer = make_optimizer(model, optim)
    steps = optim.epochs * -(-len(positions) // optim.batch_size)
    schedule = make_schedule(optimizer, optim, steps)
    # Not the seed of the weights: streams that start alike would draw masks like weights.
    generator = torch.Generator(device).manual_seed(recipe.seed + 1_000_003)
    log = StepLog(run.folder / LOG)
    metric = dataset.task.metric
    best, best_epoch, step = -np.inf, -1, 0
    for epoch in tqdm(range(optim.epochs), desc="fine-tuning", unit=" epochs", disable=None):
        batches = epoch_batches(
            positions, dataset.tokens, optim.batch_size, seed=recipe.seed, epoch=epoch
        )
        step = train_epoch(
            objective,
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
        outputs = predict(model, dataset, validation, device)
        found = measure(outputs, dataset.labels[validation], label)
        log.write(epoch=epoch, validation={name: known(each) for name, each in found.items()})
        score = found[metric] if higher_is_better(metric) else -found[metric]
        if score > best:
            best, best_epoch = score, epoch
            save_pretrained(model.eval(), run.model_folder)
        elif epoch - best_epoch >= recipe.patience:
            break

    # ---- calibration ---------------------------------------------------------------------------
    model = from_pretrained(run.model_folder, Lanistr).to(device)
    run.write_calibration(_calibrate(model, dataset, validation, label, device))
    print(
        f"{run.folder}: best epoch {best_epoch}, validation {metric} {abs(best):.4f}, "
        f"{len(positions)} labelled cases"
    )


def _refuse_sizes(overrides: list[str]) -> None:
    """With initial weights the body is the initial run's; only the head can be chosen.

    Raises:
        ConfigError: another size is.
    """
    for override in overrides:
        if override.startswith("model.") and not override.startswith("model.head"):
            raise ConfigError(
                "the sizes are those of the run that --init names",
                field="--set",
                seen=override,
                accepted="sizes of model.head, or no --init",
            )


def _calibrate(
    model: Lanistr, dataset: Dataset, rows: np.ndarray, label: LabelSpec, device: torch.device
) -> Calibration:
    outputs = predict(model, dataset, rows, device)
    return Calibration.fit(outputs, dataset.labels[rows], label)


def _config(
    recipe: FinetuneRecipe,
    task: TaskSpec,
    dataset: Dataset | None,
    init: Run | None,
    published: InitialWeights,
) -> LanistrConfig:
    """Say what to build: with initial weights their body, and only the head is the recipe's."""
    sizes = recipe.model if dataset else sizes_without_data(recipe, task)
    if init:
        if dataset:
            check_fits(init, dataset)
        body = read_config(init.model_folder).config.model_dump(mode="json")
        sizes = body | {"head": recipe.model.get("head")}
    sizes = initial_model(sizes, published, dataset.preprocessor if dataset else None)
    dimensions = dataset.preprocessor.dimensions() if dataset else None
    return model_config(sizes, dimensions, head_config(task.label, recipe))


def _planned(recipe: FinetuneRecipe, dataset: Dataset | None, init: Run | None) -> Lanistr:
    """Build on the meta device what a run would build."""
    source = dataset or init
    task = source.task if source else find_task(recipe.task or USUAL_TASK)
    with torch.device("meta"):
        planned = Lanistr(_config(recipe, task, dataset, init, recipe.init.local()))
    return planned.freeze_encoders() if recipe.freeze_encoders else planned


if __name__ == "__main__":
    run_command(main)
