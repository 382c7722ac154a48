"""The Open Inference Protocol, version 2, for clients and load tools that speak it: /v2.

A model is called after its task. What goes in: `service.inputs.tensors`. What comes out: a tensor
for each thing that is predicted, and `answer`, each case's answer as /predict gives it, as JSON.
A case that cannot be predicted has its problem there; where other outputs are wanted too, which
could not say so, it fails the request.
Source: github.com/kserve/open-inference-protocol, specification/protocol/inference_rest.md.
"""

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, Request
from starlette.responses import JSONResponse, Response

from lanistr import __version__
from lanistr.errors import InputError, unknown_name
from lanistr.tasks import LabelSpec
from service.api import schemas
from service.api.batch import answer_all
from service.api.connection import receive_body, while_connected
from service.api.exchange import Exchange, exchange_of
from service.api.health import status_of
from service.api.keys import OPEN
from service.api.options import Options, read_options, refuse_others, refuse_unknown
from service.api.problems import IN_DOCUMENT, OPEN_PROTOCOL
from service.api.tasks import find_version
from service.engine.predictor import Predictor
from service.inputs import check_plain, tensors
from service.settings import Settings

router = APIRouter(prefix=OPEN_PROTOCOL, tags=["open inference protocol"], responses=IN_DOCUMENT)


# ---- state --------------------------------------------------------------------------------------


@router.get("/health/live", response_model=schemas.Live, openapi_extra=OPEN)
async def live() -> schemas.Live:
    """Say that the process lives."""
    return schemas.Live(live=True)


@router.get(
    "/health/ready",
    response_model=schemas.Ready,
    responses={503: {"model": schemas.Ready}},
    openapi_extra=OPEN,
)
async def ready(request: Request) -> JSONResponse:
    """Say whether the models are loaded and warm."""
    now = status_of(request.app) == "ready"
    return JSONResponse({"ready": now}, 200 if now else 503)


@router.get("", response_model=schemas.Server)
@router.get("/", response_model=schemas.Server, include_in_schema=False)
async def server() -> schemas.Server:
    """Name the service and what it speaks."""
    return schemas.Server(name="lanistr", version=__version__, extensions=["binary_tensor_data"])


# ---- models -------------------------------------------------------------------------------------


async def find_model(request: Request, name: str) -> Predictor:
    """Return what answers a model's name, which is its task's: the newest version."""
    refuse_others(request, ())  # options stand in the body, a version in the path
    return find_version(request, name)


async def find_model_version(request: Request, name: str, version: str) -> Predictor:
    """Return what answers a version of a model."""
    refuse_others(request, ())
    return find_version(request, name, version)


Named = Annotated[Predictor, Depends(find_model)]
Versioned = Annotated[Predictor, Depends(find_model_version)]


@router.get("/models/{name}", response_model=schemas.ModelMetadata)
async def model(request: Request, predictor: Named) -> schemas.ModelMetadata:
    """Say which tensors a model takes and returns."""
    bundle, models = predictor.bundle, request.app.state.models
    return schemas.ModelMetadata(
        name=bundle.task.name,
        versions=list(models.versions(bundle.task.name)),
        platform=_PLATFORMS[predictor.engine.build.runtime],
        inputs=[
            schemas.TensorMetadata(name=each, datatype=tensors.DATATYPE, shape=[-1])
            for each in tensors.input_names(bundle.task)
        ],
        outputs=[
            schemas.TensorMetadata(name=name, datatype=each.datatype, shape=[-1, *each.shape])
            for name, each in _outputs(bundle.task.label).items()
        ],
    )


@router.get("/models/{name}/versions/{version}", response_model=schemas.ModelMetadata)
async def model_version(request: Request, predictor: Versioned) -> schemas.ModelMetadata:
    """Say which tensors a version of a model takes and returns."""
    return await model(request, predictor)


_NOT_READY: dict[int | str, dict[str, Any]] = {503: {"model": schemas.ModelReady}}


@router.get("/models/{name}/ready", response_model=schemas.ModelReady, responses=_NOT_READY)
async def model_ready(request: Request, predictor: Named) -> JSONResponse:
    """Say whether a model answers."""
    now = status_of(request.app) == "ready"
    return JSONResponse({"name": predictor.bundle.task.name, "ready": now}, 200 if now else 503)


@router.get(
    "/models/{name}/versions/{version}/ready",
    response_model=schemas.ModelReady,
    responses=_NOT_READY,
)
async def model_version_ready(request: Request, predictor: Versioned) -> JSONResponse:
    """Say whether a version of a model answers."""
    return await model_ready(request, predictor)


_PLATFORMS = {"onnx": "onnxruntime_onnx", "torchscript": "pytorch_torchscript"}


# ---- inference ----------------------------------------------------------------------------------


@router.post("/models/{name}/infer", response_model=schemas.InferResponse)
async def infer(request: Request, predictor: Named) -> Response:
    """Predict the cases of a request."""
    settings: Settings = request.app.state.settings
    check_plain(request.headers)
    task, limits, head = (
        predictor.bundle.task,
        settings.limits(),
        request.headers.get(tensors.HEADER),
    )
    with predictor.admission.place():
        body = await receive_body(request)
        asked = await predictor.lanes.run(
            len(body), tensors.read, body, head, task, limits, settings.batch
        )
        options, columns = _options(asked.parameters), _wanted(asked, task.label)
        exchange = exchange_of(request)
        exchange.take_in(len(asked.reads))
        items = await while_connected(
            request.receive,
            answer_all(
                predictor,
                asked.reads,
                len(body) // len(asked.reads),
                options,
                exchange.id,
            ),
        )
    if set(columns) != {"answer"}:
        for item in items:
            _refuse_missing(item, exchange)
    exchange.add_all(items)
    said: dict[str, Any] = {
        "model_name": task.name,
        "model_version": predictor.bundle.manifest.version,
        **({} if asked.id is None else {"id": asked.id}),
    }
    return _reply(said, items, columns, asked)


@router.post("/models/{name}/versions/{version}/infer", response_model=schemas.InferResponse)
async def infer_version(request: Request, predictor: Versioned) -> Response:
    """Predict the cases of a request, by a version of a model."""
    return await infer(request, predictor)


@dataclass(frozen=True, slots=True)
class _Column:
    """An output.

    Attributes:
        datatype: the protocol's name of it.
        value: returns the value of a case, of the shape below.
        shape: behind the axis of cases.
    """

    datatype: str
    value: Callable[[schemas.Item], Any]
    shape: tuple[int, ...] = ()


def _of(name: str) -> Callable[[schemas.Item], Any]:
    def value(item: schemas.Item) -> Any:
        said = item["answer"]["prediction"]
        assert said is not None
        return said.get(name)

    return value


def _shares(item: schemas.Item) -> list[float]:
    return list(_of("probabilities")(item).values())


def _whole(item: schemas.Item) -> str:
    return schemas.encode(item.get("answer") or item["problem"]).decode()


def _outputs(label: LabelSpec) -> dict[str, _Column]:
    """Return the outputs of a task, by name."""
    classes = {
        "label": _Column("BYTES", _of("label")),
        "probabilities": _Column("FP64", _shares, (len(label.classes),)),
    }
    by_kind = {
        "binary": {"probability": _Column("FP64", _of("probability")), **classes},
        "multiclass": classes,
        "ordinal": {"expected": _Column("FP64", _of("expected")), **classes},
        "regression": {"value": _Column("FP64", _of("value"))},
    }
    return {**by_kind[label.kind], "answer": _Column("BYTES", _whole)}


def _wanted(asked: tensors.Asked, label: LabelSpec) -> dict[str, _Column]:
    known = _outputs(label)
    for name in asked.outputs:
        if name not in known:
            raise InputError(
                "no such output",
                code="unknown_field",
                field="outputs",
                seen=name,
                accepted=unknown_name(name, known),
            )
    return {name: known[name] for name in asked.outputs or known}


def _options(parameters: Mapping[str, Any]) -> Options:
    """Return the options among the parameters of a request.

    Raises:
        InputError: a parameter is not known, or not usable.
    """
    refuse_unknown(parameters, ("explain", "coverage", tensors.BINARY_OUTPUT), "parameters.")
    ours = {name: each for name, each in parameters.items() if name != tensors.BINARY_OUTPUT}
    return read_options(ours, "parameters.")


def _refuse_missing(item: schemas.Item, exchange: Exchange) -> None:
    """Fail a request one of whose cases has no prediction; that one alone goes on record.

    Raises:
        InputError: this one has none.
    """
    if "problem" in item:
        problem = item["problem"]
        exchange.said[item["index"]] = problem
        raise InputError(
            f"case {item['index']}: {problem['detail']}",
            code=problem["code"],
            field=problem["field"] or "",
            seen=problem["seen"],
            accepted=problem["accepted"] or "",
        )
    answer = item["answer"]
    if answer["prediction"] is None:
        exchange.said[item["index"]] = answer
        raise InputError(
            f"case {item['index']}: the model abstains: {answer['reason']}",
            code="abstained",
            field="inputs",
            seen=", ".join(answer["modalities"]["used"]),
            accepted="the modalities that the task requires; or request only the output `answer`",
        )


def _reply(
    said: dict[str, Any],
    items: Sequence[schemas.Item],
    columns: Mapping[str, _Column],
    asked: tensors.Asked,
) -> Response:
    said["outputs"], behind = [], []
    for name, column in columns.items():
        values = [column.value(item) for item in items]
        output: dict[str, Any] = {
            "name": name,
            "datatype": column.datatype,
            "shape": [len(items), *column.shape],
        }
        wish = asked.outputs.get(name)
        if asked.binary if wish is None else wish:
            data = _bytes(values, column.datatype)
            output["parameters"] = {"binary_data_size": len(data)}
            behind.append(data)
        else:
            output["data"] = np.ravel(values).tolist() if column.shape else values
        said["outputs"].append(output)
    head = JSONResponse(said)
    if not behind:
        return head
    length = {tensors.HEADER: str(len(head.body))}
    return Response(bytes(head.body) + b"".join(behind), 200, length, "application/octet-stream")


def _bytes(values: Sequence[Any], datatype: str) -> bytes:
    """Return values as the protocol has them in bytes: little-endian, words with their lengths."""
    if datatype == "BYTES":
        words = [each.encode() for each in values]
        return b"".join(struct.pack("<I", len(each)) + each for each in words)
    return np.asarray(values, "<f8").tobytes()
