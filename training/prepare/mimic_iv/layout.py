"""Where the files of MIMIC-IV, MIMIC-IV-Note and MIMIC-CXR-JPG lie."""

from dataclasses import dataclass
from pathlib import Path

from lanistr.errors import DataError


@dataclass(frozen=True, slots=True)
class Layout:
    """The files of a source; None for what it does not have.

    Attributes:
        version: 2 where admissions lie in `hosp/`, 1 where they lie in `core/`.
        pictures: the folder that holds `files/`, with `metadata` beside it.
    """

    version: int
    patients: Path
    admissions: Path
    stays: Path
    charts: Path | None
    labs: Path | None
    lab_items: Path | None
    radiology: Path | None
    discharge: Path | None
    metadata: Path | None
    pictures: Path | None

    @property
    def lacking(self) -> list[str]:
        """Say which optional parts there are not."""
        parts = {
            "chart events (icu/chartevents)": self.charts,
            "laboratory events (hosp/labevents)": self.labs,
            "radiology reports (note/radiology)": self.radiology,
            "chest X-rays (files/ and mimic-cxr-2.0.0-metadata)": self.metadata,
        }
        return [name for name, path in parts.items() if path is None]

    @property
    def files(self) -> list[Path]:
        """Every table that there is."""
        tables = (
            self.patients,
            self.admissions,
            self.stays,
            self.charts,
            self.labs,
            self.lab_items,
            self.radiology,
            self.discharge,
            self.metadata,
        )
        return [path for path in tables if path is not None]


def find_layout(source: Path, notes: Path | None = None, pictures: Path | None = None) -> Layout:
    """Find the files below a folder.

    Args:
        source: holds `hosp/` and `icu/` (and, in v1.0, `core/`).
        notes: holds `note/`, or the note files themselves; None: the source does.
        pictures: holds `files/` and the metadata; None: the source does.

    Raises:
        DataError: a folder does not exist, or a table that every stay needs is missing.
    """
    for folder in (source, notes, pictures):
        if folder is not None and not folder.is_dir():
            raise DataError("no such folder", code="no_folder", field=str(folder))
    version = 1 if _table(source, "core/admissions") else 2
    hospital = "core" if version == 1 else "hosp"
    written = notes or source
    photographed = pictures or source
    metadata = _metadata(photographed)
    if metadata and not (photographed / "files").is_dir():
        raise DataError(
            "the metadata of X-rays are there, but no X-rays",
            code="no_folder",
            field=str(photographed / "files"),
            accepted="the folder files/ of MIMIC-CXR-JPG; or remove the metadata file",
        )
    if pictures and not metadata:
        raise _missing(pictures, "mimic-cxr-2.0.0-metadata")
    radiology = _table(written, "note/radiology") or _table(written, "radiology")
    discharge = _table(written, "note/discharge") or _table(written, "discharge")
    if notes and not (radiology or discharge):
        raise _missing(notes, "note/radiology")
    return Layout(
        version=version,
        patients=_needed(source, f"{hospital}/patients"),
        admissions=_needed(source, f"{hospital}/admissions"),
        stays=_needed(source, "icu/icustays"),
        charts=_table(source, "icu/chartevents"),
        labs=_table(source, "hosp/labevents"),
        lab_items=_table(source, "hosp/d_labitems"),
        radiology=radiology,
        discharge=discharge,
        metadata=metadata,
        pictures=photographed if metadata else None,
    )


def _table(folder: Path, name: str) -> Path | None:
    found = (folder / f"{name}{ending}" for ending in (".csv.gz", ".csv"))
    return next((path for path in found if path.is_file()), None)


def _needed(folder: Path, name: str) -> Path:
    path = _table(folder, name)
    if path is None:
        raise _missing(folder, name)
    return path


def _metadata(folder: Path) -> Path | None:
    found = sorted(folder.glob("mimic-cxr-2.*-metadata.csv*"))
    return next((path for path in found if path.name.endswith((".csv", ".csv.gz"))), None)


def _missing(folder: Path, name: str) -> DataError:
    return DataError(
        "a table is missing",
        code="no_table",
        field=str(folder / f"{name}.csv.gz"),
        accepted="the file as distributed by PhysioNet, compressed (.csv.gz) or not (.csv)",
    )
