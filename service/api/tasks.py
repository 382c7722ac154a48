"""Which tasks are served and what each of them takes."""

import math
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from lanistr.bundle import Bundle
from lanistr.calibration import Calibration
from lanistr.modalities import Modality
from service.api.exchange import exchange_of
from service.api.key_file import Key
from service.api.options import VERSION, query_of, refuse_others
from service.api.problems import IN_DOCUMENT
from service.api.schemas import (
    CalibrationSummary,
    Example,
    Model,
    Scores,
    TaskDetail,
    Tasks,
    TaskSummary,
)
from service.engine.predictor import Predictor
from service.examples import examples
from service.models import Models

router = APIRouter(tags=["tasks"], responses=IN_DOCUMENT)


async def find_predictor(request: Request, task: str) -> Predictor:
    """Return what answers a task.

    Raises:
        InputError: the task, or the version asked for, is not served.
    """
    return find_version(request, task, query_of(request).get("version"))


def find_version(request: Request, task: str, version: str | None = None) -> Predictor:
    """Return what answers a task in a version, the newest if none is named.

    Raises:
        InputError: the task, or this version of it, is not served.
    """
    models: Models = request.app.state.models
    found = models.find(task, version)
    exchange_of(request).version = found.bundle.manifest.version
    return found


async def find_described(request: Request, task: str) -> Predictor:
    """Return what is to be described; async, since FastAPI gives what is not a pool of 40 threads.

    Raises:
        InputError: the task, or the version asked for, is not served; or more is asked for.
    """
    refuse_others(request, ("version",))
    return await find_predictor(request, task)


Chosen = Annotated[Predictor, Depends(find_described)]


@router.get("/tasks", response_model=Tasks)
async def list_tasks(request: Request) -> Tasks:
    """List the tasks that are served, as far as the key reaches."""
    refuse_others(request, ())
    models: Models = request.app.state.models
    key: Key | None = request.state.key
    reached = [each for task, each in models.items() if key is None or key.reaches(task)]
    return Tasks(tasks=[_summary(models, each.bundle) for each in reached])


@router.get("/tasks/{task}", response_model=TaskDetail)
async def describe_task(
    request: Request,
    predictor: Chosen,
    version: Annotated[str | None, Query(description=VERSION)] = None,
) -> Response:
    """Describe a task: fields, units, ranges, label, and the model with its card."""
    bundle = predictor.bundle
    task, manifest = bundle.task, bundle.manifest
    detail = TaskDetail(
        **dict(_summary(request.app.state.models, bundle)),
        **{modality: getattr(task, modality) for modality in task.modalities},
        label=task.label,
        metric=task.metric,
        minimum=[list(parts) for parts in task.minimum],
        examples=[Example(title=each.title, record=each.record) for each in examples(task)],
        created=manifest.created,
        precision=predictor.engine.build.precision,
        calibration=_calibration(bundle.calibration),
        metrics=manifest.metrics,
        card=predictor.card,
    )
    # What a field lacks (a unit, categories) is left out; what it has by default is included.
    json = detail.model_dump_json(exclude_none=True)
    return Response(json, media_type="application/json")


def _calibration(found: Calibration) -> CalibrationSummary:
    patterns = {"": found.scores, **found.by_pattern}
    scores = [
        Scores(
            pattern=[Modality(each) for each in name.split("+")] if name else None,
            cases=len(each),
            # Rounded up, it would be more than the scores suffice for.
            most_coverage=math.floor(found.most_coverage(name) * 1e6) / 1e6,
        )
        for name, each in patterns.items()
    ]
    return CalibrationSummary(temperature=found.temperature, scores=scores, decision=found.decision)


def model_of(bundle: Bundle) -> Model:
    """Name the model of a bundle."""
    manifest = bundle.manifest
    return {"name": manifest.name, "version": manifest.version, "demo": manifest.demo}


def _summary(models: Models, bundle: Bundle) -> TaskSummary:
    task = bundle.task
    return TaskSummary(
        name=task.name,
        title=task.title,
        description=task.description,
        modalities=list(task.modalities),
        model=model_of(bundle),
        versions=list(models.versions(task.name)),
    )
