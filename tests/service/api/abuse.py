"""What schemathesis cannot know of this service; `schemathesis.toml` names this module."""

import json
import re
from typing import Any

import schemathesis
from hypothesis import strategies as st
from schemathesis.core.failures import AcceptedNegativeData, Failure
from schemathesis.openapi.checks import RejectedPositiveData

from service.api import deadline
from service.api.stream import MEDIA_TYPE as NDJSON
from service.inputs import tensors

_UNIT = re.compile(r"unit: Invalid enum value|`enum` at \S*/unit\b")


@schemathesis.serializer(NDJSON)
def one_line(context: schemathesis.SerializationContext, value: Any) -> bytes:
    """Write the one line that a case has."""
    return (value if isinstance(value, bytes) else json.dumps(value).encode()) + b"\n"


@schemathesis.deserializer(NDJSON)
def one_answer(
    context: schemathesis.DeserializationContext, response: schemathesis.Response
) -> Any:
    """Read the one line that answers it."""
    (line,) = response.content.splitlines()
    return json.loads(line)


@schemathesis.hook.apply_to(path_regex="/infer$")
def before_generate_body(
    context: schemathesis.HookContext, strategy: st.SearchStrategy[Any]
) -> st.SearchStrategy[Any]:
    """Also put records into the tensors, which to the document are texts."""
    assert context.operation is not None
    paths = context.operation.schema.raw_schema["paths"]
    bodies = [
        content["application/json"]["example"]
        for path in paths
        if path.startswith("/predict/") and path.count("/") == 2
        for content in [paths[path]["post"]["requestBody"]["content"]]
    ]
    records = st.sampled_from([json.dumps(each) for each in bodies]) | st.text()
    names = st.sampled_from([tensors.RECORD] * 3 + ["text", "image", "tabular", "id"])

    def tensor(data: list[str]) -> st.SearchStrategy[Any]:
        fixed = {"datatype": tensors.DATATYPE, "shape": [len(data)], "data": data}
        return names.map(lambda name: {"name": name, **fixed})

    cases = st.lists(records, min_size=1, max_size=3)
    asked = cases.flatmap(tensor).map(lambda found: {"inputs": [found]})
    return strategy | asked


@schemathesis.check
def late_only_if_asked(
    context: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case
) -> None:
    """A 504 is for who gave a time: nothing here takes the service's own."""
    given = deadline.HEADER in (case.headers or {})
    assert response.status_code != 504 or given, "504 that nobody asked for"


@schemathesis.hook
def filter_failure(
    context: schemathesis.HookContext,
    failure: Failure,
    case: schemathesis.Case,
    response: schemathesis.Response,
) -> bool:
    """Pass over what is no fault.

    A field of a form is any text or file to the document, so that what breaks the schema of one
    may be a good note, and what keeps it no CSV. And units are read more kindly than they are
    described: in any case, and not at all where the value is null.
    """
    form = case.media_type == "multipart/form-data"
    if isinstance(failure, AcceptedNegativeData):
        return not (form or _UNIT.search(failure.message))
    if isinstance(failure, RejectedPositiveData):
        return not (form and response.status_code == 400)
    return True
