"""What the service answers: these models are the contract, and stand in the OpenAPI document."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from lanistr.issues import Action
from lanistr.modalities import Modality
from lanistr.tasks import ImageSpec, LabelSpec, TabularSpec, TextSpec, TimeseriesSpec


class Answer(BaseModel):
    """A frozen answer; what was not set is left out of the JSON."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    def json_bytes(self) -> bytes:
        """Return the answer as JSON."""
        return self.model_dump_json(exclude_unset=True).encode()


# ---- predictions --------------------------------------------------------------------------------


class Model(Answer):
    """The model that answered."""

    name: str
    version: str = Field(description="first digits of the hash over the bundle's files")
    demo: bool = Field(description="true: the weights come from made-up records and mean nothing")


class Prediction(Answer):
    """What the model says; which fields there are depends on the task's label."""

    label: str | None = Field(default=None, description="most likely class")
    probability: float | None = Field(
        default=None, description="of the second class; binary labels only"
    )
    probabilities: dict[str, float] | None = Field(default=None, description="by class")
    expected: float | None = Field(
        default=None, description="mean of the classes' values; ordinal labels only"
    )
    value: float | None = Field(default=None, description="regression only")
    set: list[str] | None = Field(
        default=None,
        description="classes that hold the truth at the coverage asked for (conformal); not there "
        "if the model was exported without held-out scores",
    )
    interval: tuple[float, float] | None = Field(
        default=None, description="the same for regression"
    )


class Modalities(Answer):
    """Which parts of the record the prediction rests on."""

    used: list[Modality]
    missing: list[Modality]
    contributions: dict[Modality, float] | None = Field(
        default=None,
        description="with explain=true: exact Shapley value of each part used, in log-odds (binary "
        "and multi-class labels), the label's values (ordinal) or its unit (regression)",
    )
    baseline: float | None = Field(
        default=None,
        description="with explain=true: what is predicted from nothing, in the same unit; with the "
        "contributions it adds up to the prediction",
    )


class Issue(Answer):
    """A value that was not used as it came."""

    code: str = Field(description="stable short name, such as out_of_range")
    field: str = Field(description="path of the value, such as timeseries[3].heart_rate")
    seen: Any = Field(description="the value, shortened")
    action: Action
    detail: str = Field(description="what is accepted, or what the value became")


class Timing(Answer):
    """What the request took, in milliseconds, from the last byte of its body."""

    preprocess: float
    queue: float
    inference: float


class PredictionAnswer(Answer):
    """The answer to one case."""

    id: str | None = Field(description="the name that the request gave the case")
    task: str
    model: Model
    prediction: Prediction
    modalities: Modalities
    issues: list[Issue]
    request_id: str
    timing_ms: Timing


# ---- tasks --------------------------------------------------------------------------------------


class TaskSummary(Answer):
    """A task that is served."""

    name: str
    title: str
    description: str
    modalities: list[Modality]
    model: Model
    versions: list[str] = Field(description="of models that can be asked for, the newest first")


class Tasks(Answer):
    """All tasks that are served."""

    tasks: list[TaskSummary]


class Example(Answer):
    """A made-up case."""

    title: str
    record: dict[str, Any] = Field(description="a record that can be sent as it is")


class TaskDetail(TaskSummary):
    """What a task takes and what its model is worth."""

    label: LabelSpec
    metric: str
    text: TextSpec | None = None
    image: ImageSpec | None = None
    tabular: TabularSpec | None = None
    timeseries: TimeseriesSpec | None = None
    examples: list[Example] = Field(description="made-up cases; the first is complete")
    created: str
    precision: str
    metrics: dict[str, float] = Field(description="on the test split")
    card: str = Field(description="the model card, Markdown")


# ---- state and problems -------------------------------------------------------------------------


class Health(Answer):
    """The process lives."""

    status: str


class Readiness(Answer):
    """Whether requests are taken: starting, ready or stopping."""

    status: str
    tasks: list[str]


class Problem(Answer):
    """What went wrong, as RFC 9457 has it."""

    type: str
    title: str
    status: int
    code: str = Field(description="stable short name, for programs")
    detail: str
    field: str | None = Field(description="path of the offending value")
    seen: Any = Field(description="what stood there, shortened")
    accepted: str | None = Field(description="what would have been taken")
    request_id: str
    issues: list[Issue] = Field(description="what else was noticed in the record before that")
