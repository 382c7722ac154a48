"""Records become a prepared data set: split by group, fit on training cases, store every case."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field
from tqdm import tqdm

from lanistr.errors import ConfigError, DataError, InputError
from lanistr.issues import IssueLog
from lanistr.modalities import Modality
from lanistr.preprocess import PreprocessOptions, Preprocessor
from lanistr.sample import Sample
from lanistr.schema import Schema
from lanistr.tasks import TaskSpec
from training.data.codecs import Codec, codec
from training.data.store import SPLITS, Dataset, Split, new_folder
from training.data.writer import DatasetWriter, StoredPart
from training.prepare.lazy import Shared
from training.prepare.problems import Problems
from training.prepare.report.issues import CaseLog, field_of
from training.prepare.report.page import write_report
from training.prepare.report.survey import ReportOptions, Survey
from training.prepare.tab2txt import Tab2Txt

log = logging.getLogger(__name__)

SHOWN = ReportOptions()
"""What a report shows if nothing else is asked for."""

Place = tuple[Path | str, int | None]
"""The raw file that a case is of, and its row there, from 1, where that is known."""


def no_place(case: Sample) -> Place:
    """Return the place of a case that comes from no file."""
    return "the cases", None


class SplitOptions(Schema):
    """How the groups (patients, products) are dealt out.

    Attributes:
        shares: of train, validation and test; they add up to 1.
        seed: of the draw.
    """

    shares: tuple[float, float, float] = (0.8, 0.1, 0.1)
    seed: int = Field(default=0, ge=0, lt=2**32)


def prepare(
    samples: Callable[[], Iterable[Sample]],
    task: TaskSpec,
    out: Path,
    *,
    options: PreprocessOptions,
    splits: SplitOptions,
    source: Mapping[str, Any],
    problems: Problems | None = None,
    place_of: Callable[[Sample], Place] = no_place,
    split_of: Mapping[str, Split] | None = None,
    fitted: Preprocessor | None = None,
    tab2txt: Tab2Txt | None = None,
    report: ReportOptions = SHOWN,
) -> Dataset:
    """Prepare a data set from records, and report on it.

    Args:
        samples: yields all records anew at each call, always the same. A `Shared` part is
            prepared once for all samples that bring it.
        task: what the records are of.
        out: the folder to make; nothing is left there if anything fails.
        options: how each modality is preprocessed.
        splits: how groups are dealt out.
        source: provenance, kept in `dataset.json`.
        problems: what was wrong with the raw files; cases that cannot be used are added. Its
            counts are stored with `source`.
        place_of: tells where a case stands in the raw files.
        split_of: the split of every group; None: drawn.
        fitted: preprocessing to use, instead of fitting one by `options` on the training cases.
        tab2txt: puts table rows into words; the data set is then of its task.
        report: what the report in the data set shows.

    Raises:
        DataError: `out` exists, there are no records, or too many problems.
        ConfigError: the shares do not add up.
    """
    if split_of is None:
        split_of = assign_splits(sorted({_group(sample) for sample in samples()}), splits)

    def training() -> Iterable[Sample]:
        chosen = (s for s in samples() if split_of[_group(s)] == "train")
        return _each_once(_in_words(chosen, tab2txt) if tab2txt else chosen)

    if tab2txt:
        task = tab2txt.task

    with new_folder(out) as draft:
        if fitted is None:
            log.info("fitting preprocessing on the training split")
        preprocessor = fitted or Preprocessor.fit(training, task, options)
        codecs = {m: codec(preprocessor.parts[m]) for m in task.modalities}
        writer = DatasetWriter(draft, task, preprocessor)
        survey = Survey(task, preprocessor, report, splits.seed, splits.shares)
        issues: Counter[str] = Counter()
        refused: Counter[str] = Counter()
        shared: dict[tuple[Modality, str], StoredPart] = {}
        for sample in tqdm(samples(), desc="preparing", unit=" cases", disable=None):
            found, brought = CaseLog(), bool(sample.parts)
            try:
                if tab2txt:
                    sample = tab2txt(sample, found)
                known, records = _encode(sample, codecs, shared, found)
            except InputError as exc:
                refused[exc.code] += 1
                survey.refuse(str(sample.id), exc)
                # A case without any part, as of a patient without records, is no fault of a file.
                if problems is None or not brought:
                    log.warning("%s was left out: %s", sample.id, exc)
                else:
                    _report_refused(problems, sample, place_of(sample), exc, found)
                continue
            issues.update({f"{code}/{action}": n for (code, action), n in found.counts.items()})
            parts = known | {m: writer.store(m, rows) for m, rows in records.items()}
            shared.update(
                ((modality, part.key), parts[modality])
                for modality, part in sample.parts.items()
                if isinstance(part, Shared)
            )
            group, label = _group(sample), task.label.encode(sample.label)
            survey.add(sample, split_of[group], label, records, found)
            writer.add(
                case_id=str(sample.id),
                split=split_of[group],
                group=group,
                label=label,
                subgroups=sample.subgroups,
                parts=parts,
            )
        index = writer.write_index(refused)
        source = {**source, "problems": dict(sorted(problems.counts.items())) if problems else {}}
        columns = problems.by_column() if problems else []
        for check in write_report(draft, survey, index, source, columns):
            if check.told:
                log.warning("%s", check.told)
        writer.close(
            issues,
            refused,
            {
                **source,
                "preprocessing": "fitted elsewhere" if fitted else options.model_dump(mode="json"),
                "tab2txt": tab2txt is not None,
                "splits": splits.model_dump(),
            },
        )
    return Dataset.open(out)


def _encode(
    sample: Sample,
    codecs: Mapping[Modality, Codec],
    shared: Mapping[tuple[Modality, str], StoredPart],
    found: CaseLog,
) -> tuple[dict[Modality, StoredPart], dict[Modality, Sequence[Mapping[str, Any]]]]:
    """Return the parts that an earlier case has stored already, and the rows to store of the rest.

    Raises:
        InputError: a part, or all of the case, cannot be used.
    """
    known = {
        modality: shared[modality, part.key]
        for modality, part in sample.parts.items()
        if isinstance(part, Shared) and (modality, part.key) in shared
    }
    records = {
        modality: codecs[modality].write(part, found)
        for modality, part in sample.parts.items()
        if modality not in known
    }
    if not any(records.values()) and not any(part.rows for part in known.values()):
        raise InputError("nothing in the case can be used", code="nothing_usable")
    return known, records


def _report_refused(
    problems: Problems, case: Sample, place: Place, error: InputError, found: CaseLog
) -> None:
    """Report a case that cannot be used, with its values and what became of them."""
    kinds = sorted(found.seen)
    # An issue of a part as a whole adds nothing to those of its fields.
    kinds = [kind for kind in kinds if "." in kind[0]] or kinds
    lost = {kind[0]: found.seen[kind][0] for kind in kinds}
    if error.field:
        lost = {field_of(error.field): error.seen}
    became = ", ".join(f"{field} {code}" for field, code, _ in kinds)
    problems.add(
        error.code,
        f"{error.message}; case {case.id} is left out" + (f" ({became})" if became else ""),
        file=place[0],
        row=place[1],
        column=", ".join(lost),
        seen=next(iter(lost.values())) if len(lost) == 1 else list(lost.values()) or None,
    )


def _in_words(samples: Iterable[Sample], tab2txt: Tab2Txt) -> Iterator[Sample]:
    """Put the rows of samples into words, without those that cannot be used."""
    for sample in samples:
        with suppress(InputError):
            yield tab2txt(sample, IssueLog())  # issues are reported when the case is stored


def _each_once(samples: Iterable[Sample]) -> Iterator[Sample]:
    """Leave out shared parts that an earlier sample brought: none is read or counted twice."""
    seen: set[tuple[Modality, str]] = set()
    for sample in samples:
        keys = {m: (m, part.key) for m, part in sample.parts.items() if isinstance(part, Shared)}
        known = {modality for modality, key in keys.items() if key in seen}
        seen.update(keys.values())
        yield replace(sample, parts={m: p for m, p in sample.parts.items() if m not in known})


def assign_splits(groups: list[str], options: SplitOptions) -> dict[str, Split]:
    """Deal groups out to the splits, in an order drawn with the seed.

    Raises:
        DataError: there are no groups.
        ConfigError: the shares are not three shares of one.
    """
    if not groups:
        raise DataError("there are no records", code="no_records")
    check_shares(options)
    order = np.random.default_rng(options.seed).permutation(len(groups))
    bounds = (np.cumsum(options.shares) * len(groups)).round(9)  # .1 + .2 is a little above .3
    return {
        groups[position]: SPLITS[min(int(np.searchsorted(bounds, rank, side="right")), 2)]
        for rank, position in enumerate(order)
    }


def check_shares(options: SplitOptions) -> None:
    """Check the splits' shares.

    Raises:
        ConfigError: they are not three shares of one.
    """
    if min(options.shares) < 0 or not np.isclose(sum(options.shares), 1):
        raise ConfigError(
            "the shares do not add up to 1",
            field="splits.shares",
            seen=list(options.shares),
            accepted="three numbers, 0 or more, that add up to 1",
        )


def _group(sample: Sample) -> str:
    """Return the group of a case; one without is a group of its own."""
    assert sample.id is not None, "records are named before they are prepared"
    return sample.group or sample.id
