"""The outcome of a row: the columns of a scored table, and a row of it."""

from argparse import ArgumentParser
from collections.abc import Callable, Mapping
from typing import Any

from clients.answers import Prediction
from clients.errors import ClientError, ProblemError
from clients.tables import Column
from clients.target import Target

Outcome = Prediction | ClientError
"""The answer to a row, or why there is none."""

PREDICTED, ABSTAINED, FAILED = "predicted", "abstained", "failed"


def add_answer_options(parser: ArgumentParser) -> None:
    """Add the options of what an answer holds, `explain` and `coverage`."""
    parser.add_argument(
        "--explain", action="store_true", help="include each modality's contribution"
    )
    parser.add_argument(
        "--coverage",
        type=float,
        metavar="SHARE",
        help="share of cases whose set or interval should contain the truth (0.9)",
    )


def columns_of(target: Target, explain: bool) -> list[Column]:
    """Return the columns of a table that is scored by a task."""
    numbers: list[str] = []
    if target.label == "binary":
        numbers.append("probability")
    numbers += [f"probabilities.{name}" for name in target.classes]
    if target.label == "ordinal":
        numbers.append("expected")
    if target.label == "regression":
        numbers.append("value")
    if target.label in ("ordinal", "regression"):
        numbers += ["interval.low", "interval.high"]
    if explain:
        numbers += [f"contributions.{name}" for name in target.modalities] + ["baseline"]
    said = [Column("label", "text"), Column("set", "texts")] if target.classes else []
    return [
        Column("id", "text"),
        Column("status", "text"),
        *said,
        *(Column(name, "number") for name in numbers),
        Column("parts", "text"),
        Column("issues", "json"),
        Column("error", "text"),
    ]


def row_of(outcome: Outcome, id: str | None) -> Mapping[str, Any]:
    """Return the outcome of a case, by name of the column; what is not there has no value.

    Args:
        outcome: of the case.
        id: the case's name, where it could be read.
    """
    if isinstance(outcome, Prediction):
        return {name: read(outcome) for name, read in _READ.items()} | {
            **{f"probabilities.{name}": each for name, each in outcome.probabilities.items()},
            **{
                f"contributions.{name}": each
                for name, each in (outcome.modalities.contributions or {}).items()
            },
        }
    said: Mapping[str, Any] = {"id": id, "status": FAILED, "error": _reason(outcome)}
    if isinstance(outcome, ProblemError):
        said = {**said, "issues": [each.raw for each in outcome.issues]}
    return said


_READ: Mapping[str, Callable[[Prediction], Any]] = {
    "id": lambda answer: answer.id,
    "status": lambda answer: ABSTAINED if answer.abstained else PREDICTED,
    "label": lambda answer: answer.label,
    "set": lambda answer: list(answer.prediction_set) or None,
    "probability": lambda answer: answer.probability,
    "expected": lambda answer: answer.expected,
    "value": lambda answer: answer.value,
    "interval.low": lambda answer: None if answer.interval is None else answer.interval[0],
    "interval.high": lambda answer: None if answer.interval is None else answer.interval[1],
    "baseline": lambda answer: answer.modalities.baseline,
    "parts": lambda answer: "+".join(answer.modalities.used),
    "issues": lambda answer: [each.raw for each in answer.issues],
}


def _reason(error: ClientError) -> str:
    """Say what went wrong, without what differs from one time to the next."""
    if isinstance(error, ProblemError):
        return " ".join(f"{error.reason} ({error.code})".split())
    return " ".join(str(error).split())
