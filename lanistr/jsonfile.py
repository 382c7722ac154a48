"""JSON files as all of ours are: for programs, and to be read by people."""

import json
from pathlib import Path
from typing import Any


def json_text(value: Any) -> str:
    """Return the text of a JSON file, indented, in which letters other than ASCII stay themselves.

    Raises:
        ValueError: a number is infinite or none (NaN), which JSON cannot say.
    """
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file; see `json_text`."""
    path.write_text(json_text(value), encoding="utf-8")
