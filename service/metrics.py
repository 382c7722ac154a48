"""What the service counts and measures, for Prometheus.

`Metrics` is one service's; the engine of a task is handed its `TaskMetrics`. Labels take few
values: tasks served, codes of the table of problems, parts, fields of a task file. All metrics
stand in a registry of their own, so that two services in one process do not mix. Where a service is
several processes, each keeps its values in files of the folder that the environment names, and
whichever is asked adds them up.
"""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from time import perf_counter

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary, values
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.process_collector import ProcessCollector

from service.api.schemas import EmbeddingAnswer, PredictionAnswer

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""Names, in the environment, the folder that several processes share; `prometheus_client` reads it
when it is imported."""

PROCESS = "LANISTR_PROCESS"
"""Names, in the environment, which of those processes this is. One that takes the place of another
counts on in its files: were they called after its number, each death would leave some behind."""

if PROCESS in os.environ:
    _as_named = values.MultiProcessValue(lambda: os.environ[PROCESS])  # type: ignore[no-untyped-call]
    values.ValueClass = _as_named

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_TOGETHER = (1, 2, 4, 8, 16, 32, 64, 128)
_PROBABILITIES = tuple(i / 20 for i in range(1, 21))
_DEVIATIONS = (-4, -3, -2, -1, 0, 1, 2, 3, 4)


class TaskMetrics:
    """The metrics of one task; its methods may be called from any thread."""

    def __init__(self, metrics: "Metrics", task: str) -> None:
        self._metrics = metrics
        self._task = task
        self._batch_jobs = metrics.batch_jobs.labels(task)
        self._queue_jobs = metrics.queue_jobs.labels(task)
        self._queue_tokens = metrics.queue_tokens.labels(task)
        self._fields: dict[str, tuple[Counter, Counter, Histogram]] = {}
        self._stages: dict[str, Histogram] = {}
        self._graphs: dict[str, tuple[Histogram, Counter, Counter]] = {}

    # ---- the engine's ---------------------------------------------------------------------------

    def spent(self, stage: str, seconds: float) -> None:
        """Note what a stage took: parse, preprocess, queue, encode_text, ..., fusion."""
        if stage not in self._stages:
            self._stages[stage] = self._metrics.stage_seconds.labels(self._task, stage)
        self._stages[stage].observe(seconds)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Note what a stage takes, unless it fails."""
        started = perf_counter()
        yield
        self.spent(name, perf_counter() - started)

    @contextmanager
    def graph(self, name: str, rows: int, tokens: int, padding: int = 0) -> Iterator[None]:
        """Note one run of a graph.

        Args:
            name: of the graph: a modality, or fusion.
            rows: that it is given.
            tokens: of these rows, without padding.
            padding: tokens that stand for nothing.
        """
        with self.stage(name if name == "fusion" else f"encode_{name}"):
            yield
        if name not in self._graphs:
            counter = self._metrics.graph_tokens
            self._graphs[name] = (
                self._metrics.graph_rows.labels(self._task, name),
                counter.labels(self._task, name, "used"),
                counter.labels(self._task, name, "padding"),
            )
        together, used, padded = self._graphs[name]
        together.observe(rows)
        used.inc(tokens)
        padded.inc(padding)

    def queued(self, tokens: int) -> None:
        """Note that a job has joined the queue."""
        self._queue_jobs.inc()
        self._queue_tokens.inc(tokens)

    def left_queue(self, tokens: int) -> None:
        """Note that a job has left the queue, to be run or because its client went away."""
        self._queue_jobs.dec()
        self._queue_tokens.dec(tokens)

    def batch(self, jobs: int) -> None:
        """Note that so many jobs run together."""
        self._batch_jobs.observe(jobs)

    # ---- the inputs' ----------------------------------------------------------------------------

    def field(self, name: str, deviation: float | None) -> None:
        """Note a field of a part that a case brings.

        Args:
            name: with its part, such as `tabular.age`.
            deviation: of its value from the training mean, in standard deviations; NaN where it is
                no number, None where it has no usable value.
        """
        if name not in self._fields:
            counter = self._metrics.input_fields
            self._fields[name] = (
                counter.labels(self._task, name, "present"),
                counter.labels(self._task, name, "missing"),
                self._metrics.input_deviation.labels(self._task, name),
            )
        present, missing, deviations = self._fields[name]
        if deviation is None:
            missing.inc()
            return
        present.inc()
        if not math.isnan(deviation):
            deviations.observe(deviation)


SEVERAL = "several"
"""Stands for the parts of an answer that has many cases."""


class Metrics:
    """The metrics of one service."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        if FOLDER not in os.environ:
            ProcessCollector(registry=registry)
        counter = partial(Counter, registry=registry)
        gauge = partial(Gauge, registry=registry, multiprocess_mode="livesum")
        histogram = partial(Histogram, registry=registry)
        summary = partial(Summary, registry=registry)
        requests = counter(
            "lanistr_requests",
            "Requests answered, by what was used: parts joined by +, or several for many cases",
            ("task", "status", "code", "parts"),
        )
        request_seconds = histogram(
            "lanistr_request_seconds",
            "From the headers of a request to the end of its answer, by whether it has many cases",
            ("task", "cases"),
            buckets=_SECONDS,
        )
        self.stage_seconds = histogram(
            "lanistr_stage_seconds",
            "Stages of a request; encode_* and fusion by run, which several requests may share",
            ("task", "stage"),
            buckets=_SECONDS,
        )
        self.queue_jobs = gauge("lanistr_queue_jobs", "Cases that wait for their turn", ("task",))
        self.queue_tokens = gauge(
            "lanistr_queue_cost_tokens",
            "What the waiting cases cost, in tokens encoded and fused",
            ("task",),
        )
        self.batch_jobs = histogram(
            "lanistr_batch_jobs", "Cases that were run together", ("task",), buckets=_TOGETHER
        )
        self.graph_rows = histogram(
            "lanistr_batch_rows", "Rows of one run of a graph", ("task", "graph"), buckets=_TOGETHER
        )
        self.graph_tokens = counter(
            "lanistr_batch_tokens",
            "Tokens that graphs were given: used, or padding",
            ("task", "graph", "kind"),
        )
        self.cache_bytes = gauge("lanistr_cache_bytes", "Bytes of encoders' outputs that are held")
        self.cache_limit_bytes = gauge("lanistr_cache_limit_bytes", "Bytes that may be held")
        self.cache_rows = counter(
            "lanistr_cache_rows",
            "Rows looked for in the cache: hit, or miss",
            ("modality", "outcome"),
        )
        probability = histogram(
            "lanistr_predicted_probability",
            "Probability of the second class (binary labels) or of the most likely one",
            ("task",),
            buckets=_PROBABILITIES,
        )
        labels = counter("lanistr_predicted_label", "Cases by predicted class", ("task", "label"))
        value = summary(
            "lanistr_predicted_value",
            "Expected value (ordered classes) or predicted value (regression)",
            ("task",),
        )
        cases = counter("lanistr_cases", "Cases answered, by parts used", ("task", "parts"))
        abstained = counter(
            "lanistr_cases_abstained",
            "Cases among them that lacked what the task needs",
            ("task", "parts"),
        )
        problems = counter(
            "lanistr_case_problems",
            "Cases that got a problem of their own in an answer that is none as a whole",
            ("task", "code"),
        )
        issues = counter(
            "lanistr_case_issues", "Cases with an issue of this kind", ("task", "code", "action")
        )
        self.input_fields = counter(
            "lanistr_input_fields",
            "Fields of the parts that cases brought: present, or missing",
            ("task", "field", "state"),
        )
        self.input_deviation = histogram(
            "lanistr_input_deviation",
            "Numbers in standard deviations from the training mean; of a series, its mean",
            ("task", "field"),
            buckets=_DEVIATIONS,
        )
        self.audit_lost = counter("lanistr_audit_lost", "Records that could not be written")
        # What every request asks for is looked up once, by labels that take few values.
        self._requests = cache(requests.labels)
        self._request_seconds = cache(request_seconds.labels)
        self._cases = cache(cases.labels)
        self._abstained = cache(abstained.labels)
        self._problems = cache(problems.labels)
        self._issues = cache(issues.labels)
        self._labels = cache(labels.labels)
        self._probability = cache(probability.labels)
        self._value = cache(value.labels)

    def registry(self) -> CollectorRegistry:
        """Return what Prometheus is to be shown: of all processes, where there are several."""
        if FOLDER not in os.environ:
            return self._registry
        together = CollectorRegistry()
        MultiProcessCollector(together)  # type: ignore[no-untyped-call]
        return together

    def task(self, name: str) -> TaskMetrics:
        """Return the metrics of a task."""
        return TaskMetrics(self, name)

    def answered(self, answer: PredictionAnswer | EmbeddingAnswer) -> None:
        """Note what was said of a case."""
        task = answer["task"]
        parts = "+".join(answer["modalities"]["used"])
        self._cases(task, parts).inc()
        for code, action in {(each["code"], str(each["action"])) for each in answer["issues"]}:
            self._issues(task, code, action).inc()
        if "embedding" in answer:
            return
        said = answer["prediction"]
        if said is None:
            self._abstained(task, parts).inc()
            return
        if "label" in said:
            self._labels(task, said["label"]).inc()
        if "probabilities" in said:
            likeliest = max(said["probabilities"].values())
            self._probability(task).observe(said.get("probability", likeliest))
        value = said.get("expected", said.get("value"))
        if value is not None:
            self._value(task).observe(value)

    def failed(self, task: str, code: str) -> None:
        """Note that a case of several got a problem, while its request goes well."""
        self._problems(task, code).inc()

    def exchanged(self, task: str, status: int, code: str, parts: str, seconds: float) -> None:
        """Note the end of an exchange.

        Args:
            task: "" where it is about none that is served.
            status: of the answer; 0 if there was none.
            code: of a problem, or ok.
            parts: that were used.
            seconds: that it took.
        """
        self._requests(task, str(status), code, parts).inc()
        if task:
            self._request_seconds(task, SEVERAL if parts == SEVERAL else "one").observe(seconds)
