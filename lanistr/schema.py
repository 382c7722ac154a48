"""The strict base of everything that is read from YAML or JSON: tasks, recipes, manifests."""

from collections.abc import Iterator
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from lanistr.errors import LanistrError, unknown_name


class Schema(BaseModel):
    """An immutable record that refuses unknown keys and names the nearest known one."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def parse(
        cls, data: Any, error: type[LanistrError], source: str, *, within: tuple[str, ...] = ()
    ) -> Self:
        """Validate `data` as read from a file, or from the part of one that `within` leads to.

        Raises:
            error: for the first thing wrong, with the path inside `source` and what is accepted.
        """
        try:
            return cls.model_validate(data)
        except ValidationError as exc:
            first = exc.errors(include_url=False)[0]
            path = ".".join(str(step) for step in (*within, *first["loc"]))
            if first["type"] == "extra_forbidden":
                message = f"{source}: unknown key"
                accepted = unknown_name(first["loc"][-1], _keys_at(cls, first["loc"][:-1]))
            else:
                message, accepted = f"{source}: {first['msg']}", ""
            seen = None if first["type"] == "missing" else first["input"]
            raise error(
                message, code="bad_schema", field=path, seen=seen, accepted=accepted
            ) from exc


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of nested settings by their paths."""
    if isinstance(value, dict) and value:
        for name, each in value.items():
            yield from leaves(each, f"{path}.{name}" if path else name)
    else:
        yield path, value


def _keys_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Return the keys of the nested model that pydantic's error location points into."""
    found: list[type[BaseModel]] = [model]
    for step in location:
        inner: list[type[BaseModel]] = []
        for each in found:
            if step in each.model_fields:
                inner += _models_in(each.model_fields[str(step)].annotation)
        found = inner or found
    return sorted({name for each in found for name in each.model_fields})


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """Return every model class named in a type annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    arguments = getattr(annotation, "__args__", ())
    return [model for each in arguments for model in _models_in(each)]
