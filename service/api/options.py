"""What may stand behind the question mark of /predict/{task}."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request

from lanistr.errors import InputError, unknown_name

VERSION = "version of the model (default: the newest)"


class Options(BaseModel):
    """Query parameters of a prediction."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    explain: bool = Field(
        default=False, description="include each modality's contribution (exact Shapley values)"
    )
    coverage: float = Field(
        default=0.9,
        gt=0,
        lt=1,
        description="share of cases whose set or interval should contain the truth",
    )
    version: str | None = Field(default=None, description=VERSION)


_USUAL = Options()


def query_of(request: Request) -> Mapping[str, str]:
    """Return the query of a request; most have none, and need no parser."""
    return request.query_params if request.scope["query_string"] else {}


def refuse_others(request: Request, known: Collection[str]) -> None:
    """Refuse what a query holds beside the parameters that are known.

    Raises:
        InputError: one is not known, or stands twice.
    """
    if request.scope["query_string"]:
        names = [name for name, _ in request.query_params.multi_items()]
        refuse_unknown(names, known)
        for name in names:
            if names.count(name) > 1:
                raise InputError(
                    "a parameter is given twice",
                    code="bad_parameter",
                    field=name,
                    seen=" and ".join(request.query_params.getlist(name)),
                    accepted="one value",
                )


def refuse_unknown(names: Iterable[str], known: Collection[str], place: str = "") -> None:
    """Refuse parameters that nobody would read.

    Args:
        names: of those that are there.
        known: names that are accepted.
        place: where they stand, in front of their names.

    Raises:
        InputError: one is not known.
    """
    for name in names:
        if name not in known:
            raise InputError(
                "unknown parameter",
                code="bad_parameter",
                field=place + name,
                seen=name,
                accepted=unknown_name(name, known) if known else "none",
            )


def read_options(parameters: Mapping[str, Any], place: str = "") -> Options:
    """Return the options that parameters are.

    Args:
        parameters: by name, none but those of `Options`.
        place: where they stand, in front of their names.

    Raises:
        InputError: a parameter is not usable.
    """
    if not parameters:
        return _USUAL
    try:
        return Options.model_validate(dict(parameters))
    except ValidationError as exc:
        first = exc.errors(include_url=False)[0]
    name = str(first["loc"][-1])
    raise InputError(
        first["msg"],
        code="bad_parameter",
        field=place + name,
        seen=first["input"],
        accepted=_accepted(name),
    )


def _accepted(name: str) -> str:
    """Say what a parameter takes, in words."""
    schema = Options.model_json_schema()["properties"][name]
    if schema["type"] == "boolean":
        return "true or false"
    bounds = {"exclusiveMinimum": "above", "exclusiveMaximum": "below"}
    said = [f"{word} {schema[bound]}" for bound, word in bounds.items() if bound in schema]
    return f"a {schema['type']} {' and '.join(said)}"
