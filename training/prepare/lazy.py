"""Parts that are read when they are first used, and that several samples may share."""

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any, TypeVar, overload

ItemT = TypeVar("ItemT")


class Lazy(Sequence[ItemT]):
    """Notes, pictures or a series that are read from their files when they are first used.

    So a sample of which only the notes are used reads no picture. To a preprocessor it is a tuple.
    Make a new one for each sample: what was read stays in memory as long as the object does.
    """

    def __init__(self, read: Callable[[], Iterable[ItemT]]) -> None:
        self._read = read

    @cached_property
    def _items(self) -> tuple[ItemT, ...]:
        return tuple(self._read())

    def __len__(self) -> int:
        return len(self._items)

    @overload
    def __getitem__(self, index: int) -> ItemT: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[ItemT, ...]: ...
    def __getitem__(self, index: Any) -> Any:
        return self._items[index]


class Shared(Lazy[ItemT]):
    """A lazy part that several samples may share.

    Attributes:
        key: names the content: parts of one modality and key are the same, and are prepared once.
    """

    def __init__(self, key: str, read: Callable[[], Iterable[ItemT]]) -> None:
        super().__init__(read)
        self.key = key
