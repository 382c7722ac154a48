"""A bar that grows with the rows that are done: where tqdm is installed, and on a terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def growing(rows: int, done: int, shown: bool | None = None) -> Iterator[Callable[[], object]]:
    """Show a bar; yield what lets it grow by a row.

    Args:
        rows: of the whole.
        done: of them, before.
        shown: whether there is a bar; None: where standard error is a terminal.
    """
    try:
        if not (sys.stderr.isatty() if shown is None else shown):
            raise ModuleNotFoundError
        from tqdm import tqdm
    except ModuleNotFoundError:
        yield lambda: None
        return
    with tqdm(total=rows, initial=done, unit=" rows", file=sys.stderr) as bar:
        yield bar.update
