"""`python -m training.autogluon`: the real AutoGluon MultiModalPredictor on a prepared data set.

It takes a data frame with a column of text, one of encoded pictures, and columns of numbers and
categories; what it has no kind of column for, a series, comes as the summaries that the yardsticks
see (`training.columns`). It learns from the cases that `training.finetune` takes with the same
number and seed, is tuned on the validation split and judged on the test split.

Writes `report-test.json` as `training.yardsticks` does, and AutoGluon's own `predictor` beside it.
AutoGluon does not come with training, whose packages it pins lower: see the extra `autogluon`.
"""

import argparse
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image

from lanistr.command import run_command
from lanistr.document import read_yaml
from lanistr.errors import ConfigError
from lanistr.modalities import Modality
from lanistr.tasks import TaskSpec
from training.arguments import add_overrides
from training.baselines import REPORT, Cases, Outputs, baseline_parser, write_report
from training.columns import Columns, Positions, Rows, read_columns
from training.data.store import Dataset, new_folder
from training.evaluate import print_figures
from training.linear import as_outputs

EXAMPLE = (
    "python -m training.autogluon --data data/stays --out gluon/stays --labels 400"
    " --set optim.max_epochs=10"
)

LABEL = "label"
"""Name of the column to be predicted: those of the parts have a dot, or are called by modality."""

METRICS = {
    "auroc": "roc_auc",
    "auprc": "average_precision",
    "accuracy": "accuracy",
    "macro_f1": "f1_macro",
    "mae": "mean_absolute_error",
    "rmse": "root_mean_squared_error",
    "quadratic_kappa": "quadratic_kappa",
}
"""What AutoGluon calls the metrics of a task."""

PICTURES = "model.timm_image.max_image_num_per_column"
"""AutoGluon's setting for how many pictures of a case it looks at; it averages over them."""


def main() -> None:
    """Learn as the command line says, judge on the test split, write the report, print figures."""
    arguments = _parser().parse_args()
    predictor_class = _predictor_class()
    settings = hyperparameters(arguments.overrides)
    cases = Cases.open(arguments)
    task = cases.dataset.task
    with new_folder(arguments.out) as folder:
        # ---- what it takes ---------------------------------------------------------------------
        frame, kinds = as_frame(cases)
        train, validation, test, _ = cases.dealt(frame)
        if (most := most_pictures(frame)) > 1:
            settings.setdefault(PICTURES, most)

        # ---- what it does ----------------------------------------------------------------------
        predictor = predictor_class(
            label=LABEL,
            problem_type=problem_type(task),
            eval_metric=METRICS[task.metric],
            path=str(folder / "predictor"),
        )
        known = validation[LABEL].isin(train[LABEL]) if task.label.classes else slice(None)
        predictor.fit(
            train,
            tuning_data=validation[known],
            presets=arguments.presets,
            hyperparameters=settings,
            column_types=kinds,
            time_limit=arguments.time_limit,
            seed=arguments.seed,
        )
        said = [outputs_of(predictor, each, cases) for each in (validation, test)]

        # ---- how good that is ------------------------------------------------------------------
        about = {
            "method": "autogluon",
            "settings": settings,
            "presets": arguments.presets,
            "time_limit": arguments.time_limit,
            "validation": cases.validated(said[0])[0],
        }
        report = cases.report(about, "autogluon.multimodal", *said)
        write_report(report, cases, said[1], folder)
    print(f"autogluon, {len(cases.train)} labelled cases; {len(cases.test)} test cases")
    print_figures(report)
    print(arguments.out / REPORT)


# ---- what it takes ------------------------------------------------------------------------------


def as_frame(cases: Cases) -> tuple[Any, dict[str, str]]:
    """Return a data frame with a row for each of `Cases.everyone`, and what its columns are.

    Text is "" and everything else None or NaN where missing: AutoGluon puts an empty note, a black
    picture, the mean, or a category of its own there. Columns that are empty or the same in all
    training cases are left out.
    """
    import pandas as pd  # comes with AutoGluon

    learned = len(cases.train)
    columns: dict[str, Any] = {}
    kinds: dict[str, str] = {}
    readers = {Modality.IMAGE: _encoded}
    for modality, part in read_columns(cases.dataset, cases.everyone, readers).items():
        for name, kind, values in _named(modality, part):
            if _says_something(values[:learned]):
                columns[name], kinds[name] = values, kind
    targets = cases.dataset.labels[cases.everyone]
    columns[LABEL] = targets.astype(np.int64) if cases.dataset.task.label.classes else targets
    return pd.DataFrame(columns), kinds


def _named(modality: Modality, part: Columns) -> list[tuple[str, str, Any]]:
    """Return the columns of a part: name, AutoGluon's word for their kind, values (N,)."""
    found: list[tuple[str, str, Any]] = []
    if part.texts is not None:
        found.append((str(modality), "text", list(part.texts)))
    if part.pictures is not None:
        found.append((str(modality), "image_bytearray", list(part.pictures)))
    found += [
        (f"{modality}.{name}", "numerical", values)
        for name, values in zip(part.names, part.numbers.T, strict=True)
    ]
    found += [
        (f"{modality}.{name}", "categorical", words) for name, words in part.categories.items()
    ]
    return found


def _says_something(values: Sequence[Any]) -> bool:
    """Whether values are neither all missing nor all the same."""
    first = values[0]
    return any(each != first and not (each != each and first != first) for each in values[1:])


def _encoded(dataset: Dataset, modality: Modality, positions: Positions) -> Columns:
    """Return the pictures of each case as our models see them, as PNG."""
    found = Rows(dataset, modality, positions)
    files: list[bytes] = []
    for arrays in found.read():
        out = io.BytesIO()
        Image.fromarray(arrays["pixels"].transpose(1, 2, 0)).save(out, "PNG")
        files.append(out.getvalue())
    pictures: list[list[bytes] | None] = [None] * len(positions)
    for case, row in zip(found.case, found.place, strict=True):
        pictures[case] = [*(pictures[case] or []), files[row]]
    return Columns(found.present, numbers=np.empty((len(positions), 0)), pictures=pictures)


def most_pictures(frame: Any) -> int:
    """Return how many pictures a case of the frame brings at most."""
    pictures = frame.get(str(Modality.IMAGE), ())
    return max((len(each) for each in pictures if each is not None), default=1)


def problem_type(task: TaskSpec) -> str:
    """Return AutoGluon's word for what is predicted; it knows nothing of order."""
    return "multiclass" if task.label.kind == "ordinal" else task.label.kind


def hyperparameters(overrides: Sequence[str]) -> dict[str, Any]:
    """Read settings of AutoGluon, PATH=VALUE each.

    Raises:
        ConfigError: one is not such.
    """
    found: dict[str, Any] = {}
    for each in overrides:
        path, equals, text = each.partition("=")
        try:
            found[path] = read_yaml(text)
        except (yaml.YAMLError, ValueError):
            equals = ""
        if not equals or not path:
            raise ConfigError("not an override", field="--set", seen=each, accepted="path=value")
    return found


# ---- what it says -------------------------------------------------------------------------------


def outputs_of(predictor: Any, frame: Any, cases: Cases) -> Outputs:
    """Return what a fitted predictor says of cases, (N, C) log-probabilities or (N, 1) numbers."""
    label, asked = cases.dataset.task.label, frame.drop(columns=LABEL)
    if not label.classes:
        return np.asarray(predictor.predict(asked, as_pandas=False), np.float32).reshape(-1, 1)
    found = predictor.predict_proba(asked, as_pandas=True)
    classes: NDArray[np.int64] = found.columns.to_numpy().astype(np.int64)
    return as_outputs(found.to_numpy(), classes, label, len(cases.train))


def _predictor_class() -> Any:
    """Return AutoGluon's class.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        from autogluon.multimodal import MultiModalPredictor
    except ImportError as exc:
        raise ConfigError(
            f"AutoGluon is not installed: {exc}",
            code="no_autogluon",
            field="autogluon.multimodal",
            accepted="a separate environment with the extra: pip install 'lanistr[autogluon]'",
        ) from exc
    return MultiModalPredictor


def _parser() -> argparse.ArgumentParser:
    parser = baseline_parser(
        "autogluon",
        "Train AutoGluon's own MultiModalPredictor on a prepared data set, and evaluate it as "
        "LANISTR is. Needs the extra `autogluon`.",
        EXAMPLE,
    )
    parser.add_argument("--time-limit", type=int, help="seconds for training (no limit)")
    parser.add_argument(
        "--presets", help="preset of AutoGluon, such as medium_quality (its default)"
    )
    add_overrides(parser, "set an option of AutoGluon, such as optim.lr=1e-4")
    return parser


if __name__ == "__main__":
    run_command(main)
