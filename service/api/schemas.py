"""What the service answers: these types are the contract, and stand in the OpenAPI document.

What is answered to a case is a plain dictionary, of a type that names what is in it: many are made
a second, and nothing is gained by looking at each of them again. The rest are models.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NotRequired, final

import orjson
from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict  # pydantic cannot read that of Python 3.11

from lanistr.decision import Decision
from lanistr.issues import Action
from lanistr.modalities import Modality
from lanistr.tasks import ImageSpec, LabelSpec, TabularSpec, TextSpec, TimeseriesSpec


def encode(answer: Mapping[str, Any]) -> bytes:
    """Return an answer as JSON."""
    return orjson.dumps(answer, option=orjson.OPT_NON_STR_KEYS)  # modalities


# ---- predictions --------------------------------------------------------------------------------


class Model(TypedDict):
    """The model that answered."""

    name: str
    version: Annotated[str, Field(description="first digits of the hash of the bundle's files")]
    demo: Annotated[
        bool,
        Field(
            description="true: the model was trained on synthetic records, and its "
            "predictions mean nothing"
        ),
    ]


class Conformal(TypedDict):
    """What a conformal set or interval rests on."""

    coverage: Annotated[
        float, Field(description="share of new cases whose truth such sets contain")
    ]
    cases: Annotated[int, Field(description="held-out cases whose scores were used")]
    pattern: Annotated[
        list[Modality] | None,
        Field(
            description="modalities that these cases have, as this one does; null: too few have "
            "the same, so that the scores of all cases are used and the coverage holds over "
            "all of them together"
        ),
    ]


class Prediction(TypedDict, total=False):
    """What the model says; which fields there are depends on the task's label."""

    label: Annotated[
        str,
        Field(
            description="predicted class: the most likely one, or by the task's "
            "`calibration.decision`"
        ),
    ]
    probability: Annotated[
        float, Field(description="probability of the second class; binary labels only")
    ]
    probabilities: Annotated[dict[str, float], Field(description="probability of each class")]
    expected: Annotated[
        float,
        Field(description="probability-weighted mean of the classes' values; ordinal labels only"),
    ]
    value: Annotated[float, Field(description="predicted value; regression only")]
    set: Annotated[
        tuple[str, ...],
        Field(
            description="conformal set: classes that together contain the truth at the requested "
            "coverage; absent if the model was exported without held-out scores"
        ),
    ]
    interval: Annotated[
        tuple[float, float],
        Field(
            description="conformal interval: lowest and highest value; ordinal labels and "
            "regression only"
        ),
    ]
    conformal: Annotated[Conformal, Field(description="what the set and the interval are based on")]


class Parts(TypedDict):
    """Which parts of the record were usable."""

    used: tuple[Modality, ...]
    missing: tuple[Modality, ...]


class Modalities(Parts):
    """Which parts of the record the prediction rests on."""

    contributions: NotRequired[
        Annotated[
            dict[Modality, float],
            Field(
                description="with explain=true: exact Shapley value of each modality (0 if "
                "missing), in log-odds (binary and multi-class labels), the label's values "
                "(ordinal) or its unit (regression)"
            ),
        ]
    ]
    baseline: NotRequired[
        Annotated[
            float,
            Field(
                description="with explain=true: the prediction from no modality, in the same "
                "unit; together with the contributions it adds up to the prediction"
            ),
        ]
    ]


class Issue(TypedDict):
    """A value that was not used as it came."""

    code: Annotated[str, Field(description="stable short name, such as out_of_range")]
    field: Annotated[str, Field(description="path of the value, such as timeseries[3].heart_rate")]
    seen: Annotated[Any, Field(description="the value, shortened")]
    action: Action
    detail: Annotated[str, Field(description="what is accepted, or what the value became")]


class Timing(TypedDict):
    """What the request took, in milliseconds, from the last byte of its body."""

    preprocess: float
    queue: float
    inference: float


_Id = Annotated[str | None, Field(description="the ID that the request gave the case")]


@final
class PredictionAnswer(TypedDict):
    """The answer to one case."""

    id: _Id
    task: str
    model: Model
    status: Annotated[
        Literal["predicted", "abstained"],
        Field(description="abstained: the record lacks modalities that the task requires"),
    ]
    reason: NotRequired[Annotated[str, Field(description="why there is no prediction")]]
    prediction: Annotated[Prediction | None, Field(description="null if the model abstained")]
    modalities: Modalities
    issues: list[Issue]
    request_id: str
    timing_ms: Timing


@final
class EmbeddingAnswer(TypedDict):
    """One case as a point; the more alike two cases, the larger the product of their points."""

    id: _Id
    task: str
    model: Model
    embedding: Annotated[list[float], Field(description="scaled to unit length")]
    modalities: Parts
    issues: list[Issue]
    request_id: str
    timing_ms: Timing


@final
class Problem(TypedDict):
    """What went wrong, as RFC 9457 has it."""

    type: str
    title: str
    status: int
    code: Annotated[str, Field(description="stable short name, for programs")]
    detail: str
    field: Annotated[str | None, Field(description="path of the offending value")]
    seen: Annotated[Any, Field(description="the offending value, shortened")]
    accepted: Annotated[str | None, Field(description="what is accepted instead")]
    request_id: str
    issues: Annotated[
        list[Issue], Field(description="issues noticed in the record before the problem")
    ]


class Item(TypedDict):
    """What became of one case of a list: one of `answer` and `problem` is there."""

    index: Annotated[
        int,
        Field(description="position in the list, from 0; in a stream, blank lines are not counted"),
    ]
    answer: NotRequired[PredictionAnswer]
    problem: NotRequired[Problem]


class Batch(TypedDict):
    """What became of the cases of a list, in their order."""

    items: list[Item]
    request_id: str


class Answer(BaseModel):
    """A frozen answer."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


# ---- tasks --------------------------------------------------------------------------------------


class TaskSummary(Answer):
    """A task that is served."""

    name: str
    title: str
    description: str
    modalities: list[Modality]
    model: Model
    versions: list[str] = Field(
        description="versions of the model that can be requested, newest first"
    )


class Tasks(Answer):
    """All tasks that are served."""

    tasks: list[TaskSummary]


class Scores(Answer):
    """Held-out cases that sets and intervals rest on."""

    pattern: list[Modality] | None = Field(
        default=None, description="modalities that these cases have; absent: all cases"
    )
    cases: int
    most_coverage: float = Field(
        description="highest ?coverage= that these scores support; beyond it the scores of all "
        "cases are used, and beyond theirs every class is in the set"
    )


class CalibrationSummary(Answer):
    """How probabilities, sets and intervals were fitted, on cases that the model has not seen."""

    temperature: float = Field(description="what the logits are divided by; 1 for regression")
    scores: list[Scores] = Field(description="for all cases, then by the modalities that they have")
    decision: Decision = Field(
        description="how the class of an answer (`label`) is predicted: that whose probability "
        "times its weight is largest; or, of ordinal labels, the first class and as many further "
        "as there are cuts that the expected value reaches; without either, the most likely one"
    )


class Example(Answer):
    """A made-up case."""

    title: str
    record: dict[str, Any] = Field(description="a record that can be sent unchanged")


class TaskDetail(TaskSummary):
    """What a task takes and what its model is worth."""

    label: LabelSpec
    metric: str
    text: TextSpec | None = None
    image: ImageSpec | None = None
    tabular: TabularSpec | None = None
    timeseries: TimeseriesSpec | None = None
    minimum: list[list[Modality]] = Field(
        description="combinations of modalities, at least one of which a record must have, or the "
        "model abstains; empty: any modality is enough"
    )
    examples: list[Example] = Field(description="made-up cases; the first is complete")
    created: str
    precision: str
    calibration: CalibrationSummary
    metrics: dict[str, float] = Field(description="on the test split")
    card: str = Field(description="the model card, Markdown")


# ---- state --------------------------------------------------------------------------------------


class Health(Answer):
    """The process lives."""

    status: str


class Readiness(Answer):
    """Whether requests are taken: ready, or why not.

    starting, stopping, failed, runner_lost or audit_unavailable.
    """

    status: str
    tasks: list[str]


# ---- the Open Inference Protocol ----------------------------------------------------------------


class Live(Answer):
    """The process lives."""

    live: bool


class Ready(Answer):
    """Whether requests are taken."""

    ready: bool


class Server(Answer):
    """Who serves, and which extensions of the protocol it speaks."""

    name: str
    version: str
    extensions: list[str]


class TensorMetadata(Answer):
    """A tensor that a model takes or returns; an axis of -1 is as long as there are cases."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(Answer):
    """What a model takes, either `record` or the parts, and what it returns."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class ModelReady(Answer):
    """Whether a model answers."""

    name: str
    ready: bool


class Tensor(Answer):
    """A tensor; one of `data` and `parameters.binary_data_size` is there."""

    name: str
    datatype: str
    shape: list[int]
    data: list[Any] | None = None
    parameters: dict[str, Any] | None = None


class InputTensor(Tensor):
    """A tensor with an element a case."""

    name: str = Field(
        description="record; or the modalities by name (text, image, tabular, timeseries) and id"
    )
    datatype: Literal["BYTES"]
    shape: list[int] = Field(min_length=1, max_length=2, description="[cases] or [cases, 1]")
    data: list[str | list[str]] | None = Field(
        default=None, description="text as it is, images in base64, everything else as JSON"
    )


class WantedOutput(Answer):
    """An output that is wanted, as bytes if `parameters.binary_data` says so."""

    name: str
    parameters: dict[str, Any] | None = None


class InferRequest(Answer):
    """Cases as tensors."""

    id: str | None = None
    inputs: list[InputTensor]
    outputs: list[WantedOutput] | None = None
    parameters: dict[str, Any] | None = Field(
        default=None, description="explain, coverage, binary_data_output"
    )
    model_name: str | None = Field(default=None, description="ignored: the path names the model")


class InferResponse(Answer):
    """What is predicted of them."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[Tensor]
