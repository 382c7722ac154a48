"""Tab2Txt: what a table row says, as words in front of the notes, in the place of the row.

Nothing is fitted: a value is cleaned by what the task says of its field, and spelled out.

Source: LANISTR paper, section 5 (baselines), which does not say how values are worded.
"""

from dataclasses import replace
from typing import Any

from lanistr.errors import ConfigError
from lanistr.issues import IssueLog
from lanistr.modalities import Modality
from lanistr.preprocess.values import cleaner
from lanistr.sample import Sample
from lanistr.tasks import TaskSpec, TextSpec
from training.prepare.lazy import Shared


class Tab2Txt:
    """Rewrites samples of a task.

    Attributes:
        task: of what comes out: the same without table rows.

    Raises:
        ConfigError: the task has no rows to put into words.
    """

    def __init__(self, task: TaskSpec) -> None:
        if task.tabular is None:
            raise ConfigError(
                f"the task {task.name} has no table row to write as text",
                field="--tab2txt",
                accepted="a task with tabular fields, or no --tab2txt",
            )
        self._cleaners = {name: cleaner(spec) for name, spec in task.tabular.fields.items()}
        minimum = tuple(
            tuple(dict.fromkeys(_OTHER.get(each, each) for each in parts)) for parts in task.minimum
        )
        self.task = task.model_copy(
            update={"tabular": None, "text": task.text or TextSpec(), "minimum": minimum}
        )

    def __call__(self, sample: Sample, log: IssueLog) -> Sample:
        """Return a sample whose notes each begin with what its row says, and that has no row.

        A sample without notes gets one of these words alone. Where nothing usable is in the row,
        the notes stay as they are.

        Args:
            sample: as its owner has it.
            log: takes what was done to the row's values.

        Raises:
            InputError: a value cannot be used at all.
        """
        parts = dict(sample.parts)
        words = self._words(parts.pop(Modality.TABULAR, {}), log)
        notes = parts.get(Modality.TEXT)
        if words and isinstance(notes, Shared):
            parts[Modality.TEXT] = Shared(
                f"{notes.key} {words}", lambda: [f"{words} {note}" for note in notes]
            )
        elif words:
            parts[Modality.TEXT] = tuple(f"{words} {note}".strip() for note in notes or ("",))
        return replace(sample, parts=parts)

    def _words(self, row: Any, log: IssueLog) -> str:
        """Return such as `age 71, gender F.`; missing values are left out."""
        said: list[str] = []
        for name, clean in self._cleaners.items():
            value = clean(row.get(name), f"tabular.{name}", log)
            if value is not None:
                spelled = value if isinstance(value, str) else _number(value)
                said.append(f"{name.replace('_', ' ')} {spelled}")
        return ", ".join(said) + "." if said else ""


_OTHER = {Modality.TABULAR: Modality.TEXT}


def _number(value: float) -> str:
    """Spell a number with up to four digits behind the point, a tiny one with its first four."""
    if 0 < abs(value) < 0.001:
        return f"{value:.4g}"
    return f"{value:.4f}".rstrip("0").rstrip(".")
