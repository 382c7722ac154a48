"""A prepared data set on disk: each note, picture, row and series stored once, read by row.

    dataset.json        task, counts, options, provenance, and a hash of every other file
    preprocessing.json  fitted preprocessing state, with tokenizer.json beside it
    index.arrow         one row a case: id, split, group, label, subgroups, token count, and per
                        modality the rows of its table that belong to the case, null where missing
    MODALITY.arrow      one row a note, picture, table row or series

The Arrow files are memory-mapped: opening a data set reads nothing.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Protocol, Self, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lanistr.batch import RAGGED, Arrays, Batch, Features, collate
from lanistr.draft import draft_folder
from lanistr.errors import DataError, unknown_name
from lanistr.modalities import Modality
from lanistr.preprocess import Preprocessor
from lanistr.schema import Schema
from lanistr.tasks import TaskSpec
from training.data.codecs import Augmentation, codec

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)

FORMAT: Literal[1] = 1
_DATASET = "dataset.json"
_ROWS_PER_BATCH = 256


class DatasetCard(Schema):
    """What `dataset.json` says.

    Attributes:
        cases: number of cases by split.
        labelled: number of labelled cases by split.
        missing: share of the cases that lack each modality.
        issues: number of values by what was done with them, such as ``out_of_range/dropped``.
        refused: number of records that could not be used, by error code.
        source: where the records came from: command, options, seed.
        hashes: sha256 by file name.
    """

    format: Literal[1]
    task: TaskSpec
    cases: dict[str, int]
    labelled: dict[str, int]
    missing: dict[str, float]
    issues: dict[str, int]
    refused: dict[str, int]
    source: dict[str, Any]
    hashes: dict[str, str]


class EncodedRows(Protocol):
    """What frozen encoders made of the rows of a data set."""

    def __contains__(self, modality: object) -> bool: ...

    def arrays(self, modality: Modality, row: int) -> Arrays:
        """Return the array `encoded` of one row."""
        ...


class Dataset:
    """A prepared data set, opened for reading.

    Attributes:
        labels: (N,) float32, class index or number by case; NaN where unlabelled.
        tokens: (N,) tokens of text by case.
        amounts: by modality, (N,) how much of it each case brings: rows, or tokens where rows
            differ in length.
    """

    def __init__(
        self,
        folder: Path,
        card: DatasetCard,
        preprocessor: Preprocessor,
        augmentation: Augmentation | None = None,
    ) -> None:
        self.folder = folder
        self.card = card
        self.task = card.task
        self.preprocessor = preprocessor
        self._index = _open(folder / "index.arrow")
        self._tables = {m: _open(folder / f"{m}.arrow") for m in self.task.modalities}
        self._codecs = {m: codec(preprocessor.parts[m], augmentation) for m in self.task.modalities}
        self.labels = self._index["label"].to_numpy(zero_copy_only=False).astype(np.float32)
        self.tokens = self._index["tokens"].to_numpy(zero_copy_only=False)
        self.amounts = {
            m: self.tokens if RAGGED & preprocessor.parts[m].layout().keys() else self.row_counts(m)
            for m in self.task.modalities
        }

    @classmethod
    def open(cls, folder: Path, augmentation: Augmentation | None = None) -> Self:
        """Open a prepared data set.

        Args:
            folder: as `training.prepare` wrote it.
            augmentation: how pictures vary where a batch is asked for with a seed.

        Raises:
            DataError: it is not one, or of another format.
        """
        path = folder / _DATASET
        if not path.is_file():
            raise DataError(
                "not a prepared data set",
                code="no_data",
                field=str(folder),
                accepted=f"a folder with {_DATASET}, as `python -m training.prepare` writes it",
            )
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as exc:
            raise DataError(f"cannot be read: {exc}", code="damaged_data", field=str(path)) from exc
        found = data.get("format") if isinstance(data, dict) else None
        if found != FORMAT:
            raise DataError(
                "unknown data format",
                code="unknown_format",
                field=str(path),
                seen=found,
                accepted=f"format {FORMAT}; prepare the data again with this version",
            )
        card = DatasetCard.parse(data, DataError, str(path))
        return cls(folder, card, Preprocessor.load(folder, card.task), augmentation)

    def __len__(self) -> int:
        return len(self.labels)

    def verify(self) -> None:
        """Read every file once and check that it is as it was written: a second a gigabyte or so.

        Raises:
            DataError: naming the first that is not.
        """
        for name, expected in self.card.hashes.items():
            path = self.folder / name
            found = file_hash(path) if path.is_file() else "no such file"
            if found != expected:
                raise DataError(
                    "not as it was written",
                    code="damaged_data",
                    field=str(path),
                    seen=found,
                    accepted=f"sha256 {expected}; copy or prepare the data again",
                )

    @property
    def splits(self) -> list[str]:
        """The split of every case."""
        return list(self._index["split"].to_pylist())

    def rows(self, split: str, labelled: bool = False) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Return the positions of a split's cases, ascending.

        Raises:
            DataError: there is no such split, or nothing in it.
        """
        if split not in SPLITS:
            raise DataError(
                "no such split", field="split", seen=split, accepted=unknown_name(split, SPLITS)
            )
        chosen = pc.equal(self._index["split"], split).to_numpy(zero_copy_only=False)
        if labelled:
            chosen &= ~np.isnan(self.labels)
        if not chosen.any():
            what = "labelled cases" if labelled else "cases"
            raise DataError(f"the split has no {what}", field=str(self.folder), seen=split)
        return np.flatnonzero(chosen)

    def ids(self, positions: Sequence[int]) -> list[str]:
        """Return the cases' names."""
        return [self._index["id"][int(i)].as_py() for i in positions]

    @property
    def synthetic(self) -> bool:
        """Whether the cases were made by chance."""
        return self.card.source.get("from") == "synthetic"

    def presence(self, position: int) -> str:
        """Name the modalities that a case brings, such as "text+image"."""
        return "+".join(m for m in self.task.modalities if self.brings(position, m))

    def brings(self, position: int, modality: Modality) -> bool:
        """Whether a case has a modality."""
        return bool(self._index[modality][position].is_valid)

    def row_counts(self, modality: Modality) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Return (N,) the rows of a modality's table that belong to each case."""
        lengths = pc.fill_null(pc.list_value_length(self._index[modality]), 0)
        return lengths.to_numpy().astype(np.int64)

    def references(
        self, modality: Modality, positions: Sequence[int] | np.ndarray[Any, np.dtype[np.int64]]
    ) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Return the rows of a modality's table that belong to the cases, in their order."""
        chosen = self._index[modality].take(pa.array(positions))
        return pc.list_flatten(chosen).to_numpy()

    def subgroups(self) -> dict[str, list[str | None]]:
        """Return every subgroup column, over all cases."""
        columns = [each for each in self._index.column_names if each.startswith("subgroup.")]
        return {each.removeprefix("subgroup."): self._index[each].to_pylist() for each in columns}

    def arrays(
        self, modality: Modality, row: int, rng: np.random.Generator | None = None
    ) -> Arrays:
        """Read one row of a modality's table."""
        table = self._tables[modality]
        record = {name: table[name][int(row)] for name in table.column_names}
        return self._codecs[modality].read(record, rng)

    def features(
        self, position: int, *, seed: int | None = None, encoded: EncodedRows | None = None
    ) -> Features:
        """Read one case.

        Args:
            position: of the case.
            seed: pictures vary by it and the position; None: they are as they are.
            encoded: has in it what frozen encoders made of the rows; they are read from there.
        """
        rng = None if seed is None else np.random.default_rng([seed, position])
        rows: dict[Modality, tuple[Arrays, ...]] = {}
        for modality in self._tables:
            found = self._index[modality][position]
            if not found.is_valid:
                continue
            references = found.values.to_numpy().tolist()
            if encoded is not None and modality in encoded:
                rows[modality] = tuple(encoded.arrays(modality, i) for i in references)
            else:
                rows[modality] = tuple(self.arrays(modality, i, rng) for i in references)
        return Features(rows)

    def batch(
        self,
        positions: Sequence[int],
        *,
        seed: int | None = None,
        encoded: EncodedRows | None = None,
    ) -> Batch:
        """Read several cases with their labels; for `seed` and `encoded` see `features`."""
        cases = [self.features(int(i), seed=seed, encoded=encoded) for i in positions]
        return collate(cases, self.labels[np.asarray(positions)], self.ids(positions))


class DatasetWriter:
    """Writes a prepared data set case by case; memory stays bounded."""

    def __init__(self, folder: Path, task: TaskSpec, preprocessor: Preprocessor) -> None:
        self.folder = folder
        self.task = task
        self._index: list[dict[str, Any]] = []
        self._codecs = {m: codec(preprocessor.parts[m]) for m in task.modalities}
        self._tables = {
            m: _TableWriter(folder / f"{m}.arrow", self._codecs[m].schema) for m in task.modalities
        }
        preprocessor.save(folder)

    def add(
        self,
        *,
        case_id: str,
        split: Split,
        group: str,
        label: float,
        subgroups: Mapping[str, str],
        records: Mapping[Modality, Sequence[Mapping[str, Any]]],
    ) -> None:
        """Store one case; `records` are what the modalities' codecs made of its parts."""
        entry: dict[str, Any] = {
            "id": case_id,
            "split": split,
            "group": group,
            "label": None if np.isnan(label) else label,
            "tokens": sum(len(r.get("token_ids", ())) for rs in records.values() for r in rs),
            **{f"subgroup.{name}": value for name, value in subgroups.items()},
        }
        for modality, table in self._tables.items():
            rows = records.get(modality)
            entry[modality] = [table.add(row) for row in rows] if rows else None
        self._index.append(entry)

    def close(
        self, issues: Mapping[str, int], refused: Mapping[str, int], source: Mapping[str, Any]
    ) -> None:
        """Write the index and `dataset.json`."""
        for table in self._tables.values():
            table.close()
        subgroups = sorted({k for entry in self._index for k in entry if k.startswith("subgroup.")})
        schema = pa.schema(
            [
                ("id", pa.string()),
                ("split", pa.string()),
                ("group", pa.string()),
                ("label", pa.float32()),
                ("tokens", pa.int32()),
                *((name, pa.string()) for name in subgroups),
                *((str(m), pa.list_(pa.int64())) for m in self.task.modalities),
            ]
        )
        with pa.ipc.new_file(str(self.folder / "index.arrow"), schema) as out:
            out.write_table(pa.Table.from_pylist(self._index, schema=schema))
        if not self._index:
            raise DataError("no record could be used", code="no_records", seen=dict(refused))
        counts = {split: [e for e in self._index if e["split"] == split] for split in SPLITS}
        total = len(self._index)
        card = DatasetCard(
            format=FORMAT,
            task=self.task,
            cases={split: len(entries) for split, entries in counts.items()},
            labelled={
                split: sum(e["label"] is not None for e in entries)
                for split, entries in counts.items()
            },
            missing={
                m: round(sum(e[m] is None for e in self._index) / total, 4)
                for m in self.task.modalities
            },
            issues=dict(sorted(issues.items())),
            refused=dict(sorted(refused.items())),
            source=dict(source),
            hashes={path.name: file_hash(path) for path in sorted(self.folder.iterdir())},
        )
        text = json.dumps(card.model_dump(mode="json"), indent=1, ensure_ascii=False)
        (self.folder / _DATASET).write_text(text + "\n", encoding="utf-8")


def data_hash(dataset: Dataset) -> str:
    """Return the sha256 of `dataset.json`."""
    return hashlib.sha256((dataset.folder / _DATASET).read_bytes()).hexdigest()


def file_hash(path: Path) -> str:
    """Return the sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Give a draft folder that becomes `folder` if the block succeeds and vanishes if not.

    Raises:
        DataError: `folder` exists and is not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(
            "the folder exists",
            code="exists",
            field=str(folder),
            accepted="a new folder, or an empty one",
        )
    with draft_folder(folder) as draft:
        yield draft


class _TableWriter:
    """Appends rows to an Arrow file, a few hundred at a time."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._schema = schema
        self._out = pa.ipc.new_file(str(path), schema)
        self._waiting: list[Mapping[str, Any]] = []
        self._count = 0

    def add(self, row: Mapping[str, Any]) -> int:
        """Append a row and return its position in the table."""
        self._waiting.append(row)
        if len(self._waiting) >= _ROWS_PER_BATCH:
            self._flush()
        self._count += 1
        return self._count - 1

    def close(self) -> None:
        self._flush()
        self._out.close()

    def _flush(self) -> None:
        if self._waiting:
            columns = {n: [row[n] for row in self._waiting] for n in self._schema.names}
            self._out.write_batch(pa.RecordBatch.from_pydict(columns, schema=self._schema))
            self._waiting.clear()


def _open(path: Path) -> pa.Table:
    try:
        return pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    except (OSError, pa.ArrowInvalid) as exc:
        raise DataError(f"cannot be read: {exc}", code="damaged_data", field=str(path)) from exc
