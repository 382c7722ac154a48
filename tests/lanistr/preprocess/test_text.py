"""Notes: what is read, cleaned, tokenised and cut."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lanistr.errors import ConfigError, InputError
from lanistr.issues import IssueLog
from lanistr.preprocess import text as text_module
from lanistr.preprocess.text import TextOptions, TextPreprocessor
from lanistr.tasks import TaskSpec

NOTES = ("The patient sleeps.", "the patient wakes and eats; mask on, pad dry, sep ruled out") * 3


@pytest.fixture(scope="module")
def trained(mortality: TaskSpec) -> TextPreprocessor:
    return TextPreprocessor.fit([NOTES], mortality, TextOptions(max_tokens=32))


@pytest.fixture(scope="module")
def bert(mortality: TaskSpec, open_data: Path) -> TextPreprocessor:
    vocabulary = open_data / "bert_base_uncased_vocab" / "vocab.txt"
    return TextPreprocessor.fit([], mortality, TextOptions(vocabulary=vocabulary))


def ids(text: TextPreprocessor, *notes: str) -> list[list[int]]:
    return [row["token_ids"].tolist() for row in text.apply(notes, IssueLog())]


def tokens(text: TextPreprocessor, note: str) -> list[str]:
    return [text.tokenizer.id_to_token(each) for each in ids(text, note)[0]]


# ---- reading ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "notes"),
    [
        (None, None),
        ([], None),
        ([None], None),
        ("a", ("a",)),
        (["a", "b"], ("a", "b")),
        (["a", None, "b"], ("a", "b")),
    ],
)
def test_text_is_a_string_or_a_list_of_strings(mortality: TaskSpec, value: Any, notes: Any):
    assert TextPreprocessor.read(value, mortality, IssueLog()) == notes


@pytest.mark.parametrize(
    ("value", "field"),
    [(3, "text"), ({}, "text"), (b"a", "text"), (["a", 3], "text[1]"), ([["a"]], "text[0]")],
)
def test_anything_else_is_refused_with_its_place(mortality: TaskSpec, value: Any, field: str):
    with pytest.raises(InputError) as caught:
        TextPreprocessor.read(value, mortality, IssueLog())
    assert (caught.value.code, caught.value.field) == ("wrong_type", field)


def test_half_a_character_is_refused(mortality: TaskSpec):
    with pytest.raises(InputError, match="surrogate") as caught:
        TextPreprocessor.read("broken \ud83d emoji", mortality, IssueLog())
    assert caught.value.seen == r"'\ud83d'"
    assert TextPreprocessor.read("whole 😀 emoji\x00", mortality, IssueLog()) is not None


# ---- tokens -------------------------------------------------------------------------------------


def test_the_real_vocabulary_gives_berts_own_ids(bert: TextPreprocessor):
    assert ids(bert, "Hello, world!") == [[101, 7592, 1010, 2088, 999, 102]]
    assert tokens(bert, "electroencephalography")[1:-1] == [
        "electro",
        "##ence",
        "##pha",
        "##log",
        "##raphy",
    ]
    assert bert.dimensions() == {
        "vocab_size": 30522,
        "max_tokens": 512,
        "pad_id": 0,
        "cls_id": 101,
        "sep_id": 102,
        "mask_id": 103,
    }


def test_a_note_of_twenty_thousand_characters_is_cut_at_the_limit_and_reported(
    bert: TextPreprocessor, log: IssueLog
):
    note = ("The patient was extubated and slept. " * 600)[:20_000]
    (row,) = bert.apply((note,), log)
    assert row["token_ids"].shape == (512,)
    assert row["token_ids"].dtype == np.int64
    assert (row["token_ids"][0], row["token_ids"][-1]) == (101, 102)
    (issue,) = log.issues
    assert (issue.code, issue.action, issue.field) == ("text_cut", "kept", "text")
    assert (issue.seen, issue.detail) == ("more than 512 tokens", "the first 512 tokens")


# What ends a word and what does not, what vanishes, what is reordered: every rule of the tokenizer.
letters = st.sampled_from(
    " .,-'/[]*_$=abcXYZ09\u00e9\u00c9\u0130\u0131\u00df\u03a3\u03c3\u0915\u093e"
    "\uac00\u1161\u1e9b\u00bd\u0301\u0323\u0338\u0345\u0f73\u200b\u00ad\u2014\u201c\u2026\u3002\u4e00\u9fff\u3400"
    "\uf900\U00020000\U0001f600"
) | st.characters(exclude_categories=["Cs"])
long_words = st.integers(95, 130).map(lambda length: "a1" * (length // 2) + "b" * (length % 2))
texts = st.lists(st.text(letters, max_size=12) | long_words, max_size=12).map("".join)


@pytest.mark.parametrize("lowercase", [True, False])
def test_a_text_tokenised_piece_by_piece_has_the_ids_of_the_whole(
    mortality: TaskSpec, open_data: Path, monkeypatch: pytest.MonkeyPatch, lowercase: bool
):
    monkeypatch.setattr(text_module, "_PIECE", 1)
    vocabulary = open_data / "bert_base_uncased_vocab" / "vocab.txt"
    options = TextOptions(vocabulary=vocabulary, lowercase=lowercase, max_tokens=16)
    fitted = TextPreprocessor.fit([], mortality, options)

    @settings(max_examples=400)
    @given(texts)
    def attempt(note: str) -> None:
        whole = fitted.tokenizer.encode(text_module._clean(note)).ids
        log = IssueLog()
        rows = fitted.apply((note,), log)
        if len(whole) == 2:
            assert not rows
        elif len(whole) <= 16:
            assert rows[0]["token_ids"].tolist() == whole
            assert {issue.code for issue in log.issues} <= {"unknown_words"}
        else:
            assert rows[0]["token_ids"].tolist() == [*whole[:15], whole[-1]]
            assert {issue.code for issue in log.issues} - {"unknown_words"} == {"text_cut"}

    attempt()


@pytest.mark.parametrize(
    "note", ["pt stable at 10:30 " * 10_000, "!" * 190_000, "\u4e00" * 190_000]
)
def test_of_a_long_note_no_more_is_tokenised_than_the_model_sees(
    trained: TextPreprocessor, note: str
):
    fitted = TextPreprocessor(Watched(trained.tokenizer), trained.max_tokens)
    assert ids(fitted, note) == ids(trained, note)
    assert fitted.tokenizer.characters < 5000


def test_of_a_word_without_end_no_more_is_tokenised_than_makes_it_unknown(
    trained: TextPreprocessor,
):
    fitted = TextPreprocessor(Watched(trained.tokenizer), trained.max_tokens)
    assert tokens(fitted, "a" * 190_000) == ["[CLS]", "[UNK]", "[SEP]"]
    assert fitted.tokenizer.characters < 5000


class Watched:
    """A tokenizer that counts the characters it is given."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.characters = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tokenizer, name)

    def encode_batch_fast(self, texts: list[str], **options: Any) -> Any:
        self.characters += sum(map(len, texts))
        return self.tokenizer.encode_batch_fast(texts, **options)


def test_a_word_of_twenty_thousand_letters_is_one_unknown_word(bert: TextPreprocessor):
    assert ids(bert, "a" * 20_000) == [[101, 100, 102]]


def test_a_note_just_within_the_limit_is_left_whole(trained: TextPreprocessor, log: IssueLog):
    (row,) = trained.apply(("the " * 30,), log)
    assert len(row["token_ids"]) == 32
    assert not log.issues
    (row,) = trained.apply(("the " * 31,), log)
    assert len(row["token_ids"]) == 32
    assert [issue.code for issue in log.issues] == ["text_cut"]


def test_white_space_and_case_do_not_matter(trained: TextPreprocessor):
    assert ids(trained, "The  patient\n\tsleeps. ") == ids(trained, "the patient SLEEPS.")


@pytest.mark.parametrize(
    "mark", ["___", "______", "[**Known lastname 123**]", "[**2101-1-1\n**]", " ___ "]
)
def test_marks_of_deidentification_are_taken_out(trained: TextPreprocessor, mark: str):
    assert ids(trained, f"the {mark} patient") == ids(trained, "the patient")


def test_fewer_underscores_are_somebodys_own(trained: TextPreprocessor):
    assert ids(trained, "the __ patient") != ids(trained, "the patient")


@pytest.mark.parametrize("note", ["", "   ", "\n", "___", "[**Name**]", "\x00"])
def test_a_note_without_words_is_dropped_with_an_issue(
    trained: TextPreprocessor, log: IssueLog, note: str
):
    assert trained.apply((note,), log) == ()
    assert [(issue.code, issue.action) for issue in log.issues] == [("empty", "dropped")]


def test_among_several_notes_the_empty_one_is_named(trained: TextPreprocessor, log: IssueLog):
    assert len(trained.apply(("the patient", "", "wakes"), log)) == 2
    assert log.issues[0].field == "text[1]"


def test_a_note_is_called_by_its_place_in_the_record(
    mortality: TaskSpec, trained: TextPreprocessor, log: IssueLog
):
    notes = TextPreprocessor.read(["the patient", "", None, "wakes " * 40], mortality, log)
    assert notes is not None
    trained.apply(notes, log)
    assert [(issue.code, issue.field) for issue in log.issues] == [
        ("empty", "text[1]"),
        ("text_cut", "text[3]"),
    ]
    alone = TextPreprocessor.read([None, "___"], mortality, log)
    assert alone is not None
    trained.apply(alone, log)
    assert log.issues[-1].field == "text[1]"


@pytest.mark.parametrize("special", ["[MASK]", "[PAD]", "[CLS]", "[SEP]"])
def test_a_special_token_written_in_a_note_is_only_letters(trained: TextPreprocessor, special: str):
    wanted = trained.tokenizer.token_to_id(special)
    assert wanted not in ids(trained, f"the {special} patient")[0][1:-1]


def test_what_no_vocabulary_knows_is_unknown_but_present(trained: TextPreprocessor):
    assert tokens(trained, "☃ 中") == ["[CLS]", "[UNK]", "[UNK]", "[SEP]"]


# ---- fitting ------------------------------------------------------------------------------------


def test_a_trained_vocabulary_knows_the_words_of_training_and_is_no_larger_than_asked(
    mortality: TaskSpec,
):
    text = TextPreprocessor.fit([NOTES], mortality, TextOptions(vocabulary_size=100))
    assert text.dimensions()["vocab_size"] <= 100
    assert "[UNK]" not in tokens(text, "the patient wakes")
    assert text.layout()["token_ids"].limit == text.dimensions()["vocab_size"]


def test_without_any_training_note_only_the_special_tokens_are_known(mortality: TaskSpec):
    text = TextPreprocessor.fit([], mortality, TextOptions())
    assert text.dimensions()["vocab_size"] == 5
    assert tokens(text, "word") == ["[CLS]", "[UNK]", "[SEP]"]


def test_of_more_letters_than_a_vocabulary_knows_the_same_are_kept_every_time(mortality: TaskSpec):
    signs = [chr(0x4E00 + i) for i in range(1200)]
    notes = [(" ".join(reversed(signs)),), (signs[-1],)]
    text = TextPreprocessor.fit(notes, mortality, TextOptions())
    known = [each for each in text.tokenizer.get_vocab() if not each.startswith("[")]
    assert sorted(known) == [*signs[:999], signs[-1]]


def test_a_vocabulary_that_is_missing_or_none_is_the_users_mistake(
    mortality: TaskSpec, tmp_path: Path
):
    (tmp_path / "words.txt").write_text("one\ntwo\n")
    for path in (tmp_path / "nowhere.txt", tmp_path / "words.txt"):
        with pytest.raises(ConfigError) as caught:
            TextPreprocessor.fit([], mortality, TextOptions(vocabulary=path))
        assert caught.value.field == "text.vocabulary"


def test_what_is_saved_tokenises_the_same(
    trained: TextPreprocessor, mortality: TaskSpec, tmp_path: Path
):
    again = TextPreprocessor.load(trained.save(tmp_path), mortality, tmp_path)
    for note in (*NOTES, "[MASK] ☃ " * 40):
        assert ids(again, note) == ids(trained, note)
    assert again.dimensions() == trained.dimensions()


def test_a_note_full_of_opened_marks_is_read_in_one_pass(trained: TextPreprocessor):
    """It once took a minute for so many, and half an hour for a long note."""
    log = IssueLog()
    assert len(trained.apply(("[** " * 50_000,), log)) == 1
    assert [issue.code for issue in log.issues] == ["text_cut", "unknown_words"]


def test_a_note_in_a_script_that_the_vocabulary_lacks_is_told(
    bert: TextPreprocessor, log: IssueLog
):
    bert.apply(
        ("The patient is stable, temperature 38.5 \N{DEGREE SIGN}C \N{THUMBS UP SIGN}",), log
    )
    assert not log.issues
    bert.apply(("የታካሚው ሁኔታ የተረጋጋ ነው", "stable"), log)
    (issue,) = log.issues
    assert (issue.code, issue.field, issue.action) == ("unknown_words", "text[0]", "kept")
    assert issue.seen == "4 of 4 tokens"


def test_a_suspicion_of_the_task_file_is_raised_where_its_words_stand(
    mortality: TaskSpec, log: IssueLog
):
    notes = TextPreprocessor.read(
        ["wound discharge: purulent", "Chest clear.\n  DISCHARGE SUMMARY \n"], mortality, log
    )
    assert notes is not None
    assert len(notes) == 2
    (issue,) = log.issues
    said = (issue.code, issue.field, issue.seen, issue.action)
    assert said == ("discharge_summary", "text[1]", "DISCHARGE SUMMARY", "kept")


@pytest.mark.parametrize("between", ["\n", "\n.", " ", "discharge ", "[**", "death of "])
def test_no_note_is_looked_at_for_long(mortality: TaskSpec, between: str):
    """A backtracking search takes time as the square of the first three: minutes, or an hour."""
    assert mortality.text is not None
    note = "x" + between * (200_000 // len(between)) + "y"
    assert [each.find(note) for each in mortality.text.suspicions] == [None]
