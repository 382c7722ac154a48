"""What may stand behind the question mark of /predict/{task}."""

from pydantic import BaseModel, ConfigDict, Field

VERSION = "of the model, if not the newest"


class Options(BaseModel):
    """Query parameters of a prediction."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    explain: bool = Field(
        default=False, description="also say what each part contributed (exact Shapley values)"
    )
    coverage: float = Field(
        default=0.9, gt=0, lt=1, description="share of cases whose truth the set is to hold"
    )
    version: str | None = Field(default=None, description=VERSION)


def accepted(name: str) -> str:
    """Say what a parameter takes, in words."""
    schema = Options.model_json_schema()["properties"][name]
    if schema["type"] == "boolean":
        return "true or false"
    bounds = {"exclusiveMinimum": "above", "exclusiveMaximum": "below"}
    said = [f"{word} {schema[bound]}" for bound, word in bounds.items() if bound in schema]
    return f"a {schema['type']} {' and '.join(said)}"
