"""Which bundles there are to serve."""

from collections.abc import Mapping
from pathlib import Path

from lanistr.bundle import Bundle
from lanistr.errors import BundleError
from lanistr.manifest import MANIFEST


def open_bundles(folder: Path) -> Mapping[str, Bundle]:
    """Open a bundle, or every bundle in a folder of bundles; by task, in order of name.

    Raises:
        BundleError: there is none, one is damaged, or two are of one task.
    """
    if not folder.is_dir():
        raise BundleError(
            "no such folder",
            code="no_bundle",
            field=str(folder),
            accepted="a bundle, or a folder of bundles, as `python -m export` writes them",
        )
    single = (folder / MANIFEST).is_file()
    inside = [each.parent for each in sorted(folder.glob(f"*/{MANIFEST}"))]
    # A draft that an interrupted export left behind starts with a dot.
    found = [folder] if single else [each for each in inside if not each.name.startswith(".")]
    if not found:
        raise BundleError(
            "no bundle here",
            code="no_bundle",
            field=str(folder),
            accepted=f"a folder with a {MANIFEST}, or one that holds such folders",
        )
    bundles: dict[str, Bundle] = {}
    for each in found:
        bundle = Bundle.open(each)
        if bundle.task.name in bundles:
            raise BundleError(
                f"a second bundle of the task {bundle.task.name!r}",
                code="two_bundles",
                field=str(each),
                seen=str(bundles[bundle.task.name].folder),
                accepted="one bundle a task",
            )
        bundles[bundle.task.name] = bundle
    return bundles
