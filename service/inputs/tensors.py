"""Requests of the Open Inference Protocol, version 2: named tensors to records.

Every input is a tensor of BYTES with one element a case, of shape [B] or [B, 1]:

    record                            a JSON object, as /predict takes it, or instead of it
    text image tabular timeseries id  the parts, each as a form has it; an empty element is absent

Data come as JSON (a picture then in base64) or behind it as bytes, elements with their lengths in
front (the extension `binary_tensor_data`).
Source: github.com/kserve/open-inference-protocol; Triton's docs, protocol/extension_binary_data.
"""

import math
import struct
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from lanistr.errors import InputError, unknown_name
from lanistr.tasks import TaskSpec
from service.inputs import json, multipart
from service.inputs.limits import Limits

HEADER = "Inference-Header-Content-Length"
"""How many bytes of a body are JSON, where tensors stand behind it as bytes."""

BINARY_OUTPUT = "binary_data_output"
"""The parameter of a request that says whether outputs are wanted as bytes."""

RECORD = "record"
DATATYPE = "BYTES"

# What objects of the protocol hold. KServe's client names the model, which stands in the path.
_REQUEST = ("id", "parameters", "inputs", "outputs", "model_name")
_TENSOR = ("name", "shape", "datatype", "parameters", "data")
_OUTPUT = ("name", "parameters")

_LENGTH = struct.Struct("<I")
_ACCEPTED = (
    'an object like {"inputs": [{"name": "record", "shape": [1], "datatype": "BYTES", ...}]}'
)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request asks.

    Attributes:
        id: the sender's name for the request.
        parameters: of the request.
        outputs: by name, whether it is wanted as bytes; empty: all.
        binary: whether those are of which nothing is said.
        reads: for each case, what returns its record, or raises `InputError`.
    """

    id: str | None
    parameters: Mapping[str, Any]
    outputs: Mapping[str, bool | None]
    binary: bool
    reads: Sequence[Callable[[], Any]]


def input_names(task: TaskSpec) -> list[str]:
    """Return the names of the tensors that a task takes."""
    return [RECORD, "id", *task.modalities]


def read(body: bytes, head: str | None, task: TaskSpec, limits: Limits, most: int) -> Asked:
    """Read a request.

    Args:
        body: JSON, and bytes behind it if `head` says so.
        head: the value of `HEADER`.
        task: says which parts there are.
        limits: of a record.
        most: cases.

    Raises:
        InputError: not a request, or its tensors do not fit one another.
    """
    length = _header_length(head, len(body))
    asked = json.decode(body[:length], limits)
    if not isinstance(asked, dict):
        raise _wrong("body", asked, _ACCEPTED)
    _refuse_unknown(asked, _REQUEST)
    behind = memoryview(body)[length:]
    inputs: dict[str, _Elements] = {}
    for i, tensor in enumerate(_objects(asked.get("inputs"), "inputs")):
        elements, behind = _read_tensor(tensor, f"inputs[{i}]", behind, task)
        _refuse_second(inputs, tensor["name"], f"inputs[{i}].name")
        inputs[tensor["name"]] = elements
    if behind:
        raise _wrong("body", f"{len(behind)} more bytes", "as many bytes as the tensors declare")
    parameters = _parameters(asked, "parameters")
    request_id = asked.get("id")
    if request_id is not None and not isinstance(request_id, str):
        raise _wrong("id", request_id, "a string")
    outputs: dict[str, bool | None] = {}
    wanted = asked.get("outputs")
    for i, each in enumerate(_objects([] if wanted is None else wanted, "outputs")):
        _refuse_unknown(each, _OUTPUT, f"outputs[{i}].")
        name = str(each.get("name"))
        _refuse_second(outputs, name, f"outputs[{i}].name")
        outputs[name] = _flag(each, f"outputs[{i}].parameters", "binary_data")
    all_binary = _flag(asked, "parameters", BINARY_OUTPUT)
    return Asked(
        request_id, parameters, outputs, bool(all_binary), list(_reads(inputs, task, limits, most))
    )


@dataclass(frozen=True, slots=True)
class _Elements:
    """The elements of a tensor, and whether they came as bytes."""

    data: Sequence[bytes]
    raw: bool


def _reads(
    inputs: Mapping[str, _Elements], task: TaskSpec, limits: Limits, most: int
) -> Iterator[Callable[[], Any]]:
    sizes = {name: len(each.data) for name, each in inputs.items()}
    if not sizes or len(set(sizes.values())) > 1:
        seen = ", ".join(f"{name} {size}" for name, size in sizes.items()) or None
        raise _wrong("inputs", seen, "at least one tensor, all with the same number of elements")
    (count,) = set(sizes.values())
    if not 0 < count <= most:
        raise InputError(
            "over the limit" if count else "no cases",
            code="too_many" if count else "nothing_present",
            field="inputs",
            seen=f"{count:,} cases",
            accepted=f"from 1 to {most:,} cases",
        )
    if RECORD in inputs and len(inputs) > 1:
        raise _wrong("inputs", ", ".join(inputs), f"either {RECORD}, or the modalities by name")
    for k in range(count):
        yield partial(_record, inputs, k, task, limits)


def _record(inputs: Mapping[str, _Elements], k: int, task: TaskSpec, limits: Limits) -> Any:
    if RECORD in inputs:
        return limits.check(json.decode(inputs[RECORD].data[k], limits, whole=RECORD))
    parts = [
        multipart.Part(data=bytearray(each.data[k]), name=name, is_file=each.raw)
        for name, each in inputs.items()
    ]
    return limits.check(multipart.record(parts, task, limits))


def _read_tensor(
    tensor: Mapping[str, Any], path: str, behind: memoryview, task: TaskSpec
) -> tuple[_Elements, memoryview]:
    """Return the elements of a tensor and what bytes are left for those after it."""
    _refuse_unknown(tensor, _TENSOR, f"{path}.")
    name, shape = tensor.get("name"), tensor.get("shape")
    if name not in input_names(task):
        raise InputError(
            "no such input",
            code="unknown_field",
            field=f"{path}.name",
            seen=name,
            accepted=unknown_name(name, input_names(task)),
        )
    if tensor.get("datatype") != DATATYPE:
        raise _wrong(f"{path}.datatype", tensor.get("datatype"), DATATYPE)
    sizes = shape if isinstance(shape, list) else []
    whole = all(type(each) is int and each >= 0 for each in sizes)
    if not 1 <= len(sizes) <= 2 or not whole or sizes[1:] > [1]:
        raise _wrong(f"{path}.shape", shape, "[cases] or [cases, 1]")
    size = _parameters(tensor, f"{path}.parameters").get("binary_data_size")
    if size is None:
        found = _Elements([_encoded(each, path) for each in _flat(tensor.get("data"))], raw=False)
    else:
        if type(size) is not int or not 0 <= size <= len(behind):
            accepted = f"a number of bytes up to the {len(behind)} that remain"
            raise _wrong(f"{path}.parameters.binary_data_size", size, accepted)
        found = _Elements(list(_split(behind[:size], path)), raw=True)
        behind = behind[size:]
    if len(found.data) != math.prod(sizes):
        raise _wrong(
            f"{path}.data", f"{len(found.data)} elements", f"as many elements as the shape {shape}"
        )
    return found, behind


def _split(data: memoryview, path: str) -> Iterator[bytes]:
    """Yield elements that have their lengths in front."""
    while data:
        if len(data) < _LENGTH.size:
            raise _wrong(
                f"{path}.data",
                f"{len(data)} bytes left",
                "four bytes that give the element's length",
            )
        (length,) = _LENGTH.unpack_from(data)
        data = data[_LENGTH.size :]
        if length > len(data):
            raise _wrong(f"{path}.data", f"{len(data)} bytes left", f"an element of {length} bytes")
        yield bytes(data[:length])
        data = data[length:]


def _flat(data: Any) -> Iterator[Any]:
    for each in data if isinstance(data, list) else [data]:
        if isinstance(each, list):
            yield from each
        else:
            yield each


def _encoded(element: Any, path: str) -> bytes:
    if not isinstance(element, str):
        raise _wrong(f"{path}.data", element, "strings")
    return element.encode()


def _objects(value: Any, path: str) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise _wrong(path, value, "a list of objects")
    return value


def _parameters(holder: Mapping[str, Any], path: str) -> dict[str, Any]:
    found = holder.get("parameters")
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise _wrong(path, found, "an object")
    return found


def _flag(holder: Mapping[str, Any], path: str, name: str) -> bool | None:
    found = _parameters(holder, path).get(name)
    if found is not None and not isinstance(found, bool):
        raise _wrong(f"{path}.{name}", found, "true or false")
    return found


def _refuse_unknown(names: Iterable[str], known: Collection[str], place: str = "") -> None:
    """Refuse what the protocol does not have: a misspelt wish would be passed over."""
    for name in names:
        if name not in known:
            raise InputError(
                "unknown field",
                code="unknown_field",
                field=place + name,
                seen=name,
                accepted=unknown_name(name, known),
            )


def _refuse_second(before: Collection[str], name: str, path: str) -> None:
    if name in before:
        raise InputError(
            "there are two tensors with this name",
            code="repeated_field",
            field=path,
            seen=name,
            accepted="each name once",
        )


def _header_length(head: str | None, size: int) -> int:
    if head is None:
        return size
    digits = head.isascii() and head.isdecimal() and len(head) < 16
    if not (digits and int(head) <= size):
        raise _wrong(HEADER, head, f"a number of bytes up to {size}")
    return int(head)


def _wrong(field: str, seen: Any, accepted: str) -> InputError:
    return InputError(
        "not a request of the Open Inference Protocol",
        code="wrong_type",
        field=field,
        seen=seen,
        accepted=accepted,
    )
