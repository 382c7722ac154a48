"""The data's words and the checkpoint's."""

from pathlib import Path

import pytest
from tokenizers import Tokenizer
from tokenizers.implementations.bert_wordpiece import BertWordPieceTokenizer

from lanistr.errors import CheckpointError, DataError
from lanistr.model.vocabulary import check_vocabulary
from tests.published import WORDS, write_bert, write_words


def tokenizer(folder: Path, words: tuple[str, ...] = WORDS, lowercase: bool = True) -> Tokenizer:
    path = write_words(folder / "data", words)
    made = BertWordPieceTokenizer(vocab=str(path), lowercase=lowercase)
    return Tokenizer.from_str(made.to_str())


@pytest.mark.parametrize("file", ["vocab.txt", "tokenizer.json"])
def test_the_same_words_in_the_same_order_are_accepted(
    tmp_path: Path, file: str, caplog: pytest.LogCaptureFixture
) -> None:
    write_bert(tmp_path / "bert")
    ours = tokenizer(tmp_path)
    if file == "tokenizer.json":
        (tmp_path / "bert" / "vocab.txt").unlink()
        ours.save(str(tmp_path / "bert" / file))
    check_vocabulary(str(tmp_path / "bert"), ours)
    assert caplog.text == ""


OTHERS = {
    "a word exchanged": ((*WORDS[:-1], "other"), "token 59 is other", "token 59 is word54"),
    "two words swapped": (
        (*WORDS[:-2], WORDS[-1], WORDS[-2]),
        "token 58 is word54",
        "token 58 is word53",
    ),
    "a word too few": (WORDS[:-1], "59 tokens; token 59 is None", "60 tokens"),
    "a word too many": ((*WORDS, "more"), "61 tokens; token 60 is more", "token 60 is None"),
}


@pytest.mark.parametrize(("words", "seen", "accepted"), OTHERS.values(), ids=OTHERS)
def test_other_words_are_refused_and_the_way_to_the_right_ones_is_told(
    tmp_path: Path, words: tuple[str, ...], seen: str, accepted: str
) -> None:
    write_bert(tmp_path / "bert")
    with pytest.raises(
        DataError, match="the data set's vocabulary differs from that of"
    ) as refused:
        check_vocabulary(str(tmp_path / "bert"), tokenizer(tmp_path, words))
    assert seen in refused.value.seen
    assert accepted in refused.value.accepted
    assert f"--vocabulary {tmp_path / 'bert' / 'vocab.txt'}" in refused.value.accepted


def test_without_tokenizer_files_the_number_of_words_must_do(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_bert(tmp_path / "bert", words=None)
    check_vocabulary(str(tmp_path / "bert"), tokenizer(tmp_path))
    assert "are assumed to be the same" in caplog.text
    with pytest.raises(DataError, match="seen '59 tokens'; accepted: 60 tokens"):
        check_vocabulary(str(tmp_path / "bert"), tokenizer(tmp_path, WORDS[:-1]))


def test_a_damaged_tokenizer_is_refused(tmp_path: Path) -> None:
    write_bert(tmp_path / "bert")
    (tmp_path / "bert" / "tokenizer.json").write_text("{")
    with pytest.raises(CheckpointError, match="cannot read the tokenizer"):
        check_vocabulary(str(tmp_path / "bert"), tokenizer(tmp_path))


@pytest.mark.parametrize(("theirs", "warned"), [("true", False), ("false", True)])
def test_data_without_capitals_for_a_checkpoint_with_them_are_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, theirs: str, warned: bool
) -> None:
    write_bert(tmp_path / "bert")
    (tmp_path / "bert" / "tokenizer_config.json").write_text(f'{{"do_lower_case": {theirs}}}')
    check_vocabulary(str(tmp_path / "bert"), tokenizer(tmp_path))
    assert ("trained on text with capitals" in caplog.text) == warned
