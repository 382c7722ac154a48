"""Recipes: what is read, what is overridden, and what is refused in one clear line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lanistr.command import run_command
from lanistr.errors import ConfigError
from lanistr.modalities import Modality
from lanistr.model.baselines.albef import AlbefConfig
from lanistr.model.heads import HeadConfig
from lanistr.tasks import LabelSpec, find_task
from tests import forked
from training import finetune, pretrain
from training.plan import sizes_without_data
from training.recipe import (
    RECIPES,
    FinetuneRecipe,
    PretrainRecipe,
    head_config,
    load_recipe,
    model_config,
)

ROOT = Path(__file__).resolve().parents[2]
STAGES: dict[str, Any] = {"pretrain": PretrainRecipe, "finetune": FinetuneRecipe}


def load(*overrides: str, name: str = "demo", stage: Any = "pretrain") -> Any:
    return load_recipe(name, stage, STAGES[stage], overrides)


# ---- reading ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [path for stage in STAGES for path in sorted((RECIPES / stage).glob("*.yaml"))],
    ids=lambda path: f"{path.parent.name}-{path.stem}",
)
def test_every_recipe_of_the_house_is_valid(path: Path) -> None:
    recipe = load(name=path.stem, stage=path.parent.name)
    assert recipe.model["fusion"]


def test_the_papers_recipes_have_the_papers_hyper_parameters() -> None:
    mimic, office = load(name="mimic-iv"), load(name="amazon-office")
    papers = {"mlm": 1, "mim": 1, "mfm": 0, "mtm": 0.1, "simmmm": 0.5}
    assert mimic.losses.model_dump(exclude={"summary", "itc", "itm"}) == papers
    assert mimic.model.get("summary") is None
    papers = {"mlm": 1, "mim": 1, "mfm": 0.01, "mtm": 0, "simmmm": 0.5}
    assert office.losses.model_dump(exclude={"summary", "itc", "itm"}) == papers
    for recipe, epochs, clip in ((mimic, 40, 5), (office, 20, 4)):
        optim = recipe.optim
        assert (optim.lr, optim.weight_decay, optim.batch_size) == (1e-4, 0.02, 128)
        assert (optim.epochs, optim.clip, optim.betas) == (epochs, clip, (0.9, 0.999))
    expected = {
        "mortality": (1e-4, 0.02, 512, 500),
        "amazon-beauty": (1e-4, 0.1, 128, 200),
        "amazon-fashion": (5e-5, 0.1, 32, 200),
    }
    for name, figures in expected.items():
        recipe = load(name=name, stage="finetune")
        optim = recipe.optim
        assert (optim.lr, optim.weight_decay, optim.batch_size, optim.epochs) == figures
        assert recipe.freeze_encoders


def test_albefs_recipes_have_its_hyper_parameters() -> None:
    before, after = load(name="albef"), load(name="albef", stage="finetune")
    optim = before.optim
    assert (optim.lr, optim.weight_decay, optim.batch_size, optim.epochs) == (1e-4, 0.02, 512, 30)
    assert (before.losses.itc, before.losses.itm, before.losses.mlm) == (1, 1, 1)
    assert before.complete
    assert before.modalities == after.modalities == ("text", "image")
    sizes = model_config(sizes_without_data(before), None)
    assert sizes.text is not None
    assert (sizes.text.own_layers, sizes.text.lent_layers, sizes.text.mask_ratio) == (6, 6, 0.15)
    assert sizes.fusion == AlbefConfig(
        kind="albef", space=256, queue=65_536, momentum=0.995, soft=0.4, temperature=0.07
    )
    assert (after.optim.lr, after.model["head"]) == (2e-5, {"layers": 1, "dropout": 0})
    assert not after.freeze_encoders
    assert not after.complete


def test_a_recipe_may_be_a_file_of_ones_own_that_names_a_model_and_changes_it(
    tmp_path: Path,
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "model: {like: demo, text: {layers: 3}, simmmm: null}\n"
        "optim: {lr: 0.001, weight_decay: 0, epochs: 1, batch_size: 2}\n"
    )
    recipe = load(name=str(path))
    assert recipe.model["text"] == {**load().model["text"], "layers": 3}
    assert recipe.model["image"] == load().model["image"]
    assert recipe.model["simmmm"] is None


# ---- overriding ---------------------------------------------------------------------------------


def test_overrides_reach_any_depth_and_read_values_as_yaml() -> None:
    recipe = load("optim.lr=1e-4", "model.text.layers=3", "losses.mtm=0", "optim.betas=[0.8, 0.9]")
    assert recipe.optim.lr == 1e-4
    assert recipe.model["text"]["layers"] == 3
    assert recipe.losses.mtm == 0
    assert recipe.optim.betas == (0.8, 0.9)


def test_an_override_may_add_a_group_that_the_recipe_lacks_and_later_ones_win() -> None:
    recipe = load(
        "model.head.dropout=0.1", "labels=7", "labels=9", "task=mortality", stage="finetune"
    )
    assert recipe.model["head"] == {"dropout": 0.1}
    assert (recipe.labels, recipe.task) == (9, "mortality")


# ---- refusing -----------------------------------------------------------------------------------

WRONG = {
    "smal": ((), "did you mean 'small'"),
    "demo": (("optim.lrr=1",), "did you mean 'lr'"),
    "mimic-iv": (("model.text.widht=8",), "model.text.widht: recipe: unknown key"),
    "small": (("optim.epochs=0",), "optim.epochs"),
    "./small.yaml": ((), "no such pretrain recipe"),
}


@pytest.mark.parametrize(("name", "overrides", "said"), [(n, *w) for n, w in WRONG.items()])
def test_a_wrong_recipe_ends_the_command_with_one_line_and_code_2(
    name: str,
    overrides: tuple[str, ...],
    said: str,
    command: Callable[..., str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as left:
        run_command(
            lambda: print(
                command(pretrain.main, "--dry-run", "--recipe", name, overrides=overrides)
            )
        )
    assert left.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert said in err


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("optim.lr", "path=value"),
        ("=3", "path=value"),
        ("optim.lr.deep=1", "not a group of settings"),
        ("optim.lr=[1", "not a value"),
        ("optim.rates={text: 1, text: 2}", "not a value: the key 'text' appears twice"),
        ("seed=010", "not a value: 010 would be read as 8: write a number without a leading zero"),
        ("optim.batch_size=1:30", "not a value: 1:30 would be read as 90"),
        ("optim.lr=0:30.5", "not a value: 0:30.5 would be read as 30.5"),
        ("optim.lr=2020-13-45", "optim.lr"),
        ("optim.lr=fast", "optim.lr"),
        ("optim.lr=nan", "optim.lr"),
        ("optim.lr=-1", "optim.lr"),
        ("optim.lr=", "optim.lr"),
        ("losses.mln=1", "did you mean 'mlm'"),
        ("sed=1", "did you mean 'seed'"),
        ("model=small", "model"),
        ("model.text=3", "model.text"),
    ],
)
def test_a_wrong_override_is_one_line_that_says_where(override: str, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load(override)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model: {like: dmo}", "did you mean 'demo'"),
        ("model: {like: demo, text: 3}", "model.text"),
        ("model: [", "not YAML"),
        ("", "not a recipe"),
        ("- model", "not a recipe"),
        ("optim: {lr: 1}", "model"),
        ("model: demo\nseed: 1\nseed: 2", "mine.yaml: line 3: a key appears twice; seen 'seed'"),
    ],
)
def test_a_wrong_file_is_one_line_that_names_it_or_the_key(
    tmp_path: Path, text: str, said: str
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as refused:
        load(name=str(path))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("model.text.layrs=2", "model.text.layrs: recipe: unknown key; seen 2; accepted: did you"),
        ("model.text.layers=0", "model.text.layers: recipe: "),
        ("model.head.kind=foo", "model.head: pretraining has no head"),
        ("optim.rates={foo: 1}", "optim.rates: not a trained part of the model"),
        ("optim.plateau=3", "optim.plateau: pretraining has no validation"),
    ],
)
def test_a_dry_run_refuses_what_a_run_would(
    command: Callable[..., str], override: str, said: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        command(pretrain.main, "--dry-run", "--recipe", "demo", overrides=(override,))
    assert str(refused.value).startswith(said)


def test_what_pretraining_cannot_have_is_refused_before_the_data_are_read(
    command: Callable[..., str], tmp_path: Path
) -> None:
    words = ("--recipe", "demo", "--data", tmp_path / "none", "--out", tmp_path / "run")
    with pytest.raises(ConfigError, match=r"optim\.plateau: pretraining has no validation"):
        command(pretrain.main, *words, overrides=("optim.plateau=3",))


@pytest.mark.parametrize(
    ("override", "of_use"),
    [
        (("losses.itc=2",), False),
        (("losses.summary=0",), True),  # does no harm
        (("losses.summary=2",), False),
        (("losses.summary=2", "model.summary.width=8"), True),
        (("system=albef",), True),
        (("system=albef", "losses.summary=2"), False),
    ],
)
def test_the_weight_of_a_loss_that_the_model_has_not_is_warned_of(
    override: tuple[str, ...],
    of_use: bool,
    command: Callable[..., str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    command(pretrain.main, "--dry-run", "--recipe", "demo", overrides=override)
    name = next((each for each in override if each.startswith("losses.")), "").partition("=")[0]
    said = [m for r in caplog.records if (m := r.getMessage()).startswith("losses.")]
    assert said == ([] if of_use else [f"{name} has no effect: the model has no such loss"])


@pytest.mark.parametrize("wrong", ["[1, -2]", "[1, heavy]", "[1, true]", "[.inf]", "foo", "2"])
def test_wrong_class_weights_are_told_all_that_is_accepted(wrong: str) -> None:
    with pytest.raises(
        ConfigError, match=r"^class_weights: .*equal, balanced, or a number above 0"
    ):
        load(f"class_weights={wrong}", stage="finetune")


def test_the_real_commands_leave_with_code_2_and_one_line() -> None:
    wrong = {
        "pretrain": (["--recipe", "mimic-v", "--dry-run"], "did you mean 'mimic-iv'"),
        "finetune": (["--recipe", "small", "--set", "optim.lr=x"], "optim.lr"),
    }
    for stage, (options, words) in wrong.items():
        done = forked.run(f"training.{stage}", *options)
        assert done.returncode == 2
        assert done.stdout == ""
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1
        assert words in done.stderr


@pytest.mark.parametrize("main", [pretrain.main, finetune.main])
def test_a_dry_run_without_data_plans_for_the_usual_task(
    command: Callable[..., str], main: Callable[[], None]
) -> None:
    plan = json.loads(command(main, "--dry-run", "--recipe", "demo"))
    assert plan["model"]["timeseries"]["features"] == 59
    assert plan["model"]["tabular"]["numbers"] == 4
    assert plan["model"]["text"]["vocab_size"] == 30522
    assert plan["parameters"]["total"] == sum(plan["parameters"]["by_module"].values())


# ---- sizes and heads ----------------------------------------------------------------------------

DATA: dict[Modality, dict[str, Any]] = {
    Modality.TABULAR: {"numbers": 2, "categories": [4, 5]},
    Modality.IMAGE: {"size": 16},
}


def test_what_the_data_decide_is_taken_from_the_data() -> None:
    config = model_config(load().model, DATA)
    assert config.modalities == (Modality.IMAGE, Modality.TABULAR)
    assert config.tabular is not None
    assert (config.tabular.numbers, config.tabular.categories) == (2, (4, 5))
    assert config.tabular.width == load().model["tabular"]["width"]
    assert config.head is None


def test_a_model_cannot_do_without_what_the_data_bring() -> None:
    with pytest.raises(
        ConfigError, match=r"model\.image: the data have a modality that the model does not"
    ):
        model_config(load("model.image=null").model, DATA)


@pytest.mark.parametrize(
    ("label", "ordinal", "kind", "outputs"),
    [
        (find_task("mortality").label, "score", "classes", 2),
        (find_task("rating").label, "score", "ordinal", 5),
        (find_task("rating").label, "classes", "classes", 5),
        (LabelSpec(kind="regression", name="days"), "score", "regression", 1),
    ],
)
def test_the_label_decides_the_head(
    label: LabelSpec, ordinal: str, kind: str, outputs: int
) -> None:
    recipe = load(f"ordinal={ordinal}", "model.head.dropout=0.2", stage="finetune")
    config = model_config(recipe.model, DATA, head_config(label, recipe))
    assert config.head is not None
    assert (config.head.kind, config.head.outputs, config.head.dropout) == (kind, outputs, 0.2)


@pytest.mark.parametrize(("name", "value"), [("outputs", 7), ("kind", "regression")])
def test_no_recipe_decides_what_the_head_says(name: str, value: Any) -> None:
    head = HeadConfig(kind="classes", outputs=2)
    with pytest.raises(
        ConfigError, match=rf"model\.head\.{name}: .*determines what the head outputs"
    ):
        model_config({"head": {name: value}}, None, head)
