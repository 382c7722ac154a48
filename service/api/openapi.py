"""The OpenAPI document: one address a task, with that task's own fields, units and ranges.

FastAPI knows one address, `/predict/{task}`; what a task takes is known once its bundle is open.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import TypeAdapter

from lanistr.bundle import Bundle
from lanistr.fields import FieldSpec, NumberField
from lanistr.modalities import Modality
from lanistr.tasks import TaskSpec
from service.api import deadline
from service.api.keys import OPEN
from service.api.options import Options
from service.api.problems import MEDIA_TYPE, STATUS
from service.api.schemas import (
    Batch,
    EmbeddingAnswer,
    InferRequest,
    InferResponse,
    Item,
    PredictionAnswer,
    Problem,
)
from service.api.stream import MEDIA_TYPE as NDJSON
from service.examples import example
from service.inputs import tensors

_REFERENCE = "#/components/schemas/{model}"
_ANSWERS = (PredictionAnswer, EmbeddingAnswer, Item, Batch)
_TAGS = ("predict", "embed", "tasks", "state", "open inference protocol")

Schema = dict[str, Any]


def document(app: FastAPI, bundles: Mapping[str, Bundle]) -> Schema:
    """Return the OpenAPI document of an application that serves the bundles."""
    found = get_openapi(
        title=app.title,
        version=app.version,
        description=app.description,
        routes=app.routes,
        tags=[{"name": each} for each in _TAGS],
    )
    types = (*_ANSWERS, InferRequest, Problem)
    _, models = TypeAdapter.json_schemas(
        [(each, "serialization", TypeAdapter[Any](each)) for each in types],
        ref_template=_REFERENCE,
    )
    schemas = found.setdefault("components", {}).setdefault("schemas", {})
    schemas |= models["$defs"]
    for task in (each.task for each in bundles.values()):
        schemas |= {_record_name(task): _record(task), _form_name(task): _form(task)}
    answering: Schema = {}
    for name, bundle in bundles.items():
        own = _addresses(bundle.task)
        _name_what_is_served(own, {name: bundle})
        answering |= own
    _name_what_is_served(found["paths"], bundles)
    for path in found["paths"]:
        if path.endswith("/infer"):
            _complete_inference(found["paths"][path]["post"], bundles)
    found["paths"] = answering | found["paths"]
    if app.state.keys is not None:
        scheme = {"type": "http", "scheme": "bearer", "description": "an API key of this service"}
        found["components"]["securitySchemes"] = {"key": scheme}
        found["security"] = [{"key": []}]
        if app.state.settings.open_metrics:
            found["paths"]["/metrics"]["get"] |= OPEN
    return found


def _name_what_is_served(paths: Schema, bundles: Mapping[str, Bundle]) -> None:
    """Let parameters say which tasks there are, and show a version."""
    version = next(iter(bundles.values())).manifest.version
    operations = (each for operations in paths.values() for each in operations.values())
    for parameter in (each for one in operations for each in one.get("parameters", ())):
        if parameter["name"] == "version":
            parameter["example"] = version
        elif parameter["in"] == "path":
            parameter["schema"]["enum"] = list(bundles)


def _complete_inference(operation: Schema, bundles: Mapping[str, Bundle]) -> None:
    """Say of an operation of the Open Inference Protocol what FastAPI cannot know."""
    record = json.dumps(example(next(iter(bundles.values())).task))
    tensor = {"name": tensors.RECORD, "shape": [1], "datatype": tensors.DATATYPE, "data": [record]}
    takes = {"schema": _of(InferRequest), "example": {"inputs": [tensor]}}
    operation["parameters"] += [_HEAD, _TIMEOUT]
    operation["requestBody"] = {"required": True, "content": {"application/json": takes}}
    operation["responses"] = _responses(
        {
            "application/json": {"schema": _of(InferResponse)},
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        }
    )


def _addresses(task: TaskSpec) -> Schema:
    """Return a task's own addresses."""
    one = _one(task)
    record: Schema = {"$ref": _REFERENCE.format(model=_record_name(task))}
    several = {"schema": {"type": "array", "items": record}, "example": [example(task)]}
    lines = {"schema": record, "example": json.dumps(example(task)) + "\n"}
    return {
        f"/predict/{task.name}": _operation(task, "predict", "", one, _json_of(PredictionAnswer)),
        f"/predict/{task.name}/batch": _operation(
            task,
            "predict_batch",
            "A list of records. Each is answered separately, in the same order.",
            {"application/json": several},
            _json_of(Batch),
        ),
        f"/predict/{task.name}/stream": _operation(
            task,
            "predict_stream",
            "Any number of records, one per line. Each is answered in its own line as soon as it "
            "is ready, in any order; `index` counts the lines from 0. Read the answers while you "
            "send.",
            {NDJSON: lines},
            {NDJSON: {"schema": _of(Item)}},
        ),
        f"/embed/{task.name}": _operation(
            task,
            "embed",
            "The fused embedding, scaled to unit length. Similar cases have similar embeddings.",
            one,
            _json_of(EmbeddingAnswer),
        ),
    }


def _operation(task: TaskSpec, name: str, description: str, takes: Schema, gives: Schema) -> Schema:
    tag = name.partition("_")[0]
    every = "Any modality of a record may be left out, but at least one must be present."
    return {
        "post": {
            "tags": [tag],
            "operationId": f"{name}_{task.name}",
            "summary": task.title,
            "description": "\n\n".join(filter(None, (task.description, description, every))),
            "parameters": _parameters(tag),
            "requestBody": {"required": True, "content": takes},
            "responses": _responses(gives),
        }
    }


def _one(task: TaskSpec) -> Schema:
    """Return the ways in which one record may come."""
    return {
        "application/json": {
            "schema": {"$ref": _REFERENCE.format(model=_record_name(task))},
            "example": example(task),
        },
        "multipart/form-data": {
            "schema": {"$ref": _REFERENCE.format(model=_form_name(task))},
            "encoding": {
                "tabular": {"contentType": "application/json"},
                "timeseries": {"contentType": "application/json, text/csv"},
            },
        },
    }


_TIMEOUT: Schema = {
    "name": deadline.HEADER,
    "in": "header",
    "required": False,
    "schema": {"type": "integer", "minimum": 1},
    "example": 10_000,
    "description": "time-out in milliseconds, after which the request is dropped and answered "
    "with 504",
}

_HEAD: Schema = {
    "name": tensors.HEADER,
    "in": "header",
    "required": False,
    "schema": {"type": "integer", "minimum": 0},
    "description": "number of bytes of JSON at the start of the body; the tensors' bytes follow",
}


def _record_name(task: TaskSpec) -> str:
    return f"{task.name}_record"


def _form_name(task: TaskSpec) -> str:
    return f"{task.name}_form"


def _json_of(model: type[Any]) -> Schema:
    return {"application/json": {"schema": _of(model)}}


def _parameters(tag: str) -> list[Schema]:
    properties = Options.model_json_schema()["properties"]
    return [
        {"name": name, "in": "query", "required": False, "schema": schema}
        for name, schema in properties.items()
        if tag == "predict" or name == "version"
    ] + [_TIMEOUT]


def _responses(gives: Schema) -> Schema:
    responses: Schema = {"200": {"description": "The answer", "content": gives}}
    for status in sorted({status for status, _ in STATUS.values()}):
        codes = {code: title for code, (each, title) in STATUS.items() if each == status}
        responses[str(status)] = {
            "description": "; ".join(f"{title} (`{code}`)" for code, title in codes.items()),
            "content": {MEDIA_TYPE: {"schema": _of(Problem)}},
        }
    del responses["405"]  # another method is another operation
    wait = {"schema": {"type": "integer"}, "description": "seconds to wait before trying again"}
    for later in ("429", "503"):
        responses[later]["headers"] = {"Retry-After": wait}
    return responses


def _of(model: type[Any]) -> Schema:
    return {"$ref": _REFERENCE.format(model=model.__name__)}


# ---- a task's record ----------------------------------------------------------------------------


def _record(task: TaskSpec) -> Schema:
    parts = {each: _nullable(PARTS[each](task)) for each in task.modalities}
    name = {"type": ["string", "null"], "description": "your ID for the case"}
    return {
        "type": "object",
        "title": f"{task.name} record",
        "properties": {"id": name, **parts},
        "additionalProperties": False,
    }


def _form(task: TaskSpec) -> Schema:
    """Describe the same as form fields, some of which are files."""
    properties = {each: FORM.get(each) or PARTS[each](task) for each in task.modalities}
    name = {"type": "string", "description": "your ID for the case"}
    return {"type": "object", "title": f"{task.name} form", "properties": {"id": name} | properties}


def _nullable(schema: Schema) -> Schema:
    description = schema.pop("description", "")
    return {"description": description, "anyOf": [schema, {"type": "null"}]}


def _text(task: TaskSpec) -> Schema:
    assert task.text is not None
    several = {"type": "array", "items": {"type": ["string", "null"]}}
    return {
        "description": f"{task.text.description} One note or a list of them.",
        "anyOf": [{"type": "string"}, several],
    }


def _image(task: TaskSpec) -> Schema:
    assert task.image is not None
    one = {"type": "string", "contentEncoding": "base64"}
    return {
        "description": f"{task.image.description} Base64 or a data URL of a JPEG, PNG, WebP, TIFF "
        "or BMP; one or a list of them. Addresses are not fetched.",
        "anyOf": [one, {"type": "array", "items": one | {"type": ["string", "null"]}}],
    }


def _tabular(task: TaskSpec) -> Schema:
    assert task.tabular is not None
    return {
        "description": task.tabular.description,
        "type": "object",
        "properties": {name: _field(spec) for name, spec in task.tabular.fields.items()},
        "additionalProperties": False,
    }


def _timeseries(task: TaskSpec) -> Schema:
    spec = task.timeseries
    assert spec is not None
    hours = {
        "type": "number",
        "description": f"hours since the start; used from 0 to {spec.horizon_hours:g}",
    }
    return {
        "description": f"{spec.description} Rows in any order.",
        "type": "array",
        "items": {
            "type": "object",
            "properties": {
                "hours": hours,
                **{name: _field(each) for name, each in spec.variables.items()},
            },
            "required": ["hours"],
            "additionalProperties": False,
        },
    }


PARTS: Mapping[Modality, Callable[[TaskSpec], Schema]] = {
    Modality.TEXT: _text,
    Modality.IMAGE: _image,
    Modality.TABULAR: _tabular,
    Modality.TIMESERIES: _timeseries,
}

FORM: Mapping[Modality, Schema] = {
    Modality.TEXT: {
        "type": "array",
        "items": {"type": "string"},
        "description": "One or more notes under this name, as fields or files.",
    },
    Modality.IMAGE: {
        "type": "array",
        "items": {"type": "string", "format": "binary"},
        "description": "One or more files under this name.",
    },
    Modality.TIMESERIES: {
        "type": "string",
        "format": "binary",
        "description": "CSV with a column `hours` and one column per variable (empty cells are "
        "missing), or JSON as in a JSON body.",
    },
}
"""What is otherwise in a form than in JSON."""


def _field(spec: FieldSpec) -> Schema:
    """Describe a value.

    Ranges stand in words and under `x-range`, not as `minimum` and `maximum`: a value outside is
    taken, with an issue, and must not fail a client's own validation.
    """
    said = {"description": f"{spec.description}: {spec.accepted()}".removeprefix(": ")}
    if not isinstance(spec, NumberField):
        words = {"x-categories": list(spec.categories)} if spec.categories else {}
        return said | words | {"type": ["string", "number", "boolean", "null"]}
    units = [each for each in (spec.unit, *spec.units) if each]
    quantity = {
        "type": "object",
        "properties": {
            "value": {"type": ["number", "string", "null"]},
            "unit": {"type": ["string", "null"], "enum": [*units, None]},
        },
        "required": ["value"],
        "additionalProperties": False,
    }
    number: Schema = {"type": ["number", "string", "null"]}
    extra: Schema = {"x-unit": spec.unit, "x-range": spec.range, "x-units": units}
    return {
        **said,
        **{name: value for name, value in json.loads(json.dumps(extra)).items() if value},
        "anyOf": [number, quantity] if units else [number],
    }
