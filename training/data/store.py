"""A prepared data set on disk: each note, picture, row and series stored once, read by row.

    dataset.json        task, counts, options, provenance, and a hash of every other file
    preprocessing.json  fitted preprocessing state, with tokenizer.json beside it
    index.arrow         one row a case: id, split, group, label, subgroups, token count, and per
                        modality the rows of its table that belong to the case, null where missing
    MODALITY.arrow      one row a note, picture, table row or series
    report.json         what was counted and checked while it was prepared; report.html shows it

The Arrow files are memory-mapped: opening a data set reads nothing.
"""

import hashlib
import json
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Protocol, Self, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lanistr.batch import RAGGED, Arrays, Batch, Features, collate
from lanistr.draft import is_free
from lanistr.errors import DataError, unknown_name
from lanistr.leftovers import swept_draft
from lanistr.modalities import Modality, presence
from lanistr.preprocess import Preprocessor
from lanistr.schema import Schema
from lanistr.tasks import TaskSpec
from training.data.codecs import Augmentation, codec

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)

FORMAT: Literal[1] = 1
DATASET = "dataset.json"
INDEX = "index.arrow"
SUBGROUP = "subgroup."
"""How the names of the index's columns with subgroups begin."""


def table_file(modality: Modality) -> str:
    """Return the name of the file with a modality's table."""
    return f"{modality}.arrow"


class DatasetCard(Schema):
    """The contents of `dataset.json`.

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
    """Outputs of frozen encoders for the rows of a data set."""

    def __contains__(self, modality: object) -> bool: ...

    def arrays(self, modality: Modality, row: int) -> Arrays:
        """Return the array `encoded` of one row."""
        ...


class Dataset:
    """A prepared data set, opened for reading.

    Attributes:
        task: what its cases may bring, without the modalities that are not read, and the label.
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
        self.task = preprocessor.task
        self.preprocessor = preprocessor
        self._augmentation = augmentation
        self._index = _open(folder / INDEX)
        self._tables = {m: _open(folder / table_file(m)) for m in self.task.modalities}
        self._codecs = {m: codec(preprocessor.parts[m], augmentation) for m in self.task.modalities}
        self.labels = self._index["label"].to_numpy(zero_copy_only=False).astype(np.float32)
        worded = [m for m in self.task.modalities if RAGGED & preprocessor.parts[m].layout().keys()]
        tokens = self._index["tokens"].to_numpy(zero_copy_only=False)
        self.tokens = tokens if worded else 0 * tokens
        self.amounts = {
            m: self.tokens if m in worded else self.row_counts(m) for m in self.task.modalities
        }

    @classmethod
    def open(cls, folder: Path, augmentation: Augmentation | None = None) -> Self:
        """Open a prepared data set.

        Args:
            folder: as `training.prepare` wrote it.
            augmentation: how pictures vary in batches that are read with a seed.

        Raises:
            DataError: it is not one, or of another format.
        """
        path = folder / DATASET
        if not path.is_file():
            raise DataError(
                "not a prepared data set",
                code="no_data",
                field=str(folder),
                accepted=f"a folder with {DATASET}, as written by `python -m training.prepare`",
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

    def only(self, modalities: Collection[Modality]) -> Self:
        """Return the same cases as if they brought these modalities alone.

        The other modalities are left out of the alternatives of `task.minimum`, too.

        Raises:
            DataError: the data have none of them.
        """
        left = [each for each in self.task.modalities if each in modalities]
        if len(left) == len(self.task.modalities):
            return self
        if not left:
            raise DataError(
                "the data have none of the requested modalities",
                field=str(self.folder),
                seen=", ".join(self.task.modalities),
                accepted=" or ".join(modalities),
            )
        gone: dict[str, Any] = {m: None for m in self.task.modalities if m not in left}
        kept = (tuple(m for m in each if m in left) for each in self.task.minimum)
        minimum = tuple(dict.fromkeys(each for each in kept if each))
        task = self.task.model_copy(update=gone | {"minimum": minimum})
        parts = {each: self.preprocessor.parts[each] for each in left}
        return type(self)(self.folder, self.card, Preprocessor(task, parts), self._augmentation)

    def __len__(self) -> int:
        return len(self.labels)

    def verify(self) -> None:
        """Check the hash of every file, which takes about a second a gigabyte.

        Raises:
            DataError: naming the first that is not.
        """
        for name, expected in self.card.hashes.items():
            path = self.folder / name
            found = file_hash(path) if path.is_file() else "no such file"
            if found != expected:
                raise DataError(
                    "the file was changed after it was written",
                    code="damaged_data",
                    field=str(path),
                    seen=found,
                    accepted=f"sha256 {expected}; copy or prepare the data again",
                )

    @property
    def splits(self) -> list[str]:
        """The split of every case."""
        return list(self._index["split"].to_pylist())

    @property
    def groups(self) -> list[str]:
        """The group (patient, product) of every case."""
        return list(self._index["group"].to_pylist())

    @property
    def grouped(self) -> bool:
        """Whether the records name groups; if not, each case is a group of its own."""
        return not self._index["group"].equals(self._index["id"])

    def rows(self, split: str, labelled: bool = False) -> NDArray[np.int64]:
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
        """Whether the cases are synthetic."""
        return self.card.source.get("from") == "synthetic"

    def groups_of(self, positions: NDArray[np.int64]) -> NDArray[np.str_]:
        """Return the group (patient, product) of each case, (N,) names."""
        return np.array(self.groups, dtype=np.str_)[positions]

    def patterns(self, positions: Sequence[int] | NDArray[np.int64]) -> NDArray[np.str_]:
        """Return what each case brings, (N,) names such as "text+image"."""
        modalities = self.task.modalities
        codes = np.zeros(len(self), np.int64)
        for bit, modality in enumerate(modalities):  # by columns: there may be millions of cases
            there = pc.is_valid(self._index[modality]).to_numpy(zero_copy_only=False)
            codes |= there.astype(np.int64) << bit
        names = [
            presence([m for bit, m in enumerate(modalities) if code >> bit & 1])
            for code in range(2 ** len(modalities))
        ]
        return np.array(names, dtype=np.str_)[codes[np.asarray(positions, dtype=np.int64)]]

    def brings(self, position: int, modality: Modality) -> bool:
        """Whether a case has a modality."""
        return bool(self._index[modality][position].is_valid)

    def row_counts(self, modality: Modality) -> NDArray[np.int64]:
        """Return (N,) the rows of a modality's table that belong to each case."""
        lengths = pc.fill_null(pc.list_value_length(self._index[modality]), 0)
        return lengths.to_numpy().astype(np.int64)

    def references(
        self, modality: Modality, positions: Sequence[int] | NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Return the rows of a modality's table that belong to the cases, in their order."""
        chosen = self._index[modality].take(pa.array(positions))
        return pc.list_flatten(chosen).to_numpy()

    def subgroups(self) -> dict[str, list[str | None]]:
        """Return every subgroup column, over all cases."""
        columns = [each for each in self._index.column_names if each.startswith(SUBGROUP)]
        return {each.removeprefix(SUBGROUP): self._index[each].to_pylist() for each in columns}

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
            seed: with the position, decides how pictures vary; None: they do not.
            encoded: outputs of frozen encoders, read in place of the rows it has.
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


def data_hash(dataset: Dataset) -> str:
    """Return the sha256 of `dataset.json`."""
    return hashlib.sha256((dataset.folder / DATASET).read_bytes()).hexdigest()


def file_hash(path: Path) -> str:
    """Return the sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def refuse_filled(folder: Path) -> None:
    """Refuse a folder for a new data set that is not free.

    Raises:
        DataError: `folder` exists and is not empty, or is a link.
    """
    if folder.is_symlink():  # the new folder would replace the link
        raise DataError(
            "the folder is a symbolic link",
            code="exists",
            field=str(folder),
            accepted=f"the folder itself: {folder.resolve()}",
        )
    if not is_free(folder):
        raise DataError(
            "the folder exists",
            code="exists",
            field=str(folder),
            accepted="a new folder, or an empty one",
        )


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Give a draft folder that becomes `folder` if the block succeeds and vanishes if not.

    What a killed process leaves behind, the next one removes.

    Raises:
        DataError: `folder` exists and is not empty.
        ConfigError: it was filled while the block ran.
    """
    with swept_draft(folder, new=True, check=lambda: refuse_filled(folder)) as draft:
        yield draft


def _open(path: Path) -> pa.Table:
    try:
        return pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    except (OSError, pa.ArrowInvalid) as exc:
        raise DataError(f"cannot be read: {exc}", code="damaged_data", field=str(path)) from exc
