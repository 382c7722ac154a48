"""Whether a run fits a data set: the same fitted preprocessing, the same label."""

import json
from pathlib import Path

from lanistr.errors import DataError
from lanistr.modalities import Modality
from lanistr.preprocess.base import STATE_FILE
from lanistr.preprocess.text import TOKENIZER_FILE
from lanistr.tasks import LabelSpec
from training.data.store import Dataset
from training.run import Run


def check_fits(run: Run, dataset: Dataset) -> None:
    """Check that a model can read a data set: the fitted preprocessing must be the same.

    Raises:
        DataError: the data set was preprocessed otherwise than the model expects.
    """
    ours, theirs = (set(each.task.modalities) for each in (run, dataset))
    for modality in sorted(ours | theirs):
        if modality not in ours & theirs:
            raise DataError(
                f"only one of the data and the run has {modality}",
                code="bad_fit",
                field=str(dataset.folder),
                seen=", ".join(dataset.task.modalities),
                accepted=", ".join(run.task.modalities),
            )
        check_part_fits(run, dataset, modality)


def check_part_fits(run: Run, dataset: Dataset, modality: Modality) -> None:
    """Check that an encoder can read a data set: its modality's fitted preprocessing is the same.

    Raises:
        DataError: the modality was preprocessed otherwise than the encoder expects.
    """
    if not same_preprocessing(run.folder, dataset.folder, modality):
        raise DataError(
            f"the data set's {modality} was not preprocessed as for the run: sizes, vocabulary, "
            "means or category codes differ",
            code="bad_fit",
            field=str(dataset.folder),
            accepted=f"data prepared with --preprocessing {run.folder}",
        )


def same_preprocessing(one: Path, other: Path, modality: Modality) -> bool:
    """Whether a modality's fitted preprocessing is the same in two runs or data sets."""
    return _fitted_state(one, modality) == _fitted_state(other, modality)


def _fitted_state(folder: Path, modality: Modality) -> tuple[object, bytes]:
    """Return the fitted state of a modality, and the vocabulary file that it may name."""
    state = json.loads((folder / STATE_FILE).read_text(encoding="utf-8")).get(modality)
    named = isinstance(state, dict) and TOKENIZER_FILE in state.values()
    return state, (folder / TOKENIZER_FILE).read_bytes() if named else b""


def check_predicts(run: Run, dataset: Dataset) -> None:
    """Check that a run predicts what a data set's labels say.

    Raises:
        DataError: the run was not fine-tuned, or on other labels.
    """
    if run.config.stage != "finetune":
        raise DataError(
            "the run has no head",
            field=str(run.folder),
            seen=run.config.stage,
            accepted="a fine-tuned run",
        )
    ours, theirs = (_describe(each.task.label) for each in (run, dataset))
    if ours != theirs:
        raise DataError(
            "the data set's label differs from the one the run was trained on",
            code="bad_fit",
            field=str(dataset.folder),
            seen=theirs,
            accepted=ours,
        )


def _describe(label: LabelSpec) -> str:
    """Describe all that decides what an answer means: the unit and the classes' values too."""
    values = label.values and f"worth {', '.join(map(str, label.values))}"
    unit = label.unit and f"in {label.unit}"
    said = (label.kind, label.name, ", ".join(label.classes), values, unit)
    return " ".join(each for each in said if each)
