"""One bundle at work: from the record of a request to a prediction."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np

from lanistr.batch import Features
from lanistr.bundle import Bundle
from lanistr.calibration import Prediction
from lanistr.errors import InputError
from lanistr.importance import Subset, shapley
from lanistr.issues import InputIssue, IssueLog
from lanistr.modalities import Modality
from lanistr.preprocess import read_record
from service.engine.backends import Backend, Floats
from service.engine.batching import paying
from service.engine.cache import Key, RowKeys, TokenCache
from service.engine.cost import Cost
from service.engine.lanes import Lanes
from service.engine.runner import Job, Result, Runner
from service.engine.scheduler import Scheduler


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
        contributions: exact Shapley values by modality, in the same unit.
    """

    baseline: float
    contributions: Mapping[Modality, float]


@dataclass(frozen=True, slots=True)
class Predicted:
    """All there is to say of one case.

    Attributes:
        id: the sender's name for it.
        used: modalities that the prediction rests on.
        timing_ms: by stage, milliseconds.
    """

    id: str | None
    prediction: Prediction
    used: tuple[Modality, ...]
    issues: tuple[InputIssue, ...]
    explanation: Explanation | None
    timing_ms: Mapping[str, float]


class Predictor:
    """Preprocessing, queue and runner of one bundle.

    Args:
        bundle: what is served.
        backend: its graphs.
        lanes: threads that read and preprocess, shared by all bundles.
        cache: of what encoders return, shared too.
        budget: tokens of one run.
        places: requests inside at once.
    """

    def __init__(
        self,
        bundle: Bundle,
        backend: Backend,
        lanes: Lanes,
        cache: TokenCache,
        *,
        budget: int,
        places: int,
    ) -> None:
        self.bundle = bundle
        self.card = bundle.card()  # its folder may hold another bundle later
        self.backend = backend
        self._lanes = lanes
        self._graphs = backend.build.graphs
        self._cost = Cost(self._graphs)
        self._keys = RowKeys(bundle.manifest.version, backend.build.name)
        width, sizes = bundle.manifest.width, bundle.preprocessor.dimensions()
        longest = sizes.get(Modality.TEXT, {}).get("max_tokens", 1)
        runner = Runner(
            backend,
            self._cost,
            cache,
            width=width,
            budget=budget,
            together=paying(backend, width, longest),
        )
        self.scheduler: Scheduler[Job, Result] = Scheduler(
            runner, runner.cost, budget=budget, places=places
        )

    async def close(self) -> None:
        """Finish what is waiting and stop."""
        await self.scheduler.close()

    async def predict(
        self,
        read: Callable[[], Any],
        *,
        size: int = 0,
        explain: bool = False,
        coverage: float = 0.9,
    ) -> Predicted:
        """Predict one case.

        Args:
            read: returns the decoded record, or raises `InputError`; is called in a lane.
            size: bytes that it has to read, which choose the lane.
            explain: also say what each modality contributed.
            coverage: of the conformal set or interval.

        Raises:
            UnusableRecordError: the record cannot be used.
        """
        started = perf_counter()
        name, features, keys = await self._lanes.run(size, self._prepare, read)
        prepared_ms = 1e3 * (perf_counter() - started)
        outcome = await self.scheduler.submit(Job(features, keys, explain))
        output = outcome.result.output
        if not np.isfinite(output).all():
            raise FloatingPointError("the head's output is not finite")
        calibration, label = self.bundle.calibration, self.bundle.task.label
        return Predicted(
            id=name,
            prediction=calibration.predict(output, label, coverage),
            used=tuple(each for each in Modality if each in features.rows),
            issues=features.issues,
            explanation=self._explain(outcome.result.coalitions) if explain else None,
            timing_ms={
                "preprocess": prepared_ms,
                "queue": outcome.queue_ms,
                "inference": outcome.inference_ms,
            },
        )

    def _prepare(
        self, read: Callable[[], Any]
    ) -> tuple[str | None, Features, Mapping[Modality, Sequence[Key]]]:
        log = IssueLog()
        try:
            sample = read_record(read(), self.bundle.task, log)
            features = self.bundle.preprocessor.apply(sample, log)
            self._refuse_uncommon_rows(features)
        except InputError as exc:
            raise UnusableRecordError(exc, log.issues) from None
        return sample.id, features, self._keys.of(features)

    def _refuse_uncommon_rows(self, features: Features) -> None:
        """Rows of one case are averaged token by token, which needs tokens of one number."""
        for modality, rows in features.rows.items():
            if len(rows) > 1 and self._cost.fixed_tokens(modality) is None:
                raise InputError(
                    "this model takes one of it at a time",
                    code="too_many",
                    field=modality,
                    seen=len(rows),
                    accepted="one",
                )

    def _explain(self, outputs: Mapping[Subset, Floats]) -> Explanation:
        calibration, label = self.bundle.calibration, self.bundle.task.label
        everything = max(outputs, key=len)
        chosen = int(np.argmax(outputs[everything]))
        values = {
            subset: float(calibration.explained(output, label, chosen))
            for subset, output in outputs.items()
        }
        return Explanation(values[frozenset()], shapley(values))
