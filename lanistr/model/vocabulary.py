"""Whether a data set's words are those that a published text encoder has vectors for."""

import json
import logging
from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.models import WordPiece

from lanistr.errors import CheckpointError, DataError
from lanistr.model.published import cause_of, fetch, read_json

log = logging.getLogger(__name__)

TOKENIZER, WORDS, SETTINGS = "tokenizer.json", "vocab.txt", "tokenizer_config.json"


def read_vocabulary(folder: Path) -> dict[str, int] | None:
    """Return a checkpoint's tokens with their ids, or None where it has no tokenizer.

    Raises:
        CheckpointError: its tokenizer cannot be read.
    """
    try:
        if (folder / TOKENIZER).is_file():
            return dict(Tokenizer.from_file(str(folder / TOKENIZER)).get_vocab())
        if (folder / WORDS).is_file():
            return dict(WordPiece.read_file(str(folder / WORDS)))
    except Exception as exc:  # the library raises nothing narrower
        raise CheckpointError(
            f"cannot read the tokenizer in {folder}: {cause_of(exc)}",
            code="bad_config",
            accepted=f"a {TOKENIZER} of the tokenizers library, or a BERT {WORDS}",
        ) from exc
    return None


def check_vocabulary(name: str, tokenizer: Tokenizer) -> None:
    """Check that a data set's token ids mean to a checkpoint what they mean in the data.

    A checkpoint without tokenizer files is only asked how many tokens it knows, with a warning.

    Args:
        name: of the checkpoint: a folder or a name on the hub.
        tokenizer: of the data set.

    Raises:
        DataError: the vocabularies differ.
        CheckpointError: the checkpoint is not to be had, or its files cannot be read.
    """
    folder = fetch(name)
    known = read_vocabulary(folder)
    ours = tokenizer.get_vocab()
    if known is None:
        size = read_json(folder / "config.json").get("vocab_size")
        if size != len(ours):
            raise _other_vocabulary(name, folder, f"{len(ours)} tokens", f"{size} tokens")
        log.warning(
            "%s has no %s or %s: its %d tokens cannot be compared with those of the data and are "
            "assumed to be the same",
            *(name, TOKENIZER, WORDS, size),
        )
        return
    if known != ours:
        theirs = {number: token for token, number in known.items()}
        words = {number: token for token, number in ours.items()}
        first = min(i for i in theirs.keys() | words.keys() if theirs.get(i) != words.get(i))
        raise _other_vocabulary(
            name,
            folder,
            f"{len(ours)} tokens; token {first} is {words.get(first)}",
            f"{len(known)} tokens; token {first} is {theirs.get(first)}",
        )
    _compare_case(name, folder, tokenizer)


def _other_vocabulary(name: str, folder: Path, seen: str, accepted: str) -> DataError:
    words = folder / WORDS
    where = str(words) if words.is_file() else f"a {WORDS} that lists the tokens by id"
    return DataError(
        f"the data set's vocabulary differs from that of {name}",
        code="bad_fit",
        field="init.text",
        seen=seen,
        accepted=f"{accepted}: prepare the data with `python -m training.prepare ... "
        f"--vocabulary {where}`",
    )


def _compare_case(name: str, folder: Path, tokenizer: Tokenizer) -> None:
    """Warn where one of the two writes everything small and the other does not."""
    if not (folder / SETTINGS).is_file():
        return
    theirs = read_json(folder / SETTINGS).get("do_lower_case", True)
    normalizer = json.loads(tokenizer.to_str()).get("normalizer") or {}
    ours = normalizer.get("lowercase")
    if ours is not None and bool(ours) != bool(theirs):
        log.warning(
            "%s was trained on text %s capitals, but the data were prepared %s: capitalized words "
            "become tokens that it did not learn",
            *(name, "without" if theirs else "with", "without" if ours else "with"),
        )
