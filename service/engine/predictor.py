"""One bundle at work: from the record of a request to a prediction or an embedding."""

import asyncio
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import numpy as np

from lanistr.bundle import Bundle
from lanistr.calibration import Prediction
from lanistr.errors import InputError
from lanistr.importance import Subset, shapley
from lanistr.issues import InputIssue, IssueLog
from lanistr.modalities import Modality, presence
from lanistr.preprocess import read_record
from service.drift import Drift
from service.engine.admission import Admission
from service.engine.backends import Floats
from service.engine.cache import RowKeys
from service.engine.cost import Cost
from service.engine.engine import Engine
from service.engine.lanes import Lanes
from service.engine.runner import Job, Result
from service.engine.scheduler import Outcome
from service.metrics import Metrics, TaskMetrics
from service.telemetry import tell_stages

_FAR = 1000.0
"""Standard deviations from the training mean from which on a number may be more than graphs can
compute with: half precision ends at 65,504."""


class UnusableRecordError(Exception):
    """A record cannot be used.

    Attributes:
        error: why.
        issues: what was noticed before that.
    """

    def __init__(self, error: InputError, issues: tuple[InputIssue, ...]) -> None:
        super().__init__(error.code)
        self.error = error
        self.issues = issues


@dataclass(frozen=True, slots=True)
class Explanation:
    """What each modality present contributed.

    Attributes:
        baseline: what is predicted from nothing; with the contributions it adds up to what is
            predicted from all. Log-odds, expected value or value, see `Calibration.explained`.
        contributions: exact Shapley values by modality of the task, in the same unit; those that
            are absent contribute nothing.
    """

    baseline: float
    contributions: Mapping[Modality, float]


@dataclass(frozen=True, slots=True)
class Case:
    """What was made of one case.

    Attributes:
        id: the sender's name for it.
        used: modalities that were usable.
        timing_ms: by stage, milliseconds.
    """

    id: str | None
    used: tuple[Modality, ...]
    issues: tuple[InputIssue, ...]
    timing_ms: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Predicted:
    """All there is to say of one case.

    Attributes:
        prediction: None where the case lacks what the task asks for at the least.
    """

    case: Case
    prediction: Prediction | None = None
    explanation: Explanation | None = None


@dataclass(frozen=True, slots=True)
class Embedded:
    """A case as a point.

    Attributes:
        embedding: (E,) float32, of length 1.
    """

    case: Case
    embedding: Floats


@dataclass(slots=True)
class _Asker:
    """Who waits for a case, as a thread that works on it sees it.

    Attributes:
        left: they wait no more; a job that has not begun is not run.
    """

    left: bool = False


class Predictor:
    """Preprocessing of one bundle, and the engine that runs it.

    Args:
        bundle: what is served.
        engine: runs its graphs.
        lanes: threads that read and preprocess, shared by all bundles.
        places: requests inside at once.
        longest: most seconds of work ahead of a request that is let in.
        most_tokens: of one case, encoded and fused; None for no limit.
        most_pixels: of all pictures of a case, where the bundle allows more.
        metrics: where it is noted what comes in and what it takes.
    """

    def __init__(
        self,
        bundle: Bundle,
        engine: Engine,
        lanes: Lanes,
        *,
        places: int,
        longest: float = math.inf,
        most_tokens: int | None = None,
        most_pixels: int | None = None,
        metrics: TaskMetrics | None = None,
    ) -> None:
        self._metrics = metrics or Metrics().task("")
        self._drift = Drift(bundle.preprocessor, self._metrics)
        if most_pixels is not None:
            bundle.preprocessor.restrict(pixels=most_pixels)
        self.bundle = bundle
        self.card = bundle.card()  # its folder may hold another bundle later
        self._most_tokens = most_tokens
        self.engine = engine
        self.admission = Admission(places, longest, engine.wait)
        self.lanes = lanes
        self._cost = Cost(engine.build.graphs)
        self._keys = RowKeys(bundle.manifest.version, engine.build.name)

    async def close(self) -> None:
        """Finish what is waiting and stop."""
        await self.engine.close()

    async def predict(
        self,
        read: Callable[[], Any],
        *,
        size: int = 0,
        explain: bool = False,
        coverage: float = 0.9,
        limited: bool = True,
    ) -> Predicted:
        """Predict one case.

        Args:
            read: returns the decoded record, or raises `InputError`; is called in a lane.
            size: bytes that it has to read, which choose the lane.
            explain: also say what each modality contributed.
            coverage: of the conformal set or interval.
            limited: whether it may have `most_tokens` and no more.

        Raises:
            UnusableRecordError: the record cannot be used.
        """
        case, job, outcome = await self._prepare(read, size, explain, limited)
        if not self.bundle.task.suffices(case.used):
            return Predicted(case)
        case, result = await self._run(case, job, outcome)
        calibration, label = self.bundle.calibration, self.bundle.task.label
        return Predicted(
            case,
            calibration.predict(result.output, label, coverage, presence(case.used)),
            self._explain(result.coalitions) if explain else None,
        )

    async def embed(self, read: Callable[[], Any], *, size: int = 0) -> Embedded:
        """Return what fusion makes of one case, for comparing cases; arguments as in `predict`.

        Raises:
            UnusableRecordError: the record cannot be used.
        """
        case, result = await self._run(*await self._prepare(read, size))
        length = np.linalg.norm(result.embedding)
        if not (np.isfinite(length) and length > 0):
            raise FloatingPointError("the embedding is zero or not finite")
        return Embedded(case, result.embedding / length)

    async def _prepare(
        self, read: Callable[[], Any], size: int, explain: bool = False, limited: bool = True
    ) -> tuple[Case, Job, Outcome[Result] | None]:
        """Return what a case brings, its job, and the result, if it was run already."""
        started, asker = perf_counter(), _Asker()
        try:
            name, job, outcome = await self.lanes.run(
                size, self._read, read, explain, limited, asker
            )
        except asyncio.CancelledError:
            asker.left = True
            raise
        seconds = perf_counter() - started
        features = job.features
        used = tuple(each for each in Modality if each in features.rows)
        inference = outcome.inference_ms if outcome else 0.0
        spent = {"preprocess": 1e3 * seconds - inference, "queue": 0.0, "inference": 0.0}
        return Case(name, used, features.issues, spent), job, outcome

    async def _run(
        self, case: Case, job: Job, outcome: Outcome[Result] | None
    ) -> tuple[Case, Result]:
        outcome = outcome or await self.engine.submit(job)
        if not np.isfinite(outcome.result.output).all():
            self._refuse_too_far(job)
            raise FloatingPointError("the head's output is not finite")
        spent = {"queue": outcome.queue_ms, "inference": outcome.inference_ms}
        timing_ms = {**case.timing_ms, **spent}
        tell_stages(timing_ms, task=self.bundle.task.name, version=self.bundle.manifest.version)
        return replace(case, timing_ms=timing_ms), outcome.result

    def _read(
        self, read: Callable[[], Any], explain: bool, limited: bool, asker: "_Asker"
    ) -> tuple[str | None, Job, Outcome[Result] | None]:
        log = IssueLog()
        try:
            with self._metrics.stage("parse"):
                record = read()
            with self._metrics.stage("preprocess"):
                sample = read_record(record, self.bundle.task, log)
                features = self.bundle.preprocessor.apply(sample, log)
            self._drift.note(features)
        except InputError as exc:
            raise UnusableRecordError(exc, log.issues) from None
        job = Job(features, self._keys.of(features), explain)
        if limited:
            self._refuse_too_dear(job)
        # Several should run together, so only a case that is alone inside is run here and now.
        alone = self.admission.inside <= 1 and not asker.left
        now = alone and self.bundle.task.suffices(features.rows)
        return sample.id, job, self.engine.run_at_once(job) if now else None

    def _refuse_too_dear(self, job: Job) -> None:
        tokens = self._cost.case(job.features, job.coalitions(), job.keys, held=())
        if self._most_tokens is not None and tokens > self._most_tokens:
            error = InputError(
                "the record is too large for the model",
                code="too_many_tokens",
                field="body",
                seen=f"{tokens:,} tokens encoded and fused",
                accepted=f"at most {self._most_tokens:,}: send fewer or shorter notes, fewer "
                "images, or ask for no explanation",
            )
            raise UnusableRecordError(error, job.features.issues)

    def _refuse_too_far(self, job: Job) -> None:
        """Name the number that may be why a case's answer is not finite, if there is one."""
        field, deviation = self._drift.farthest(job.features)
        if abs(deviation) > _FAR:
            error = InputError(
                f"the value is too extreme for the model at {self.engine.build.precision}",
                code="too_far",
                field=field,
                seen=f"{deviation:,.0f} standard deviations from the training mean",
                accepted="a value closer to the training data",
            )
            raise UnusableRecordError(error, job.features.issues)

    def _explain(self, outputs: Mapping[Subset, Floats]) -> Explanation:
        calibration, label = self.bundle.calibration, self.bundle.task.label
        whole = outputs[max(outputs, key=len)]
        chosen = int(calibration.predicted(whole[None], label)[0])
        values = {
            subset: float(calibration.explained(output, label, chosen))
            for subset, output in outputs.items()
        }
        shares = shapley(values)
        contributions = {each: shares.get(each, 0.0) for each in self.bundle.task.modalities}
        return Explanation(values[frozenset()], contributions)
