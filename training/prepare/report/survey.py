"""Counts what records bring while they stream through, and checks the data set for leaks.

Memory is bounded but for a name, a few bytes a note, picture, row and series, and the groups.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import Field

from lanistr.errors import InputError
from lanistr.modalities import Modality
from lanistr.preprocess import Preprocessor
from lanistr.sample import Sample
from lanistr.schema import Schema
from lanistr.tasks import TaskSpec
from training.data.store import SPLITS, Split
from training.prepare.lazy import Shared
from training.prepare.report.duplicates import Duplicates, digest, same_across
from training.prepare.report.image import ImageSurvey
from training.prepare.report.issues import CaseLog, IssueCounts, field_of
from training.prepare.report.labels import Labels, label_checks
from training.prepare.report.leakage import LabelLeakage
from training.prepare.report.part import Check, PartSurvey, Records
from training.prepare.report.summaries import MOST_WORDS, SAMPLE, Numbers
from training.prepare.report.tabular import TabularSurvey
from training.prepare.report.text import TextSurvey
from training.prepare.report.timeseries import TimeseriesSurvey

SURVEYS: Mapping[Modality, type[PartSurvey]] = {
    Modality.TEXT: TextSurvey,
    Modality.IMAGE: ImageSurvey,
    Modality.TABULAR: TabularSurvey,
    Modality.TIMESERIES: TimeseriesSurvey,
}

_EXAMPLES = 5


class ReportOptions(Schema):
    """What the report shows.

    Attributes:
        thumbnails: number of pictures on the page, drawn with the seed. 0 shows none.
    """

    thumbnails: int = Field(default=12, ge=0, le=200)


class Survey:
    """What is counted of a data set.

    Args:
        task: what it is of.
        preprocessor: of what is stored.
        options: what the report shows.
        seed: of what is drawn.
        shares: of the splits, as they were asked for.
    """

    def __init__(
        self,
        task: TaskSpec,
        preprocessor: Preprocessor,
        options: ReportOptions,
        seed: int,
        shares: Sequence[float],
    ) -> None:
        self._task, self._shares = task, shares
        self._parts = {m: SURVEYS[m](preprocessor.parts[m]) for m in task.modalities}
        for part in self._parts.values():
            if isinstance(part, ImageSurvey):
                part.keep(options.thumbnails, seed)
        self._contents = {m: Duplicates() for m, part in self._parts.items() if part.alike}
        self._whole = Duplicates()
        self._leakage = LabelLeakage(
            task.label, {m: part.signals for m, part in self._parts.items()}, seed
        )
        self._issues = IssueCounts()
        self._refused: dict[tuple[str, str], list[str]] = defaultdict(list)
        self._refusals: Counter[tuple[str, str]] = Counter()
        self._ids: list[str] = []
        self._shared: dict[tuple[Modality, str], tuple[list[bytes], NDArray[np.float64]]] = {}
        self._presence: Counter[tuple[str, int]] = Counter()
        self._emptied: Counter[Modality] = Counter()
        self._labels = [Labels(task.label) for _ in SPLITS]
        self._subgroups: dict[str, dict[str, Labels]] = defaultdict(dict)

    def refuse(self, case: str, error: InputError) -> None:
        """Count a record that cannot be used."""
        kind = (error.code, field_of(error.field))
        self._refusals[kind] += 1
        if len(self._refused[kind]) < _EXAMPLES:
            self._refused[kind].append(f"{case}: {error}")

    def add(
        self,
        sample: Sample,
        split: Split,
        label: float,
        records: Mapping[Modality, Records],
        found: CaseLog,
    ) -> None:
        """Count a case: as its owner has it, and what is stored of it.

        Args:
            sample: as its owner has it.
            split: where it goes.
            label: its code or number, NaN for none.
            records: what is stored of it, without `Shared` parts that an earlier case brought.
                Those count as present, and are compared; their values were counted before.
            found: what was found wrong with it.
        """
        place, number, case = SPLITS.index(split), len(self._ids), str(sample.id)
        self._ids.append(case)
        self._issues.add(case, found)
        self._labels[place].add(label)
        for column, value in sample.subgroups.items():
            groups = self._subgroups[column]
            name = value if value in groups or len(groups) < MOST_WORDS else "(further values)"
            groups.setdefault(name, Labels(self._task.label)).add(label)
        kept = self._leakage.place(label)
        signals: dict[str, Any] = {}
        whole: list[bytes] = []
        present: set[Modality] = set()
        for modality, part in sample.parts.items():
            key = (modality, part.key) if isinstance(part, Shared) else None
            seen = None if key is None else self._shared.get(key)
            if seen is None:
                rows = records.get(modality)
                if not rows:
                    self._emptied[modality] += 1
                    continue
                survey = self._parts[modality]
                survey.add(part, rows, case, place)
                seen = [digest(each) for each in survey.contents(part, rows)], survey.signal(rows)
                if key is not None:
                    self._shared[key] = seen
            contents, signal = seen
            present.add(modality)
            whole += [modality.encode(), *contents]
            if modality in self._contents:
                for each in contents:
                    self._contents[modality].add(each, number, place)
            if kept is not None:
                signals[modality] = signal
        self._presence["+".join(m for m in self._task.modalities if m in present), place] += 1
        self._whole.add(digest(b"".join(whole)), number, place)
        if kept is not None:
            self._leakage.keep(kept, label, signals)

    def report(self, index: Path, source: Mapping[str, Any]) -> dict[str, Any]:
        """Return all that was counted and checked, fit for JSON.

        Args:
            index: the data set's index as it was written.
            source: where the records came from.
        """
        with pa.memory_map(str(index)) as file:
            table = pa.ipc.open_file(file).read_all()
            groups, checks = _groups(table)
        contents = {m: each.report(self._ids) for m, each in self._contents.items()}
        for modality, part in self._parts.items():
            if part.alike:
                checks.append(
                    same_across(part.items, contents[modality], part.alike, part.compared)
                )
        whole = self._whole.report(self._ids)
        checks.append(same_across("whole cases", whole, "warning", "in all that they bring"))
        for part in self._parts.values():
            checks += part.checks()
        strongest, check = self._leakage.report()
        labels: dict[str, Labels] = dict(zip(SPLITS, self._labels, strict=True))
        checks += [check, *label_checks(labels, self._shares)]
        cases = {split: each.cases for split, each in labels.items()}
        total = sum(cases.values())
        return {
            "task": self._task.model_dump(mode="json", include={"name", "title", "label"}),
            "source": dict(source),
            "cases": cases,
            "groups": groups,
            "checks": checks,
            "labels": {split: each.report() for split, each in labels.items()},
            "subgroups": {
                column: {name: values[name].report() for name in sorted(values)}
                for column, values in sorted(self._subgroups.items())
            },
            "presence": self._patterns(),
            "parts": {
                modality: {
                    "cases": (have := self._have(modality)),
                    "missing": {
                        split: round(1 - have[split] / n, 4) if n else None
                        for split, n in cases.items()
                    },
                    "nothing usable": self._emptied[modality],
                    "contents": contents.get(modality),
                    **part.report(),
                }
                for modality, part in self._parts.items()
            },
            "issues": self._issues.report(),
            "refused": [
                {
                    "code": code,
                    "field": field,
                    "records": self._refusals[code, field],
                    "share": round(self._refusals[code, field] / (total + self.refusals), 6),
                    "examples": self._refused[code, field],
                }
                for code, field in sorted(self._refusals)
            ],
            "strongest fields": strongest,
            "sampling": {
                "values": SAMPLE,
                "words": MOST_WORDS,
                "said": "Counts, means, minima and maxima are of all values. Quartiles and "
                f"histograms of more than {SAMPLE:,} values are those of a random sample of "
                f"{SAMPLE:,} (fixed seed); the median's rank is then right "
                "within 1.6 percentage points, 19 times in 20. Histograms run from the first to "
                "the 99th percentile; values beyond are counted in the outermost bars.",
            },
        }

    @property
    def refusals(self) -> int:
        """Number of records that were left out."""
        return self._refusals.total()

    def thumbnails(self) -> list[tuple[str, str]]:
        """Return the pictures to show: the case, and a JPEG as a data URL."""
        return [
            shown
            for part in self._parts.values()
            if isinstance(part, ImageSurvey)
            for shown in part.thumbnails()
        ]

    def _patterns(self) -> dict[str, dict[str, int]]:
        names = sorted({name for name, _ in self._presence}, key=lambda n: (-n.count("+"), n))
        return {
            name: {split: self._presence[name, i] for i, split in enumerate(SPLITS)}
            for name in names
        }

    def _have(self, modality: Modality) -> dict[str, int]:
        return {
            split: sum(
                n
                for (name, place), n in self._presence.items()
                if place == i and modality in name.split("+")
            )
            for i, split in enumerate(SPLITS)
        }


def _groups(index: pa.Table) -> tuple[dict[str, Any], list[Check]]:
    """Count groups; see in the index itself that none is in two splits, and no name there twice."""
    by_group = index.group_by("group", use_threads=False).aggregate(
        [("split", "count_distinct"), ("id", "count")]
    )
    torn = by_group.filter(pc.greater(by_group["split_count_distinct"], 1))["group"].to_pylist()
    sizes = Numbers()
    sizes.extend(by_group["id_count"].to_numpy())
    alone = by_group.num_rows == index.num_rows
    name = "Groups (patients, products) in several splits"
    if torn:
        check = Check(name, "leak", len(torn), "groups are in several splits", torn[:_EXAMPLES])
    elif alone:
        said = (
            f"each of the {index.num_rows:,} cases is its own group: if two can be of one "
            "patient, the records must say so"
        )
        check = Check(name, "ok", 0, said)
    else:
        check = Check(name, "ok", 0, f"{by_group.num_rows:,} groups, each in one split")
    by_id = index.group_by("id", use_threads=False).aggregate(
        [("split", "count_distinct"), ("id", "count")]
    )
    twice = by_id.filter(pc.greater(by_id["id_count"], 1))
    verdict: Any = "ok"
    if twice.num_rows:
        torn_ids = pc.max(twice["split_count_distinct"]).as_py() > 1
        verdict = "leak" if torn_ids else "warning"
    said = f"{by_id.num_rows:,} ids of {index.num_rows:,} cases"
    names: Sequence[str] = twice["id"].to_pylist()[:_EXAMPLES]
    distinct = Check("Ids shared by several cases", verdict, twice.num_rows, said, names)
    counts = {
        split: len(pc.unique(index.filter(pc.equal(index["split"], split))["group"]))
        for split in SPLITS
    }
    return {"by split": counts, "cases of a group": sizes.summary()}, [check, distinct]
