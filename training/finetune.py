"""`python -m training.finetune`: learn a task from the labelled cases of a prepared data set."""

import json
import logging
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from lanistr.command import leave_when_asked, run_command
from lanistr.errors import ConfigError
from lanistr.modalities import Modality
from lanistr.model.checkpoint import (
    from_pretrained,
    load_core,
    load_encoders,
    read_config,
    save_pretrained,
)
from lanistr.model.config import LanistrConfig
from lanistr.model.fusion import FusionConfig
from lanistr.model.heads import Units
from lanistr.model.hub import InitialWeights, load_initial
from lanistr.model.lanistr import Lanistr
from lanistr.tasks import TaskSpec, find_task
from training.arguments import require_paths, training_parser
from training.cases import complete_cases, draw_labelled, warn_of_absent
from training.class_weights import unweighted, weigh_classes
from training.compatibility import check_fits
from training.data.encoded import EncodedStore, encode_once
from training.data.store import Dataset
from training.decide import calibrate, validated
from training.distributed import World, joined, parallelize, save_whole
from training.initial import (
    encoders_from,
    initial_model,
    open_data,
    refuse_frozen_at_random,
    refuse_other_system,
    refuse_two_starts,
)
from training.loop import Trainer, number_type, refuse_non_finite
from training.metrics import check_metric, goodness, higher_is_better, known, shown
from training.objectives import Task
from training.plan import USUAL_TASK, plan, sizes_without_data
from training.predict import predict
from training.recipe import FinetuneRecipe, head_config, load_recipe, model_config
from training.run import Run
from training.soup import Candidates
from training.teachers import Teacher, cases_to_teach, open_teacher, teach

log = logging.getLogger(__name__)

EXAMPLE = (
    "python -m training.finetune --recipe small --data data/stays --init runs/stays"
    " --out runs/stays-ft"
)


def main() -> None:
    """Fine-tune as the command line says."""
    parser = training_parser(
        "finetune", "Fine-tune a model on the labelled cases of a task.", EXAMPLE
    )
    parser.add_argument(
        "--encoders",
        type=Path,
        nargs="+",
        default=[],
        metavar="RUN",
        help="runs whose encoders to start from, each of one or more modalities; the rest of the "
        "model is newly initialized",
    )
    parser.add_argument(
        "--teachers",
        type=Path,
        nargs="+",
        default=[],
        metavar="RUN",
        help="fine-tuned runs, or yardsticks with --answers, whose averaged predictions are "
        "targets for training cases without a label (or beyond `labels`)",
    )
    arguments = parser.parse_args()
    recipe = load_recipe(arguments.recipe, "finetune", FinetuneRecipe, arguments.overrides)

    refuse_two_starts(recipe, arguments.init, arguments.encoders)
    init = Run.open(arguments.init) if arguments.init else None
    sources = [Run.open(each) for each in arguments.encoders]
    teachers = [open_teacher(each) for each in arguments.teachers]
    if init:
        _refuse_sizes(arguments.overrides)
        refuse_other_system(recipe, init)

    # ---- what it would cost --------------------------------------------------------------------
    if arguments.dry_run:
        planned_for = open_data(arguments.data, recipe) if arguments.data else None
        print(json.dumps(plan(recipe, _planned(recipe, planned_for, init)), indent=1))
        return

    # ---- data ----------------------------------------------------------------------------------
    require_paths(arguments)
    leave_when_asked()  # in the steps, the loop answers in its own way
    with joined(arguments.device) as world:
        dataset = open_data(arguments.data, recipe)
        world.share(dataset.verify)
        label = dataset.task.label
        taken = encoders_from(sources, dataset)
        _check(recipe, dataset, init, [each for _, found in taken for each in found])
        labelled = draw_labelled(dataset, recipe.labels, recipe.seed, complete=recipe.complete)
        positions, taught = labelled, None
        if teachers:
            positions, taught = _with_taught(recipe, dataset, teachers, labelled, world)
        if world.leads:
            warn_of_absent(dataset, positions)
        validation = dataset.rows("validation", labelled=True)
        check_metric(dataset.task.metric, dataset.labels[validation], label)
        class_weights = weigh_classes(recipe, label, dataset.labels[labelled])

        # ---- model -----------------------------------------------------------------------------
        torch.manual_seed(recipe.seed)
        model = Lanistr(_config(recipe, dataset.task, dataset, init, recipe.init))
        load_initial(model, recipe.init)
        if init:
            load_core(model, init.model_folder)
        for source, modalities in taken:
            load_encoders(model, source.model_folder, modalities)
        if recipe.freeze_encoders:
            model.freeze_encoders()
        for link in model.modules():
            if isinstance(link, Units):
                link.fit(torch.from_numpy(dataset.labels[labelled])[:, None])
        run = world.share(
            lambda: Run.begin(
                arguments.out,
                stage="finetune",
                recipe=recipe,
                dataset=dataset,
                init=arguments.init,
                model=model,
                encoders=sources,
                teachers={str(each.folder): each.digest for each in teachers},
            )
        )
        model.to(world.device)
        targets = None
        if taught is not None:
            targets = world.share(
                lambda: teach(
                    teachers,
                    dataset,
                    taught,
                    labelled,
                    device=world.device,
                    workers=recipe.runtime.workers,
                )
            )
        encoded = None
        if recipe.freeze_encoders and recipe.cache_features:
            cases = np.union1d(positions, validation)
            encoded = EncodedStore(
                world.share(
                    lambda: encode_once(
                        model,
                        dataset,
                        cases,
                        device=world.device,
                        dtype=number_type(recipe, world.device),
                        workers=recipe.runtime.workers,
                    )
                )
            )

        # ---- steps, keeping what is best on the validation split ---------------------------------
        objective = Task(
            model,
            modality_dropout=recipe.modality_dropout,
            unimodal=recipe.unimodal,
            class_weights=class_weights,
            targets=targets,
            run=parallelize(model, recipe.runtime, world),
        )
        trainer = Trainer(
            objective,
            dataset,
            positions,
            recipe=recipe,
            run=run,
            world=world,
            encoded=encoded,
        )
        metric = dataset.task.metric
        best = trainer.progress
        ranked = best.setdefault("candidates", [])
        candidates = Candidates(run, max(1, recipe.average), ranked, removes=world.leads)
        for step in trainer.walk():
            if not trainer.passes(step, recipe.validate_every):
                continue
            epoch = trainer.epoch_over(step)
            outputs = _outputs(model, dataset, validation, recipe, world, encoded)
            if class_weights is not None:
                outputs = outputs - np.log(class_weights, dtype=np.float32)
            found = validated(outputs, dataset.labels[validation], dataset.task)
            trainer.note(
                epoch=epoch, validation={name: known(each) for name, each in found.items()}
            )
            score = goodness(found, metric)
            better = "score" not in best or score > best["score"]
            if candidates.admit(score, step, trainer.stored):
                learned = unweighted(model, class_weights)
                save_whole(learned, model, candidates.folder(step), world)
            if better:
                best |= {"score": score, "epoch": epoch}
            elif _between(best["epoch"], epoch) >= recipe.patience:
                break
            elif recipe.optim.plateau is not None:
                since = max(best["epoch"], best.get("halved", -1))
                if _between(since, epoch) > recipe.optim.plateau:
                    best |= {"halved": epoch, "halvings": best.get("halvings", 0) + 1}

        if world.leads:
            said = _store_best(recipe, dataset, validation, candidates, trainer)
            print(f"{run.folder}: {said}, {len(labelled)} labelled cases")
        trainer.close()


def _with_taught(
    recipe: FinetuneRecipe,
    dataset: Dataset,
    teachers: Sequence[Teacher],
    labelled: NDArray[np.int64],
    world: World,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the positions of all cases to learn from, and of those that the teachers label."""
    positions = dataset.rows("train")
    if recipe.complete:
        positions = complete_cases(dataset, positions)
    taught = cases_to_teach(teachers, dataset, positions, labelled)
    seen = np.union1d(labelled, taught)
    if world.leads and len(seen) < len(positions):
        unseen = len(positions) - len(seen)
        log.warning("%d cases are left out because no teacher has any of their modalities", unseen)
    return seen, taught


def _store_best(
    recipe: FinetuneRecipe,
    dataset: Dataset,
    validation: NDArray[np.int64],
    candidates: Candidates,
    trainer: Trainer,
) -> str:
    """Store the best weights, or the mean of several, and calibrate them; summarise the result."""
    run, device, best = trainer.run, trainer.world.device, trainer.progress
    metric = dataset.task.metric
    truth, patterns = dataset.labels[validation], dataset.patterns(validation)
    # Not from stored features: what is served does not round the encoders' tokens.
    final = from_pretrained(candidates.best, Lanistr).to(device)
    mixed = ""
    if recipe.average > 1:

        def score_of(tried: Lanistr) -> float:
            outputs = predict(tried, dataset, validation, device)
            return goodness(validated(outputs, truth, dataset.task), metric)

        several = candidates.mix(final, score_of)
        mixed = f", weights averaged over {several} validations"
    else:
        save_pretrained(final, run.model_folder)
    outputs = predict(final, dataset, validation, device)
    if mixed:
        found = validated(outputs, truth, dataset.task)
        best["score"] = goodness(found, metric)
        figures = {name: known(each) for name, each in found.items()}
        trainer.note(mean_of=several, mean_validation=figures)
    asked = patterns != ""  # a case that brings nothing is not answered in service either
    asked |= not asked.any()
    run.write_calibration(calibrate(outputs[asked], truth[asked], dataset.task, patterns[asked]))
    figure = best["score"] if higher_is_better(metric) else -best["score"]
    return f"best epoch {best['epoch']}, validation {metric} {shown(figure, 4)}{mixed}"


def _between(one: float, other: float) -> float:
    """Return how many epochs lie between two, to the digits that `Trainer.epoch_over` gives."""
    return round(other - one, 3)


def _outputs(
    model: Lanistr,
    dataset: Dataset,
    rows: NDArray[np.int64],
    recipe: FinetuneRecipe,
    world: World,
    encoded: EncodedStore | None,
) -> NDArray[np.float32]:
    """Predict with the model as it would be stored, each process a part of the cases.

    With sharded weights (FSDP) processes run every layer together, so each predicts all cases. The
    outputs are bit-identical in all processes, which decide by them what to do next.

    Raises:
        NonFiniteLossError: the last step left weights whose output for a case is not finite.
    """
    world.align(model)
    shared = world.processes > 1 and recipe.runtime.strategy == "ddp"
    mine = rows[world.process :: world.processes] if shared else rows
    workers = recipe.runtime.workers
    found = predict(model, dataset, mine, world.device, encoded=encoded, workers=workers)
    if shared:
        parts = world.gather(found)
        width = max(part.shape[1] for part in parts)  # 0 in a process without cases
        outputs = np.empty((len(rows), width), dtype=np.float32)
        for process, part in enumerate(parts):
            if len(part):
                outputs[process :: world.processes] = part
    else:
        outputs = world.share(lambda: found)
    refuse_non_finite(outputs, dataset, rows)
    return outputs


def _check(
    recipe: FinetuneRecipe, dataset: Dataset, init: Run | None, given: Collection[Modality]
) -> None:
    """Check that a recipe fits the data and the initial weights.

    Raises:
        ConfigError: it is for another task, or would freeze random weights.
    """
    if recipe.task not in (None, dataset.task.name):
        raise ConfigError(
            "the recipe is for another task",
            field="--recipe",
            seen=recipe.task,
            accepted=dataset.task.name,
        )
    if recipe.freeze_encoders and not init:
        refuse_frozen_at_random(recipe.init, dataset.task.modalities, given)
    if recipe.freeze_encoders and init and init.config.stage == "pretrain":
        learned = read_config(init.model_folder).config
        shortcut = isinstance(learned.fusion, FusionConfig) and learned.fusion.shortcut
        if shortcut and not learned.summary:
            log.warning(
                "the encoders' shortcuts past fusion are frozen with random weights: %s was "
                "pretrained without model.summary",
                init.folder,
            )


def _refuse_sizes(overrides: list[str]) -> None:
    """Refuse sizes beside `--init`: the body is that run's, and only the head can be chosen.

    Raises:
        ConfigError: another size is overridden.
    """
    for override in overrides:
        path = override.partition("=")[0].split(".")
        if path[0] == "model" and path[1:2] != ["head"]:
            raise ConfigError(
                "the sizes are determined by the run given with --init",
                field="--set",
                seen=override,
                accepted="sizes of model.head; or no --init",
            )


def _config(
    recipe: FinetuneRecipe,
    task: TaskSpec,
    dataset: Dataset | None,
    init: Run | None,
    published: InitialWeights,
) -> LanistrConfig:
    """Return the model to build; with an initial run, its body with the recipe's head."""
    sizes = recipe.model if dataset else sizes_without_data(recipe, task)
    if init:
        if dataset:
            check_fits(init, dataset)
        body = read_config(init.model_folder).config.model_dump(mode="json")
        sizes = body | {"head": recipe.model.get("head")}
    sizes = initial_model(sizes, published, dataset.preprocessor if dataset else None)
    dimensions = dataset.preprocessor.dimensions() if dataset else None
    head = head_config(task.label, recipe)
    return model_config(sizes, dimensions, head, unimodal=recipe.unimodal > 0)


def _planned(recipe: FinetuneRecipe, dataset: Dataset | None, init: Run | None) -> Lanistr:
    """Build on the meta device what a run would build."""
    source = dataset or init
    task = source.task if source else find_task(recipe.task or USUAL_TASK)
    with torch.device("meta"):
        planned = Lanistr(_config(recipe, task, dataset, init, recipe.init.local()))
    return planned.freeze_encoders() if recipe.freeze_encoders else planned


if __name__ == "__main__":
    run_command(main)
