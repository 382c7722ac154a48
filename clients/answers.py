"""What the service answers, as frozen values. Each keeps the JSON it was read from in `raw`."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from clients.document import Document


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Something that the service said.

    Attributes:
        raw: the same as it came, with whatever else the service says.
    """

    raw: Mapping[str, Any] = dataclasses.field(repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Issue(Answer):
    """Something the service noticed in the request and dealt with.

    Attributes:
        code: stable short name, such as ``out_of_range``.
        field: path of the value in the request, such as ``timeseries[3].heart_rate``.
        seen: what stood there, shortened by the service; None when nothing did.
        action: what was done with it: dropped, clipped, converted or kept.
        detail: the same in a sentence; empty if the service did not say.
    """

    code: str
    field: str
    seen: Any
    action: str
    detail: str

    @classmethod
    def read(cls, document: Document) -> "Issue":
        """Read it from the service's answer. Raises `MalformedError`."""
        return cls(
            code=document.text("code"),
            field=document.text("field"),
            seen=document.raw.get("seen"),
            action=document.text("action"),
            detail=document.text("detail") if document.has("detail") else "",
            raw=document.raw,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Model(Answer):
    """The model that answered.

    Attributes:
        demo: True for a bundle whose weights are for show and whose predictions mean nothing.
    """

    name: str
    version: str
    demo: bool

    @classmethod
    def read(cls, document: Document) -> "Model":
        """Read it from the service's answer. Raises `MalformedError`."""
        return cls(
            name=document.text("name"),
            version=document.text("version"),
            demo=document.flag("demo"),
            raw=document.raw,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Modalities(Answer):
    """Which parts of the case the prediction rests on.

    Attributes:
        used: parts that were present and usable.
        missing: parts that the model knows and the case did not bring.
        contributions: exact Shapley value of each part (log-odds for a binary label), 0 for a
            missing one; None unless asked for with ``explain=True``.
        baseline: what is predicted from nothing, in the same unit; the contributions add up to the
            prediction less this. None as they are.
    """

    used: tuple[str, ...]
    missing: tuple[str, ...]
    contributions: Mapping[str, float] | None
    baseline: float | None

    @classmethod
    def read(cls, document: Document) -> "Modalities":
        """Read it from the service's answer. Raises `MalformedError`."""
        explained = document.has("contributions")
        return cls(
            used=document.texts("used"),
            missing=document.texts("missing"),
            contributions=document.numbers("contributions") if explained else None,
            baseline=document.number("baseline") if document.has("baseline") else None,
            raw=document.raw,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction(Answer):
    """The answer for one case.

    Attributes:
        id: the caller's name for the case, or None.
        task: the task asked.
        model: the model that answered.
        abstained: True when the case lacks parts that the task asks for at the least: then there is
            no prediction, and `reason` says why; else it is None.
        label: predicted class; None for a regression task.
        probability: of the positive class; None unless the label is binary.
        probabilities: of every class, summing to 1; empty for a regression task.
        interval: lower and upper bound that hold the value at the coverage asked for (conformal);
            None unless the label is a number or ordinal and the model has the data for it.
        prediction_set: classes that together hold the truth at the coverage asked for (conformal);
            empty if the service gave none.
        expected: mean of the classes' values, such as 4.2 stars; None unless the label is ordinal.
        value: predicted number in the unit of the task's label; None unless a regression task.
        modalities: which parts were used and which were missing.
        issues: what the service noticed in the request and what it did about it.
        request_id: under which the service logged the request.
        timing_ms: milliseconds by stage: preprocess, queue, inference.
    """

    id: str | None
    task: str
    model: Model
    abstained: bool
    reason: str | None
    label: str | None
    probability: float | None
    probabilities: Mapping[str, float]
    prediction_set: tuple[str, ...]
    expected: float | None
    value: float | None
    interval: tuple[float, float] | None
    modalities: Modalities
    issues: tuple[Issue, ...]
    request_id: str
    timing_ms: Mapping[str, float]

    @classmethod
    def read(cls, document: Document) -> "Prediction":
        """Read it from the service's answer. Raises `MalformedError`."""
        abstained = document.has("status") and document.text("status") == "abstained"
        outcome = Document({}) if abstained else document.document("prediction")
        classes = not abstained and not outcome.has("value")
        return cls(
            id=document.text("id") if document.has("id") else None,
            task=document.text("task"),
            model=Model.read(document.document("model")),
            abstained=abstained,
            reason=document.text("reason") if abstained else None,
            label=outcome.text("label") if classes else None,
            probability=outcome.number("probability") if outcome.has("probability") else None,
            probabilities=outcome.numbers("probabilities") if classes else {},
            prediction_set=outcome.texts("set") if outcome.has("set") else (),
            expected=outcome.number("expected") if outcome.has("expected") else None,
            value=outcome.number("value") if outcome.has("value") else None,
            interval=outcome.pair("interval") if outcome.has("interval") else None,
            modalities=Modalities.read(document.document("modalities")),
            issues=tuple(Issue.read(each) for each in document.documents("issues")),
            request_id=document.text("request_id"),
            timing_ms=document.numbers("timing_ms"),
            raw=document.raw,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedding(Answer):
    """A case as a point, for finding cases that are alike.

    Attributes:
        id: the caller's name for the case, or None.
        task: the task asked.
        model: the model that answered.
        vector: of length 1; the product of two says how alike the cases are.
        modalities: which parts were used and which were missing.
        issues: what the service noticed in the request and what it did about it.
        request_id: under which the service logged the request.
    """

    id: str | None
    task: str
    model: Model
    vector: tuple[float, ...]
    modalities: Modalities
    issues: tuple[Issue, ...]
    request_id: str

    @classmethod
    def read(cls, document: Document) -> "Embedding":
        """Read it from the service's answer. Raises `MalformedError`."""
        return cls(
            id=document.text("id") if document.has("id") else None,
            task=document.text("task"),
            model=Model.read(document.document("model")),
            vector=document.vector("embedding"),
            modalities=Modalities.read(document.document("modalities")),
            issues=tuple(Issue.read(each) for each in document.documents("issues")),
            request_id=document.text("request_id"),
            raw=document.raw,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSummary(Answer):
    """A task that the service can predict.

    Attributes:
        name: what to hand to `Client.predict`.
        title: what the task is, in a line.
        modalities: the parts that its model knows.
    """

    name: str
    title: str
    modalities: tuple[str, ...]

    @classmethod
    def read(cls, document: Document) -> "TaskSummary":
        """Read it from the service's answer. Raises `MalformedError`."""
        return cls(
            name=document.text("name"),
            title=document.text("title"),
            modalities=document.texts("modalities"),
            raw=document.raw,
        )

    @classmethod
    def read_all(cls, document: Document) -> "tuple[TaskSummary, ...]":
        """Read the list of tasks from the service's answer. Raises `MalformedError`."""
        return tuple(cls.read(each) for each in document.documents("tasks"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness(Answer):
    """Whether the service takes requests.

    Attributes:
        ready: True once the models are loaded and warm.
        status: the service's own word for it, such as ``ready``.
        tasks: names of the tasks it can predict now.
    """

    ready: bool
    status: str
    tasks: tuple[str, ...]

    @classmethod
    def read(cls, document: Document) -> "Readiness":
        """Read it from the service's answer. Raises `MalformedError`."""
        status = document.text("status")
        return cls(
            ready=status == "ready",
            status=status,
            tasks=document.texts("tasks") if document.has("tasks") else (),
            raw=document.raw,
        )
