"""Where bundles stand on the disk, whether one has changed, and how one is opened to be served."""

from pathlib import Path
from stat import S_ISREG

from lanistr.bundle import Bundle
from lanistr.errors import BundleError
from lanistr.manifest import MANIFEST

Stamp = frozenset[tuple[Path, int, int, int]]
"""What shows that a folder has changed: of each file name, time, place on the disk and size."""


def bundle_folders(folder: Path) -> list[Path]:
    """Return where bundles stand, or may: the folder itself, or those in it, in order of name.

    Raises:
        BundleError: there is none.
        OSError: the folder cannot be read.
    """
    if not folder.is_dir():
        raise BundleError(
            "no such folder",
            code="no_bundle",
            field=str(folder),
            accepted="a bundle, or a folder of bundles, as `python -m export` writes them",
        )
    if _may_be_file(folder / MANIFEST):
        return [folder]
    # A draft that an interrupted export left behind starts with a dot.
    inside = [each for each in sorted(folder.iterdir()) if not each.name.startswith(".")]
    found = [each for each in inside if _may_be_file(each / MANIFEST)]
    if not found:
        raise no_bundle(folder)
    return found


def no_bundle(folder: Path, fault: OSError | None = None) -> BundleError:
    """Return the error of a folder without a bundle, or with none that may be looked into."""
    return BundleError(
        "no bundle in this folder",
        code="no_bundle",
        field=str(folder),
        seen=fault and fault.strerror,
        accepted=f"a folder with a {MANIFEST}, or one that contains such folders",
    )


def open_bundle(place: Path) -> Bundle:
    """Open a bundle, whose path must be UTF-8: runners and runtimes take no other.

    Raises:
        BundleError: it cannot, or see `Bundle.open`.
    """
    try:
        str(place).encode()
    except UnicodeEncodeError:
        raise BundleError(
            "the path of the bundle is not UTF-8",
            code="bad_bundle",
            field="bundles",
            seen=str(place),
            accepted="a path whose names are UTF-8",
        ) from None
    return Bundle.open(place)


def stamp_of(place: Path) -> Stamp:
    """Return what shows that a bundle's folder has changed.

    Raises:
        OSError: it cannot be looked into.
    """
    (place / MANIFEST).stat()  # `rglob` skips folders that it may not enter
    files = [(each, each.stat()) for each in place.rglob("*") if each.is_file()]
    return frozenset((each, s.st_mtime_ns, s.st_ino, s.st_size) for each, s in files)


def _may_be_file(path: Path) -> bool:
    """Whether a file is there, or may be: its folder cannot be entered."""
    try:
        return S_ISREG(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
