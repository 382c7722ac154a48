"""Text: notes become WordPiece token ids, one row a note."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
from pydantic import Field
from tokenizers import Regex, Tokenizer, normalizers
from tokenizers.implementations.bert_wordpiece import BertWordPieceTokenizer

from lanistr.batch import Arrays
from lanistr.errors import ConfigError, InputError
from lanistr.issues import Action, IssueLog
from lanistr.modalities import Modality
from lanistr.preprocess.base import ArraySpec, ModalityPreprocessor
from lanistr.sample import Items, paths_of
from lanistr.schema import Schema
from lanistr.tasks import TaskSpec

Notes = tuple[str, ...]

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
TOKENIZER_FILE = "tokenizer.json"
_LETTERS = 1000
"""Distinct letters that a trained vocabulary knows at most; rarer ones are unknown."""

# MIMIC-IV's notes carry three or more underscores where a name or date was taken out.
# Bounded, or in a text full of openings each would be searched to the text's end.
_DEIDENTIFIED = re.compile(r"_{3,}|\[\*\*[^\[\]]{0,200}\*\*\]")

_UNKNOWN = 0.1
"""Share of a note's tokens from which on it is said that the vocabulary lacks them: a rare sign
stands in many a text, while a note in another script is not read at all."""

_PIECE = 6
"""Characters for each token wanted that are tokenised at once, and on to the end of the word: a few
more than tokens mostly have, so that one piece will do."""

# What BERT's tokenizer takes for no letter wherever it stands: white space, punctuation of ASCII,
# and ideographs, each of which is a word of its own. No rule of it reaches across one of these.
_BETWEEN_WORDS = re.compile(r"[ -/:-@\[-`{-~\u3400-\u4dbf\u4e00-\u9fff]")

# A word of more than a hundred letters is unknown, whatever its letters and however many.
_LONG_WORD = re.compile(r"(?<![0-9A-Za-z])([0-9A-Za-z]{101})[0-9A-Za-z]+")


class TextOptions(Schema):
    """How text is tokenised.

    Attributes:
        vocabulary: path of a BERT `vocab.txt`; None trains a vocabulary on the training notes.
        vocabulary_size: size of a trained vocabulary.
        lowercase: as bert-base-uncased.
        max_tokens: a longer note is cut, [CLS] and [SEP] included.
    """

    vocabulary: Path | None = None
    vocabulary_size: int = Field(default=8000, ge=100)
    lowercase: bool = True
    max_tokens: int = Field(default=512, ge=8, le=65536)


class TextPreprocessor(ModalityPreprocessor[Notes, TextOptions]):
    """Folds white space, drops de-identification marks, tokenises, cuts at the token limit."""

    modality = Modality.TEXT

    def __init__(self, tokenizer: Tokenizer, max_tokens: int) -> None:
        self.tokenizer = tokenizer
        self.tokenizer.encode_special_tokens = True  # "[MASK]" in a note is five letters, no mask
        self.max_tokens = max_tokens
        unknown = tokenizer.token_to_id("[UNK]")
        if unknown is None:
            raise ValueError("the tokenizer is not a word tokenizer: it lacks [UNK]")
        self._unknown = unknown

    @staticmethod
    def read(value: Any, task: TaskSpec, log: IssueLog) -> Notes | None:
        """Take a string or a list of strings."""
        if value is None:
            return None
        items = [value] if isinstance(value, str) else value
        if not isinstance(items, list | tuple):
            raise InputError(
                "not text",
                code="wrong_type",
                field="text",
                seen=value,
                accepted="a string, or a list of strings",
            )
        notes: dict[str, str] = {}
        for i, note in enumerate(items):
            path = "text" if items is not value else f"text[{i}]"
            if note is None:
                continue
            if not isinstance(note, str):
                raise InputError(
                    "not text", code="wrong_type", field=path, seen=note, accepted="a string"
                )
            half = None if note.isprintable() else _unpaired_surrogate(note)
            if half is not None:
                raise InputError(
                    "not valid Unicode: an unpaired surrogate",
                    code="wrong_type",
                    field=path,
                    seen=ascii(note[half]),
                    accepted="valid Unicode",
                )
            if note.strip():
                notes[path] = note
                _suspect(note, path, task, log)
            else:
                log.add("empty", path, note, Action.DROPPED, "a note that contains words")
        return Items(notes.values(), notes) or None

    @classmethod
    def fit(cls, parts: Iterable[Notes], task: TaskSpec, options: TextOptions) -> Self:
        """Load the given vocabulary, or train one."""
        if options.vocabulary is None:
            words = _train(parts, options)
        else:
            words = read_vocabulary(options.vocabulary, options.lowercase)
        return cls(Tokenizer.from_str(words.to_str()), options.max_tokens)

    def apply(self, part: Notes, log: IssueLog) -> tuple[Arrays, ...]:
        """Tokenise each note."""
        rows: list[Arrays] = []
        first, last = self.tokenizer.encode("").ids  # [CLS] and [SEP]
        most = self.max_tokens - 2
        for note, path in zip(part, paths_of(part, "text"), strict=True):
            ids = self._first_ids(_clean(note), most)
            if not ids:
                log.add("empty", path, note, Action.DROPPED, "a note that contains words")
                continue
            if len(ids) > most:
                log.add(
                    "text_cut",
                    path,
                    f"more than {self.max_tokens} tokens",  # how many is not worth finding out
                    Action.KEPT,
                    f"the first {self.max_tokens} tokens",
                )
            ids = ids[:most]
            unknown = ids.count(self._unknown)
            if unknown > _UNKNOWN * len(ids):
                log.add(
                    "unknown_words",
                    path,
                    f"{unknown} of {len(ids)} tokens",
                    Action.KEPT,
                    "text in the language and script that the model was trained on",
                )
            rows.append({"token_ids": np.array([first, *ids, last], dtype=np.int64)})
        return tuple(rows)

    def _first_ids(self, text: str, most: int) -> list[int]:
        """Return the ids of a text's first words: all of them, or more than `most`.

        The text is tokenised piece by piece, and what the model would not see is never looked at.
        A piece ends where a word ends whatever follows, so that the ids are those of the whole.
        """
        ids: list[int] = []
        start, size = 0, _PIECE * most
        while start < len(text) and len(ids) <= most:
            found = _BETWEEN_WORDS.search(text, start + size)
            end = found.start() if found else len(text)
            piece = text[start:end]
            if len(piece) > 2 * size:
                piece = _LONG_WORD.sub(r"\1", piece)
            # Unlike `encode`, this lets other threads run meanwhile.
            (encoding,) = self.tokenizer.encode_batch_fast([piece], add_special_tokens=False)
            ids += encoding.ids
            start = end
        return ids

    def dimensions(self) -> Mapping[str, Any]:
        """Vocabulary size, longest row, and the ids of the special tokens."""
        ids = {
            token.strip("[]").lower(): self.tokenizer.token_to_id(token) for token in SPECIAL_TOKENS
        }
        return {
            "vocab_size": self.tokenizer.get_vocab_size(),
            "max_tokens": self.max_tokens,
            "pad_id": ids["pad"],
            "cls_id": ids["cls"],
            "sep_id": ids["sep"],
            "mask_id": ids["mask"],
        }

    def layout(self) -> Mapping[str, ArraySpec]:
        """Token ids, as many as there are."""
        return {"token_ids": ArraySpec("int64", (-1,), self.tokenizer.get_vocab_size())}

    def describe(self) -> dict[str, Any]:
        """Replace parts of `tokenizer.json`, which then makes the ids of a note as it came."""
        whole = Tokenizer.from_str(self.tokenizer.to_str())
        space = normalizers.Replace(Regex(rf"{_DEIDENTIFIED.pattern}|[\s\x1c-\x1f]"), " ")
        whole.normalizer = normalizers.Sequence([space, whole.normalizer])
        whole.enable_truncation(self.max_tokens)
        told = json.loads(whole.to_str())
        # No special tokens in a note, where "[MASK]" is five letters.
        kept = {name: told[name] for name in ("normalizer", "truncation")} | {"added_tokens": []}
        return {"token_ids": kept}

    def save(self, folder: Path) -> dict[str, Any]:
        """Write `tokenizer.json` in the format of the tokenizers library."""
        (folder / TOKENIZER_FILE).write_text(self.tokenizer.to_str(), encoding="utf-8")
        return {"tokenizer": TOKENIZER_FILE, "max_tokens": self.max_tokens}

    @classmethod
    def load(cls, state: Mapping[str, Any], task: TaskSpec, folder: Path) -> Self:
        """Read `tokenizer.json`."""
        text = (folder / TOKENIZER_FILE).read_text(encoding="utf-8")
        try:
            tokenizer = Tokenizer.from_str(text)
        except Exception as exc:  # the library raises nothing narrower
            raise ValueError(f"{TOKENIZER_FILE} is not a tokenizer: {exc}") from exc
        return cls(tokenizer, int(state["max_tokens"]))


def read_vocabulary(path: Path, lowercase: bool) -> BertWordPieceTokenizer:
    """Read a BERT `vocab.txt`.

    Raises:
        ConfigError: there is no such file, or it is no vocabulary.
    """
    accepted = "the path of a BERT vocab.txt: one token per line, including the special tokens"
    if not path.is_file():
        raise ConfigError(
            "no such file", field="text.vocabulary", seen=str(path), accepted=accepted
        )
    try:
        return BertWordPieceTokenizer(vocab=str(path), lowercase=lowercase)
    except Exception as exc:  # the library raises nothing narrower
        raise ConfigError(
            f"not a vocabulary: {exc}", field="text.vocabulary", seen=str(path), accepted=accepted
        ) from exc


def _train(parts: Iterable[Notes], options: TextOptions) -> BertWordPieceTokenizer:
    """Train a vocabulary; the same notes give the same one."""
    words = BertWordPieceTokenizer(lowercase=options.lowercase)
    # Left alone, the trainer numbers the letters inside words in the order of a hash map, another
    # one in every process, and breaks ties between merges by these numbers. In that order it also
    # drops letters that are equally rare.
    letters: Counter[str] = Counter()
    first: Counter[str] = Counter()
    for part in parts:
        for note in part:
            for word, _ in words.pre_tokenizer.pre_tokenize_str(words.normalize(_clean(note))):
                first[word[0]] += 1
                letters.update(word[1:])
    inside = [f"##{letter}" for letter, _ in letters.most_common(_LETTERS)]
    counted = (letters + first).items()
    known = [letter for letter, _ in sorted(counted, key=lambda each: (-each[1], each[0]))]
    words.train_from_iterator(
        (_clean(note) for part in parts for note in part),
        vocab_size=options.vocabulary_size,
        min_frequency=2,
        limit_alphabet=_LETTERS,
        initial_alphabet=known[:_LETTERS],
        special_tokens=[*SPECIAL_TOKENS, *sorted(inside)],
        show_progress=False,
    )
    # Only now does the tokenizer know the ids that its post-processor adds.
    return BertWordPieceTokenizer(vocab=words.get_vocab(), lowercase=options.lowercase)


def _clean(note: str) -> str:
    return " ".join(_DEIDENTIFIED.sub(" ", note).split())


def _suspect(note: str, path: str, task: TaskSpec, log: IssueLog) -> None:
    """Report a note that looks like one which must not be given."""
    assert task.text is not None
    for suspicion in task.text.suspicions:
        if (words := suspicion.find(note)) is not None:
            log.add(suspicion.code, path, words.strip(), Action.KEPT, suspicion.detail)


def _unpaired_surrogate(note: str) -> int | None:
    """Return where half a character stands; None where there is none."""
    try:
        note.encode("utf-8")
    except UnicodeEncodeError as exc:
        return exc.start
    return None
