"""YAML that people write: settings by name, none of them twice."""

import re
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from lanistr.errors import LanistrError, one_line


class RepeatedKeyError(yaml.MarkedYAMLError):
    """A key stands twice in one mapping, where PyYAML would let the last one win.

    Attributes:
        key: as it is written.
        line: of the second, from 1.
        first: of the first.
    """

    def __init__(self, first: yaml.ScalarNode, second: yaml.ScalarNode) -> None:
        super().__init__(
            problem=f"the key {second.value!r} appears twice", problem_mark=second.start_mark
        )
        self.key = second.value
        self.first, self.line = (each.start_mark.line + 1 for each in (first, second))


_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_MISREAD = re.compile(r"[-+]?0[0-7_]+|.*:.*")
"""Of numbers: octal ones, and those in base 60."""


class _Loader(yaml.SafeLoader):
    """Reads plain values and refuses a key that stands twice.

    Checked before merge keys (`<<`) are expanded: what they bring may be overridden. Also refuses
    half of a surrogate pair, as JSON escapes characters beyond U+FFFF: YAML writes them whole, and
    no file can hold a half. And a number that YAML 1.1 takes for another than it looks like: 0100
    for 64, 1:30 for 90.
    """

    def compose_scalar_node(self, anchor: Any) -> yaml.ScalarNode:
        node: yaml.ScalarNode = super().compose_scalar_node(anchor)
        if any("\ud800" <= letter <= "\udfff" for letter in node.value):
            raise yaml.MarkedYAMLError(
                problem=f"{node.value!a} has half a surrogate pair: write the character itself, or "
                'one escape, such as "\\U0001f469"',
                problem_mark=node.start_mark,
            )
        if node.tag in _NUMBERS and _MISREAD.fullmatch(node.value):
            raise yaml.MarkedYAMLError(
                problem=f"{node.value} would be read as {self.construct_object(node)}: write a "
                "number without a leading zero or a colon, or put it in quotes",
                problem_mark=node.start_mark,
            )
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: dict[tuple[str, str], yaml.ScalarNode] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                first = seen.setdefault((key.tag, key.value), key)
                if first is not key:
                    raise RepeatedKeyError(first, key)
        return node


def read_yaml(text: str) -> Any:
    """Return what a YAML text says.

    Raises:
        yaml.YAMLError: it is not YAML, has half a character, or a key stands twice
            (`RepeatedKeyError`).
        ValueError: it has an impossible date.
    """
    return yaml.load(text, _Loader)


_read = lru_cache(read_yaml)
"""Of settings: the runs of a table read the same few recipes, which takes most of their time."""


def read_settings(path: Path, what: str, error: type[LanistrError]) -> dict[str, Any]:
    """Read a file of settings.

    Args:
        path: of the file.
        what: what the settings make, in a word.
        error: what to raise.

    Raises:
        error: the file cannot be read, is not YAML, has a key twice, or no keys at all.
    """
    field = str(path)
    try:
        data = deepcopy(_read(path.read_text(encoding="utf-8")))
    except OSError as exc:
        raise error(f"cannot be read: {exc.strerror}", code=f"no_{what}_file", field=field) from exc
    except UnicodeDecodeError as exc:
        raise error(f"not UTF-8: {exc}", code=f"no_{what}_file", field=field) from exc
    except RepeatedKeyError as exc:
        raise error(
            f"line {exc.line}: a key appears twice",
            code="repeated_key",
            field=field,
            seen=exc.key,
            accepted=f"each key once; this one is already in line {exc.first}",
        ) from exc
    except (yaml.YAMLError, ValueError) as exc:
        raise error(f"not YAML: {one_line(exc)}", code="bad_yaml", field=field) from exc
    if not isinstance(data, dict):
        raise error(
            f"not a {what}",
            code="bad_schema",
            field=field,
            seen=data,
            accepted="a YAML mapping of names to settings",
        )
    return data
