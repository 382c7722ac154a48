"""Our JSON files: readable by people, and by every program."""

from pathlib import Path

import pytest

from lanistr.jsonfile import write_json


def test_a_file_says_letters_as_they_are_and_ends_its_last_line(tmp_path: Path):
    write_json(tmp_path / "a.json", {"unit": "°C", "of": [1]})
    assert (tmp_path / "a.json").read_text("utf-8") == '{\n "unit": "°C",\n "of": [\n  1\n ]\n}\n'


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_what_json_cannot_say_is_not_written(tmp_path: Path, number: float):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"loss": number})
    assert not (tmp_path / "a.json").exists()
