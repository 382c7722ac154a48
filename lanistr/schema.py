"""The strict base of everything that is read from YAML or JSON: tasks, recipes, manifests."""

from collections.abc import Iterator
from typing import Any, Self, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from lanistr.errors import LanistrError, unknown_name


class Schema(BaseModel):
    """An immutable record that refuses unknown keys and names the nearest known one."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def parse(
        cls,
        data: Any,
        error: type[LanistrError],
        source: str,
        *,
        within: tuple[str, ...] = (),
        context: str = "",
    ) -> Self:
        """Validate `data` as read from a file, or from the part of one that `within` leads to.

        Validators may depend on the `context`.

        Raises:
            error: for the first thing wrong, with the path inside `source` and what is accepted.
        """
        try:
            return cls.model_validate(data, context=context)
        except ValidationError as exc:
            first = exc.errors(include_url=False)[0]
            steps, keys = _place(cls, first["loc"])
            path = ".".join(str(step) for step in (*within, *steps))
            if first["type"] == "extra_forbidden":
                message = f"{source}: unknown key"
                accepted = unknown_name(str(steps[-1]), keys)
            else:
                message, accepted = f"{source}: {first['msg']}", ""
            seen = None if first["type"] == "missing" else first["input"]
            if first["type"] == "union_tag_invalid":
                seen, kinds = (first["ctx"][each] for each in ("tag", "expected_tags"))
                message, path = f"{source}: no such kind", f"{path}.kind"
                accepted = unknown_name(seen, kinds.strip("'").split("', '"))
            raise error(
                message, code="bad_schema", field=path, seen=seen, accepted=accepted
            ) from exc


def usual_kind(kind: str) -> BeforeValidator:
    """Return what says which of several schemas is meant where a record does not, by its `kind`.

    Stands behind `Field(discriminator="kind")` in the annotation of a field.
    """
    return BeforeValidator(
        lambda given: {"kind": kind, **given} if isinstance(given, dict) else given
    )


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of nested settings by their paths."""
    if isinstance(value, dict) and value:
        for name, each in value.items():
            yield from leaves(each, f"{path}.{name}" if path else name)
    else:
        yield path, value


def _place(
    model: type[BaseModel], location: tuple[int | str, ...]
) -> tuple[list[int | str], list[str]]:
    """Return the path that pydantic's error location means, and the keys known where it leads.

    Pydantic names the `kind` of a record on the way into it, which no path in a file does.
    """
    found: list[type[BaseModel]] = [model]
    steps: list[int | str] = []
    for step in location:
        kinds = [each for each in found if step in _kinds(each)]
        if kinds and step not in found[0].model_fields:
            found = kinds
            continue
        steps.append(step)
        inner: list[type[BaseModel]] = []
        for each in found:
            if step in each.model_fields:
                inner += _models_in(each.model_fields[str(step)].annotation)
        found = inner or found
    return steps, sorted({name for each in found for name in each.model_fields})


def _kinds(model: type[BaseModel]) -> tuple[Any, ...]:
    """Return what the `kind` of a record may be, where that tells the record from others."""
    field = model.model_fields.get("kind")
    return get_args(field.annotation) if field else ()


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """Return every model class named in a type annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    arguments = getattr(annotation, "__args__", ())
    return [model for each in arguments for model in _models_in(each)]
