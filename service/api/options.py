"""What may stand behind the question mark of /predict/{task}."""

from pydantic import BaseModel, ConfigDict, Field


class Options(BaseModel):
    """Query parameters of a prediction."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    explain: bool = Field(
        default=False, description="also say what each part contributed (exact Shapley values)"
    )
    coverage: float = Field(
        default=0.9, gt=0, lt=1, description="share of cases whose truth the set is to hold"
    )
