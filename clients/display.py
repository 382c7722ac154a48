"""Answers as a person reads them in a terminal."""

from collections.abc import Iterator, Sequence

from clients.answers import Issue, Prediction, TaskSummary
from clients.load import Sent
from clients.scoring import Scored

_BAR = 30  # characters of a probability of 1


def prediction(answer: Prediction) -> str:
    """Return the answer as a few lines: the outcome first, then what it rests on."""
    return "\n".join(_lines(answer))


def tasks(summaries: Sequence[TaskSummary]) -> str:
    """Return a line for every task: its name, what it is and the parts that it takes."""
    if not summaries:
        return "the service has no tasks"
    width = max(len(each.name) for each in summaries)
    return "\n".join(
        f"{each.name:{width}}  {each.title} ({', '.join(each.modalities)})" for each in summaries
    )


def scored(output: str, found: Scored) -> str:
    """Return a line about a table that was scored."""
    before = f", {found.before:,} of them scored earlier" if found.before else ""
    model = found.target.model
    return (
        f"{output}: {found.rows:,} rows{before}, {found.failed:,} with an error; "
        f"{found.target.task} by {model.name} {model.version}, {found.target.precision}"
    )


def load(sent: Sent, concurrency: int) -> str:
    """Return the outcome of a load in a few lines."""
    shares = ", ".join(
        f"p{share:g} {1e3 * sent.percentile(share):.1f} ms" for share in (50, 90, 99, 100)
    )
    failures = [f"  {kind}: {count:,}" for kind, count in sent.failures.most_common()]
    return "\n".join(
        [
            f"{sent.rate:.1f} answers a second with {concurrency} clients, over "
            f"{sent.seconds:.1f} s",
            f"{len(sent.statuses):,} requests: {shares}",
            *failures,
        ]
    )


def _lines(answer: Prediction) -> Iterator[str]:
    case = f" for {answer.id}" if answer.id else ""
    outcome = answer.label if answer.value is None else f"{answer.value:g}"
    yield f"{answer.task}{case}: {'no prediction' if answer.abstained else outcome}"
    if answer.abstained:
        yield f"the model abstains: {answer.reason}"
    if answer.model.demo:
        yield "DEMO MODEL: trained on synthetic records; its predictions mean nothing"

    width = max(map(len, answer.probabilities), default=0)
    for label, probability in answer.probabilities.items():
        bar = "█" * round(_BAR * probability)
        yield f"  {label:{width}}  {probability:6.1%}  {bar}".rstrip()
    if answer.expected is not None:
        yield f"expected: {answer.expected:.2f}"
    if answer.prediction_set:
        yield f"set: {', '.join(answer.prediction_set)}"

    yield f"used: {', '.join(answer.modalities.used) or 'none'}"
    yield f"missing: {', '.join(answer.modalities.missing) or 'none'}"
    if answer.modalities.contributions is not None:
        shares = answer.modalities.contributions.items()
        yield f"contributions: {', '.join(f'{part} {share:+.3f}' for part, share in shares)}"
    if answer.issues:
        yield "issues:"
        yield from (f"  {_issue(each)}" for each in answer.issues)

    stages = ", ".join(f"{stage} {ms:.1f} ms" for stage, ms in answer.timing_ms.items())
    yield f"model: {answer.model.name} {answer.model.version}"
    yield f"request: {answer.request_id}" + (f" ({stages})" if stages else "")


def _issue(issue: Issue) -> str:
    seen = "" if issue.seen is None else f", seen {issue.seen!r}"
    detail = f" ({issue.detail})" if issue.detail else ""
    return f"{issue.field}: {issue.code}{seen}, {issue.action}{detail}"
