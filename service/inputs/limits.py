"""How much one request may bring. What is over a limit is refused before it costs anything."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from lanistr.errors import InputError
from lanistr.modalities import Modality


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a request; those of a part are called after its modality.

    Attributes:
        json_depth: nesting of objects and lists.
        json_containers: how many of them there may be in JSON.
        form_parts: parts of a form.
        text_items, image_items, timeseries_items: notes, pictures, rows.
        text_characters: length of a note.
        timeseries_hours: largest time of a row, either way from the start.
    """

    json_depth: int
    json_containers: int
    form_parts: int
    text_items: int
    text_characters: int
    image_items: int
    timeseries_items: int
    timeseries_hours: float

    def deeper(self) -> "Limits":
        """Return the limits of a list of records."""
        return replace(self, json_depth=self.json_depth + 1)

    def check(self, record: Any) -> Any:
        """Count what a record brings, whatever else may be wrong with it, and return it.

        Raises:
            InputError: a part has too many items, or one of them is too long or too far off.
        """
        if not isinstance(record, Mapping):
            return record
        for modality in Modality:
            part = record.get(modality)
            most: int | None = getattr(self, f"{modality}_items", None)
            if most is not None and isinstance(part, list) and len(part) > most:
                raise over("too_many", modality, f"{len(part):,} items", f"{most:,}")
            longest: int | None = getattr(self, f"{modality}_characters", None)
            farthest: float | None = getattr(self, f"{modality}_hours", None)
            for i, item in enumerate(part if isinstance(part, list) else [part]):
                if longest is not None and isinstance(item, str) and len(item) > longest:
                    path = f"{modality}[{i}]" if isinstance(part, list) else modality
                    seen = f"{len(item):,} characters"
                    raise over("too_long", path, seen, f"{longest:,} characters")
                if farthest is not None and isinstance(item, Mapping):
                    hours = item.get("hours")
                    if isinstance(hours, int | float) and abs(hours) > farthest:
                        path = f"{modality}[{i}]" if isinstance(part, list) else modality
                        most_hours = f"{farthest:,.10g} hours from the start, before or after"
                        raise over("too_many_hours", f"{path}.hours", f"{hours:g}", most_hours)
        return record


def over(code: str, field: str, seen: str, most: str) -> InputError:
    """Return the error of a part that is over a limit."""
    return InputError(
        "over the limit", code=code, field=field, seen=seen, accepted="at most " + most
    )
