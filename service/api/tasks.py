"""Which tasks are served and what each of them takes."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from lanistr.bundle import Bundle
from lanistr.errors import InputError, unknown_name
from service.api.examples import examples
from service.api.problems import IN_DOCUMENT
from service.api.schemas import Example, Model, TaskDetail, Tasks, TaskSummary
from service.engine.predictor import Predictor

router = APIRouter(tags=["tasks"], responses=IN_DOCUMENT)


async def find_predictor(request: Request, task: str) -> Predictor:
    """Return what answers a task; async, since FastAPI gives what is not a pool of 40 threads.

    Raises:
        InputError: the task is not served.
    """
    predictors: dict[str, Predictor] = request.app.state.predictors
    if task not in predictors:
        raise InputError(
            "no such task is served",
            code="unknown_task",
            field="task",
            seen=task,
            accepted=unknown_name(task, predictors),
        )
    return predictors[task]


Chosen = Annotated[Predictor, Depends(find_predictor)]


@router.get("/tasks", response_model=Tasks)
async def list_tasks(request: Request) -> Tasks:
    """List the tasks that are served."""
    return Tasks(tasks=[_summary(each.bundle) for each in request.app.state.predictors.values()])


@router.get("/tasks/{task}", response_model=TaskDetail)
async def describe_task(predictor: Chosen) -> Response:
    """Describe a task: fields, units, ranges, label, and the model with its card."""
    bundle = predictor.bundle
    task, manifest = bundle.task, bundle.manifest
    detail = TaskDetail(
        **dict(_summary(bundle)),
        **{modality: getattr(task, modality) for modality in task.modalities},
        label=task.label,
        metric=task.metric,
        examples=[Example(title=each.title, record=each.record) for each in examples(task)],
        created=manifest.created,
        precision=predictor.backend.build.precision,
        metrics=manifest.metrics,
        card=bundle.card(),
    )
    # What a field has not (a unit, categories) is left out; what it has by default is said.
    json = detail.model_dump_json(exclude_none=True)
    return Response(json, media_type="application/json")


def model_of(bundle: Bundle) -> Model:
    """Name the model of a bundle."""
    manifest = bundle.manifest
    return Model(name=manifest.name, version=manifest.version, demo=manifest.demo)


def _summary(bundle: Bundle) -> TaskSummary:
    task = bundle.task
    return TaskSummary(
        name=task.name,
        title=task.title,
        description=task.description,
        modalities=list(task.modalities),
        model=model_of(bundle),
    )
