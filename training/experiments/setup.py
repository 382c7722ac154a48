"""The rows of a table: on what and how systems are trained, and the jobs behind each row."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from lanistr.errors import ConfigError
from lanistr.modalities import Modality
from training.cases import brings_all
from training.data.store import Dataset
from training.experiments.jobs import Job, overrides, recipe_of
from training.recipe import RECIPES, FinetuneRecipe, PretrainRecipe, load_recipe

Scale = Literal["demo", "small", "paper"]
SCALES: Sequence[Scale] = ("demo", "small", "paper")

_PAPER_RECIPES = {"mortality": ("mimic-iv", "mortality"), "rating": ("amazon-office", "amazon-{}")}
"""By task, the recipes of pretraining and fine-tuning at the paper's sizes."""

_PUBLISHED_WEIGHTS = {
    "text": "bert-base-uncased",
    "image": "google/vit-base-patch16-224",
    "fusion": "facebook/flava-full",
}
"""What the paper starts from. Source: LANISTR paper, section 4."""

_BUDGET = ("lr", "epochs", "batch_size")
"""Of optimisation: what all systems get alike but at the paper's sizes, see `_alike`."""

_TREATMENT = ("modality_dropout", "ordinal")
"""Of fine-tuning, likewise."""

_AS_PUBLISHED: Mapping[Scale, Sequence[str]] = {"small": ("model.fusion.shortcut=null",)}
"""By scale, settings that leave out of a recipe's model what the paper's has not."""

_PAIR = (Modality.TEXT, Modality.IMAGE)
"""What ALBEF learns from."""

_LONGEST_QUEUE = 65_536
"""ALBEF's, as published."""


@dataclass(frozen=True)
class Row:
    """A line of a table.

    Attributes:
        key: by which others speak of it.
        name: as the table shows it.
        by_seed: for each seed the runs among which the validation split chooses.
    """

    key: str
    name: str
    by_seed: tuple[tuple[Job, ...], ...]


@dataclass(frozen=True)
class LeftOut:
    """A line that cannot be filled from these data, and why."""

    key: str
    name: str
    why: str


@dataclass(frozen=True)
class Setup:
    """On what, and how, the systems of a table are trained.

    Attributes:
        data: prepared data set of the task.
        worded: the same prepared with `--tab2txt`, if there is one.
        unlabelled: data set to pretrain on, preprocessed as `data`; None for `data` itself.
        worded_unlabelled: the same prepared with `--tab2txt`, preprocessed as `worded`.
        scale: whose recipes are taken.
        category: of Amazon's fine-tuning at the paper's sizes.
        seeds: of everything that is drawn in a run.
        labels: labelled cases to learn from; None for all.
        rates: learning rates of fine-tuning among which the validation split chooses; none for the
            recipe's.
        pretrain_once: pretrain with the first seed only, as the paper did.
        pretrain, finetune: settings of every pretraining and fine-tuning.
        pretrained: settings of fine-tunings that start from a pretrained run.
    """

    data: Path
    worded: Path | None = None
    unlabelled: Path | None = None
    worded_unlabelled: Path | None = None
    scale: Scale = "small"
    category: str = "beauty"
    seeds: tuple[int, ...] = (0, 1, 2)
    labels: int | None = None
    rates: tuple[float, ...] = ()
    pretrain_once: bool = False
    pretrain: tuple[str, ...] = ()
    finetune: tuple[str, ...] = ()
    pretrained: tuple[str, ...] = ()

    # ---- jobs ----------------------------------------------------------------------------------

    def pretraining(
        self,
        key: str,
        seed: int,
        *settings: str,
        system: str | None = None,
        modalities: Sequence[Modality] = (),
    ) -> Job:
        """Return a pretraining of a system, with settings of its own; see `finetunings`."""
        seed = self.seeds[0] if self.pretrain_once else seed
        recipe, of_system = self.recipe("pretrain", system)
        data = self.pretrained_on
        if system == "albef" and self.scale != "paper":
            of_system = [*of_system, f"model.fusion.queue={_queue(data)}"]
        published = () if system else _AS_PUBLISHED.get(self.scale, ())
        words = [*of_system, f"seed={seed}", *self.pretrain, *settings, *_only(modalities)]
        words += published
        command = ("training.pretrain", "--recipe", recipe, "--data", data, *overrides(words))
        return _training(f"{key}-pretrained-{seed}", command)

    def finetunings(
        self,
        key: str,
        seed: int,
        *settings: str,
        system: str | None = None,
        start: tuple[object, ...] = (),
        modalities: Sequence[Modality] = (),
    ) -> tuple[Job, ...]:
        """Return fine-tunings of a system, one a learning rate.

        Args:
            key: of the row.
            seed: of the run.
            settings: of its own.
            system: None for LANISTR.
            start: `--init` or `--encoders` with the jobs whose weights it starts from.
            modalities: that it sees; none for all that it can.
        """
        recipe, of_system = self.recipe("finetune", system)
        brought = modalities or self.modalities
        words = [*of_system, f"seed={seed}", *self.finetune]
        words += self.pretrained if "--init" in start else ()
        words += [] if self.labels is None else [f"labels={self.labels}"]
        words += _only(modalities)
        # Who hides the one thing that a case shows learns from nothing.
        words += ["modality_dropout=0"] if len(brought) == 1 else []
        grid = [[f"optim.lr={rate:g}"] for rate in self.rates] or [[]]
        return tuple(
            _training(
                f"{key}-{seed}",
                (
                    *("training.finetune", "--recipe", recipe, "--data", self.data),
                    *start,
                    *overrides([*words, *rate, *settings]),
                ),
                judged_on=self.data,
            )
            for rate in grid
        )

    def yardstick(self, method: str, seed: int) -> tuple[Job, ...]:
        """Return a classical method on the same cases."""
        labels = () if self.labels is None else ("--labels", self.labels)
        words = ("--data", self.data, "--method", method, "--seed", seed, *labels)
        return (Job(f"{method}-{seed}", ("training.yardsticks", *words), on_device=False),)

    def row(self, key: str, name: str, by_seed: Callable[[int], tuple[Job, ...]]) -> Row:
        """Return a row by what it runs for a seed."""
        return Row(key, name, tuple(map(by_seed, self.seeds)))

    def lanistr(
        self,
        key: str,
        name: str,
        *pretrain: str,
        modalities: Sequence[Modality] = (),
        system: str | None = None,
    ) -> Row:
        """Return a row of a system that is pretrained and fine-tuned.

        Args:
            key: of the row.
            name: of the row.
            *pretrain: settings of pretraining.
            modalities: that it sees in both stages; none for all that it can.
            system: None for LANISTR.
        """

        def by_seed(seed: int) -> tuple[Job, ...]:
            of: Any = {"system": system, "modalities": modalities}
            before = self.pretraining(key, seed, *pretrain, **of)
            return self.finetunings(key, seed, start=("--init", before), **of)

        return self.row(key, name, by_seed)

    def scratch(self, key: str, name: str) -> Row:
        """Return a row of LANISTR without pretraining."""
        return self.row(key, name, self.scratches)

    def scratches(self, seed: int, modalities: Sequence[Modality] = ()) -> tuple[Job, ...]:
        """Return fine-tunings of LANISTR from public weights where it is of the paper's sizes."""
        settings = ["freeze_encoders=false", *_AS_PUBLISHED.get(self.scale, ())]
        if self.scale == "paper":
            fitting = {"fusion", *(modalities or self.modalities)}
            weights = {part: w for part, w in _PUBLISHED_WEIGHTS.items() if part in fitting}
            settings += [f"init.{part}={name}" for part, name in weights.items()]
        name = "-".join([*modalities, "alone"]) if modalities else "scratch"
        return self.finetunings(name, seed, *settings, modalities=modalities)

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """Those that the data bring."""
        return Dataset.open(self.data).task.modalities

    @property
    def pretrained_on(self) -> Path:
        """The data to pretrain on."""
        return self.unlabelled or self.data

    @property
    def in_words(self) -> "Setup | None":
        """The same on the data with words in the place of rows; None where some are not there."""
        if self.worded is None or (self.unlabelled and not self.worded_unlabelled):
            return None
        return replace(self, data=self.worded, unlabelled=self.worded_unlabelled)

    def recipe(
        self, stage: Literal["pretrain", "finetune"], system: str | None
    ) -> tuple[str, list[str]]:
        """Return the recipe of a system, and the settings that make it that system's.

        Raises:
            ConfigError: there are no recipes of the paper's sizes for the task.
        """
        if self.scale != "paper":
            if system is None:
                return self.scale, []
            return self.scale, [
                f"system={system}",
                *_alike(self.scale, stage, system, self.finetune),
            ]
        if system and (RECIPES / stage / f"{system}.yaml").is_file():
            return system, []
        task = Dataset.open(self.data).task.name
        if task not in _PAPER_RECIPES:
            raise ConfigError(
                "there are no recipes of the paper's sizes for this task",
                field="--scale",
                seen=f"paper, task {task}",
                accepted="data of " + " or ".join(_PAPER_RECIPES) + ", or --scale small",
            )
        recipe = dict(zip(("pretrain", "finetune"), _PAPER_RECIPES[task], strict=True))[stage]
        return recipe.format(self.category), [f"system={system}"] if system else []


def _training(name: str, command: tuple[object, ...], judged_on: Path | None = None) -> Job:
    """Return the job of a training, whose recipe is read before anything is run.

    Raises:
        ConfigError: a key or value is wrong.
    """
    return Job(name, command, judged_on=judged_on, recipe=recipe_of(command))


def _alike(
    recipe: str, stage: Literal["pretrain", "finetune"], system: str, finetune: Sequence[str]
) -> list[str]:
    """Return the settings that a system shares with LANISTR, so that it alone is compared.

    Rate, epochs, batches and patience; how often a part of a case is hidden; what the head of an
    ordered label is. Rates that fall before the patience ends do so after as large a part of it, as
    `finetune` changes it.
    """
    if stage == "pretrain":
        optim = load_recipe(recipe, stage, PretrainRecipe, ()).optim
        return [f"optim.{each}={getattr(optim, each)}" for each in _BUDGET]
    ours = load_recipe(recipe, stage, FinetuneRecipe, ())
    own = load_recipe(recipe, stage, FinetuneRecipe, [f"system={system}"])
    settings = [f"optim.{each}={getattr(ours.optim, each)}" for each in _BUDGET]
    settings += [f"{each}={getattr(ours, each)}" for each in ("patience", *_TREATMENT)]
    if own.optim.plateau is not None:
        patience = load_recipe(recipe, stage, FinetuneRecipe, finetune).patience
        settings.append(f"optim.plateau={round(own.optim.plateau * patience / own.patience)}")
    return settings


def _queue(data: Path) -> int:
    """Return how long ALBEF's queue is: no longer than there are pairs to learn from.

    Of a longer one part stays empty, or is what weights of long ago made of a case.
    """
    dataset = Dataset.open(data)
    if not {*_PAIR} <= {*dataset.task.modalities}:
        return 0  # as in a row that is left out
    pairs = dataset.only(_PAIR)
    return min(int(brings_all(pairs, pairs.rows("train")).sum()), _LONGEST_QUEUE)


def _only(modalities: Sequence[Modality]) -> list[str]:
    """Return the setting that leaves other modalities out; none where all are taken."""
    return [f"modalities=[{', '.join(modalities)}]"] if modalities else []
