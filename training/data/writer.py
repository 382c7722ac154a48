"""Writes a prepared data set case by case, each content once; see `training.data.store`."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from lanistr.errors import DataError
from lanistr.jsonfile import write_json
from lanistr.modalities import Modality
from lanistr.preprocess import Preprocessor
from lanistr.tasks import TaskSpec
from training.data.codecs import codec
from training.data.store import (
    DATASET,
    FORMAT,
    INDEX,
    SPLITS,
    SUBGROUP,
    DatasetCard,
    Split,
    file_hash,
    table_file,
)

_ROWS_PER_BATCH = 256
_CASES_PER_BATCH = 65_536


@dataclass(frozen=True, slots=True)
class StoredPart:
    """Where a case's part is in its modality's table.

    Attributes:
        rows: positions in the table; empty if nothing of the part could be used.
        tokens: number of tokens in them, 0 for anything but text.
    """

    rows: tuple[int, ...]
    tokens: int


class DatasetWriter:
    """Writes a prepared data set case by case; memory stays bounded."""

    def __init__(self, folder: Path, task: TaskSpec, preprocessor: Preprocessor) -> None:
        self.folder = folder
        self.task = task
        self._index = _Index(task)
        self._codecs = {m: codec(preprocessor.parts[m]) for m in task.modalities}
        self._tables = {
            m: _TableWriter(folder / table_file(m), self._codecs[m].schema) for m in task.modalities
        }
        preprocessor.save(folder)

    def store(self, modality: Modality, records: Sequence[Mapping[str, Any]]) -> StoredPart:
        """Store the rows that a modality's codec made of a part, each content once."""
        table = self._tables[modality]
        return StoredPart(
            rows=tuple(table.add(row) for row in records),
            tokens=sum(len(row.get("token_ids", ())) for row in records),
        )

    def add(
        self,
        *,
        case_id: str,
        split: Split,
        group: str,
        label: float,
        subgroups: Mapping[str, str],
        parts: Mapping[Modality, StoredPart],
    ) -> None:
        """Add one case with the stored parts that it brings."""
        present = {modality: list(part.rows) for modality, part in parts.items() if part.rows}
        self._index.add(
            {
                "id": case_id,
                "split": split,
                "group": group,
                "label": None if np.isnan(label) else label,
                "tokens": sum(part.tokens for part in parts.values()),
                **{f"{SUBGROUP}{name}": value for name, value in subgroups.items()},
                **{modality: present.get(modality) for modality in self.task.modalities},
            }
        )

    def write_index(self, refused: Mapping[str, int]) -> Path:
        """Close the tables and write the index; return its path.

        Raises:
            DataError: there is no case.
        """
        for table in self._tables.values():
            table.close()
        path = self.folder / INDEX
        self._index.write(path)
        if not self._index.cases:
            raise DataError("no record could be used", code="no_records", seen=dict(refused))
        return path

    def close(
        self, issues: Mapping[str, int], refused: Mapping[str, int], source: Mapping[str, Any]
    ) -> None:
        """Write `dataset.json`, with a hash of every other file in the folder."""
        index = self._index
        card = DatasetCard(
            format=FORMAT,
            task=self.task,
            cases={split: index.cases[split] for split in SPLITS},
            labelled={split: index.labelled[split] for split in SPLITS},
            missing={
                m: round(index.missing[m] / index.cases.total(), 4) for m in self.task.modalities
            },
            issues=dict(sorted(issues.items())),
            refused=dict(sorted(refused.items())),
            source=dict(source),
            hashes={path.name: file_hash(path) for path in sorted(self.folder.iterdir())},
        )
        write_json(self.folder / DATASET, card.model_dump(mode="json"))


class _Index:
    """The index of the cases, kept as columns: there may be millions.

    Attributes:
        cases: number by split.
        labelled: likewise.
        missing: number of the cases that lack each modality.
    """

    def __init__(self, task: TaskSpec) -> None:
        self.cases: Counter[str] = Counter()
        self.labelled: Counter[str] = Counter()
        self.missing: Counter[Modality] = Counter()
        self._modalities = task.modalities
        self._waiting: list[dict[str, Any]] = []
        self._written = [self._schema(()).empty_table()]

    def add(self, entry: dict[str, Any]) -> None:
        """Count and keep one case."""
        self.cases[entry["split"]] += 1
        self.labelled[entry["split"]] += entry["label"] is not None
        self.missing.update(m for m in self._modalities if entry[m] is None)
        self._waiting.append(entry)
        if len(self._waiting) >= _CASES_PER_BATCH:
            self._flush()

    def write(self, path: Path) -> None:
        """Write all cases."""
        self._flush()
        table = pa.concat_tables(self._written, promote_options="default")
        schema = self._schema(n for n in table.column_names if n.startswith(SUBGROUP))
        with pa.ipc.new_file(str(path), schema) as out:
            out.write_table(table.select(schema.names))

    def _flush(self) -> None:
        names = {name for entry in self._waiting for name in entry if name.startswith(SUBGROUP)}
        self._written.append(pa.Table.from_pylist(self._waiting, schema=self._schema(names)))
        self._waiting.clear()

    def _schema(self, subgroups: Iterable[str]) -> pa.Schema:
        return pa.schema(
            [
                ("id", pa.string()),
                ("split", pa.string()),
                ("group", pa.string()),
                ("label", pa.float32()),
                ("tokens", pa.int32()),
                *((name, pa.string()) for name in sorted(subgroups)),
                *((str(m), pa.list_(pa.int64())) for m in self._modalities),
            ]
        )


class _TableWriter:
    """Appends rows to an Arrow file, a few hundred at a time, each content once."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._schema = schema
        self._out = pa.ipc.new_file(str(path), schema)
        self._waiting: list[Mapping[str, Any]] = []
        self._rows: dict[bytes, int] = {}  # hash of the content -> position

    def add(self, row: Mapping[str, Any]) -> int:
        """Return the position of a row in the table; append it if it is new."""
        content = hashlib.blake2b(digest_size=16)
        for name in self._schema.names:
            content.update(len(row[name]).to_bytes(8, "little"))
            content.update(row[name])  # an array or bytes
        known = self._rows.get(content.digest())
        if known is not None:
            return known
        self._waiting.append(row)
        if len(self._waiting) >= _ROWS_PER_BATCH:
            self._flush()
        return self._rows.setdefault(content.digest(), len(self._rows))

    def close(self) -> None:
        self._flush()
        self._out.close()

    def _flush(self) -> None:
        if self._waiting:
            columns = {n: [row[n] for row in self._waiting] for n in self._schema.names}
            self._out.write_batch(pa.RecordBatch.from_pydict(columns, schema=self._schema))
            self._waiting.clear()
