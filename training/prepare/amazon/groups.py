"""Copies of one review, and which reviews must stay in one split."""

import hashlib
import logging
from collections.abc import Iterator, Mapping
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from lanistr.errors import ConfigError
from training.data.store import SPLITS, Split
from training.prepare.prepared import SplitOptions, check_shares

log = logging.getLogger(__name__)

SplitBy = Literal["product-and-text", "product-cut-text", "text", "product"]
SPLIT_BY: tuple[SplitBy, ...] = get_args(SplitBy)
_COSTS: Mapping[SplitBy, str] = {
    "product-cut-text": "reviews whose text is in two splits are left out",
    "text": "a product may be in several splits",
    "product": "a text may be in several splits",
}
_HELPS: Mapping[SplitBy, tuple[SplitBy, ...]] = {
    "product-and-text": ("product-cut-text", "text", "product"),
    "product-cut-text": ("text", "product"),
    "text": ("product-cut-text", "product"),
    "product": ("text",),
}
"""What may have smaller groups than those that were too large."""

Hashes = NDArray[np.uint64]
Numbers = NDArray[np.int64]

WARN_BELOW, REFUSE_BELOW = 0.8, 0.5
"""A split that gets less than this part of its share is warned of, and refused."""


def hash_of(*words: str) -> int:
    """Return 64 bits of words. Among 5.6 million texts, two alike are met once in a million."""
    text = "\0".join(words).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def first_of_each(keys: Hashes, exempt: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Tell (N,) which entries are the first with their key; those exempt count as first."""
    first = exempt.copy()
    first[np.unique(keys, return_index=True)[1]] = True
    return first


def group_numbers(
    products: Hashes, texts: Hashes, has_text: NDArray[np.bool_], by: SplitBy
) -> Numbers:
    """Return (N,) the number of each review's group; a group may not stand in two splits.

    Args:
        products: (N,) hash of each review's product.
        texts: (N,) hash of each review's text, or of what stands for it where there is none.
        has_text: (N,) whether there is one, or it stands for copies; only then it joins products.
        by: what must not cross splits. With `product-and-text`, the groups are the connected parts
            of the graph whose nodes are products and texts and whose edges are reviews. With
            `product-cut-text` they are products, see `keep_texts_in_one_split`.
    """
    if by in ("product", "product-cut-text"):
        return _numbered(products)
    if by == "text":
        return _numbered(texts)
    # Only here, or every other kind of records would wait half a second for it.
    from scipy.sparse import coo_array  # type: ignore[import-untyped]
    from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped]

    product = _numbered(products)
    count = int(product.max(initial=-1)) + 1
    text = _numbered(texts[has_text]) + count
    nodes = int(text.max(initial=count - 1)) + 1
    # Reviews of one product with one text add up, in a type that holds their number.
    edges = (np.ones(len(text), dtype=np.int32), (product[has_text], text))
    parts = connected_components(coo_array(edges, shape=(nodes, nodes)), directed=False)[1]
    return parts[product].astype(np.int64)


def _numbered(keys: Hashes) -> Numbers:
    return np.unique(keys, return_inverse=True)[1].astype(np.int64, copy=False)


class DealtGroups(Mapping[str, Split]):
    """The split of each group, by the group's number as a word."""

    def __init__(self, codes: NDArray[np.int8]) -> None:
        self._codes = codes

    def __getitem__(self, group: str) -> Split:
        return SPLITS[self._codes[int(group)]]

    def __iter__(self) -> Iterator[str]:
        return map(str, range(len(self)))

    def __len__(self) -> int:
        return len(self._codes)


def deal(sizes: Numbers, options: SplitOptions) -> NDArray[np.int8]:
    """Deal (G,) groups of so many reviews out so that the splits' shares of reviews are met.

    The largest come first, in an order by chance where they are equal. Each goes to a split that
    still has room for it, drawn with chances in proportion to the room; where none has, to the one
    with the most. So small groups fill what large ones leave.

    Raises:
        ConfigError: the shares are not three shares of one whole.
    """
    check_shares(options)
    rng = np.random.default_rng(options.seed)
    shuffled = rng.permutation(len(sizes))
    order = shuffled[np.argsort(-sizes[shuffled], kind="stable")]
    room = [share * float(sizes.sum()) for share in options.shares]
    codes = np.zeros(len(sizes), dtype=np.int8)
    draws = rng.random(len(sizes))
    for group, size, draw in zip(order.tolist(), sizes[order].tolist(), draws, strict=True):
        if not size:
            break  # nothing is left of the smallest groups
        fitting = [each if each >= size else 0.0 for each in room]
        point = draw * sum(fitting)
        split = room.index(max(room))
        for candidate, width in enumerate(fitting):
            if point < width:
                split = candidate
                break
            point -= width
        codes[group] = split
        room[split] -= size
    return codes


def keep_texts_in_one_split(
    texts: Hashes, splits: NDArray[np.int8], chosen: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Tell (N,) which reviews stand where most of their text's do, or earlier if it is a tie.

    Args:
        texts: (N,) as in `group_numbers`.
        splits: (N,) each review's split, by its place in `SPLITS`.
        chosen: (N,) the reviews that count.
    """
    text = _numbered(texts)
    count = np.zeros((int(text.max(initial=-1)) + 1, len(SPLITS)), dtype=np.int32)
    np.add.at(count, (text[chosen], splits[chosen]), 1)
    stands: NDArray[np.bool_] = count.argmax(axis=1)[text] == splits
    return stands


def check_dealt(
    sizes: Numbers, codes: NDArray[np.int8], options: SplitOptions, by: SplitBy
) -> None:
    """Hold what each split got against its share.

    Raises:
        ConfigError: one got less than half of it.
    """
    total = int(sizes.sum())
    got = np.bincount(codes, sizes, minlength=len(SPLITS)) / total
    parts = [
        share / wanted if wanted else 1.0 for share, wanted in zip(got, options.shares, strict=True)
    ]
    largest = (
        f"the largest group has {sizes.max():,} of {total:,} reviews ({sizes.max() / total:.1%})"
    )
    shares = ", ".join(f"{name} {share:.1%}" for name, share in zip(SPLITS, got, strict=True))
    if min(parts) < REFUSE_BELOW:
        raise ConfigError(
            f"the splits cannot have the requested shares: {largest}, which gives {shares}",
            code="cannot_split",
            field="--split-by",
            seen=by,
            accepted=", ".join(f"{each} ({_COSTS[each]})" for each in _HELPS[by])
            + "; or other --splits",
        )
    if min(parts) < WARN_BELOW:
        log.warning("the splits do not have the requested shares: %s; %s", largest, shares)
