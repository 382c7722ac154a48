"""Both backends behind HTTP, on one device and on two: the same answers."""

import asyncio

import httpx
import onnxruntime
import pytest
import torch

from lanistr.bundle import Bundle
from lanistr.proof import BOUND
from service.examples import example

ON_GPUS = [
    pytest.param(
        ("torch", "cuda:0"),
        marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU for torch"),
    ),
    pytest.param(
        ("torch", "cuda:0,cuda:0"),
        marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU for torch"),
    ),
    pytest.param(
        ("onnx", "cuda:0"),
        marks=pytest.mark.skipif(
            "CUDAExecutionProvider" not in onnxruntime.get_available_providers()
            or not torch.cuda.is_available(),
            reason="no GPU for onnxruntime",
        ),
    ),
]


@pytest.fixture(scope="module")
def asked(stays_bundle, picture):
    """Cases of every size, with each set of parts; more than any one batch takes."""
    whole = example(Bundle.open(stays_bundle).task)
    notes = [whole | {"text": "word " * (9 * k + 1)} for k in range(12)]
    parts = [{name: part} for name, part in whole.items()]
    return [*notes, *parts, *notes[:3]]


@pytest.fixture(scope="module")
def answers(start_server, stays_bundle, asked):
    """Ask a server of so and so for predictions, all at once, and for embeddings in a list."""

    def ask(backend, device, *more):
        options = ("--bundles", str(stays_bundle), "--precision", "fp32", "--threads", "2", *more)
        with start_server(*options, "--backend", backend, "--device", device) as server:

            async def all_at_once():
                async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
                    path = "/predict/mortality?explain=true"
                    return await asyncio.gather(*(client.post(path, json=each) for each in asked))

            found = asyncio.run(all_at_once())
            embedded = [httpx.post(server.url + "/embed/mortality", json=asked[0], timeout=60)]
            log = server.log()
        assert {each.status_code for each in (*found, *embedded)} == {200}
        return [each.json() for each in found], embedded[0].json()["embedding"], log

    return ask


@pytest.fixture(scope="module")
def reference(answers):
    return answers("onnx", "cpu")


def close(found, wanted):
    """Whether numbers are as near as the graphs of one model must be, and all else equal."""
    if isinstance(wanted, dict):
        own = ("request_id", "timing_ms")
        return found.keys() == wanted.keys() and all(
            close(found[name], each) for name, each in wanted.items() if name not in own
        )
    if isinstance(wanted, list):
        return len(found) == len(wanted) and all(map(close, found, wanted))
    if isinstance(wanted, float):
        return abs(found - wanted) <= BOUND * max(1, abs(wanted))
    return found == wanted


@pytest.mark.parametrize(
    "way",
    [
        ("torch", "cpu"),
        ("torch", "cpu,cpu"),
        ("onnx", "cpu,cpu"),
        ("torch", "cpu,cpu", "--workers", "1"),
        *ON_GPUS,
    ],
)
def test_whatever_computes_the_answers_are_the_same(reference, answers, way):
    found, embedding, log = answers(*way)
    assert all(map(close, found, reference[0]))
    assert close(embedding, reference[1])
    assert f", fp32, on {'CPU' if way[1].startswith('cpu') else 'GPU 0'}, from " in log
