"""Request ids and traces, in and out."""

import re

import httpx
import pytest

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"


def sent(client: httpx.Client, *headers: str) -> str | None:
    answer = client.get("/healthz", headers=[("traceparent", each) for each in headers])
    return answer.headers.get("traceparent")


def test_a_trace_goes_on_with_a_part_of_its_own(client, server):
    answer = client.get("/healthz", headers={"traceparent": f"00-{TRACE}-{PARENT}-01"})
    found = re.fullmatch(rf"00-{TRACE}-([0-9a-f]{{16}})-01", answer.headers["traceparent"])
    assert found
    assert found[1] != PARENT
    assert server.says(f"request {answer.headers['x-request-id']} trace {TRACE}")
    assert sent(client, f"00-{TRACE}-{PARENT}-00").endswith("-00")
    assert sent(client, f"cc-{TRACE}-{PARENT}-01-of-tomorrow").startswith(f"00-{TRACE}-")


@pytest.mark.parametrize(
    "header",
    [
        "",
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-01-more",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}",
    ],
)
def test_what_is_no_trace_is_left_out(client, header):
    assert sent(client, header) is None


def test_two_traces_are_none(client):
    assert sent(client, f"00-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-00") is None
    assert sent(client) is None
