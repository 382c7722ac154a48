"""`python -m clients` in a process of its own, against a server."""

import json
import subprocess
import sys
from functools import partial

import pytest

from clients.__main__ import _parser
from tests import forked

run = partial(forked.run, "clients")


def mistake(outcome, code=2):
    """Assert that the command failed with one line on standard error; return the line."""
    (line,) = outcome.stderr.splitlines()
    assert outcome.returncode == code, line
    assert outcome.stdout == ""
    assert line.startswith("error: ")
    return line


def test_a_case_with_every_part(service, mortality, tmp_path):
    service.answers(mortality)
    (tmp_path / "note.txt").write_text("intubated, 38 °C", encoding="utf-8")
    (tmp_path / "cxr.jpg").write_bytes(b"\xff\xd8\xff one")
    (tmp_path / "lateral.jpg").write_bytes(b"\xff\xd8\xff two")
    (tmp_path / "row.json").write_text('{"age": 71}')
    (tmp_path / "vitals.csv").write_text("hours,heart_rate\n0.5,92\n")
    arguments = ["--text", tmp_path / "note.txt", "--text", "-"]
    arguments += ["--image", tmp_path / "cxr.jpg", "--image", tmp_path / "lateral.jpg"]
    arguments += ["--tabular", tmp_path / "row.json", "--timeseries", tmp_path / "vitals.csv"]
    arguments += ["--id", "stay-17", "--explain", "--coverage", "0.9", "--url", service.url]
    outcome = run("predict", "mortality", *arguments, stdin=b"second note")

    assert (outcome.returncode, outcome.stderr) == (0, "")
    assert service.last.path == "/predict/mortality"
    assert service.last.query == {"explain": ["true"], "coverage": ["0.9"]}
    assert sorted((part.name, part.content) for part in service.last.parts) == [
        ("id", b"stay-17"),
        ("image", b"\xff\xd8\xff one"),
        ("image", b"\xff\xd8\xff two"),
        ("tabular", b'{"age":71}'),
        ("text", "intubated, 38 °C".encode()),
        ("text", b"second note"),
        ("timeseries", b"hours,heart_rate\n0.5,92\n"),
    ]
    assert outcome.stdout.splitlines() == [
        "mortality for stay-17: survived",
        "DEMO MODEL: trained on synthetic records; its predictions mean nothing",
        "  survived   69.0%  █████████████████████",
        "  died       31.0%  █████████",
        "set: survived, died",
        "used: text, timeseries",
        "missing: image, tabular",
        "contributions: text +0.420, timeseries -0.110",
        "issues:",
        "  timeseries[3].heart_rate: out_of_range, seen 1200, dropped (0 to 390 1/min)",
        "model: mortality-demo 0.1.0",
        "request: r-1 (preprocess 1.5 ms, queue 0.0 ms, inference 12.2 ms)",
    ]


def test_an_ordinal_and_a_regression_answer(service, rating, length_of_stay):
    service.answers(rating)
    shown = run("predict", "rating", "--text", "-", "--url", service.url, stdin=b"good")
    assert shown.stdout.startswith("rating: 5\n")
    assert "\nexpected: 4.20\n" in shown.stdout

    service.answers(length_of_stay)
    shown = run("predict", "length_of_stay", "--text", "-", "--url", service.url, stdin=b"note")
    assert shown.stdout.startswith("length_of_stay for stay-17: 3\n")


def test_json_is_the_answer_as_it_came(service, mortality):
    service.answers(mortality | {"new": "müde"})
    arguments = ["--text", "-", "--json", "--url", service.url]
    outcome = run("predict", "mortality", *arguments, stdin=b"note")
    assert outcome.returncode == 0
    assert json.loads(outcome.stdout) == mortality | {"new": "müde"}


def test_tasks(service):
    listed = [
        {"name": "mortality", "title": "Death", "modalities": ["text", "image"]},
        {"name": "rating", "title": "Stars", "modalities": ["text"]},
    ]
    service.answers({"tasks": listed})
    outcome = run("tasks", "--url", service.url)
    assert outcome.returncode == 0
    assert outcome.stdout.splitlines() == [
        "mortality  Death (text, image)",
        "rating     Stars (text)",
    ]
    assert json.loads(run("tasks", "--json", "--url", service.url).stdout) == {"tasks": listed}


def test_a_problem_is_one_line_and_exit_code_2(service, problem):
    service.answers(problem | {"detail": "must be\na number"}, status=422)
    line = mistake(run("predict", "mortality", "--text", "-", "--url", service.url))
    assert line == (
        "error: tabular.age: must be a number; seen 'old'; accepted: 18 to 120 years"
        " (422 wrong_type, request r-2)"
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--text", "gone.txt"], "text: cannot read gone.txt: No such file"),
        (["--text", "latin.txt"], "text: latin.txt: "),
        (["--image", "gone.jpg"], "image[0]: cannot read gone.jpg: No such file"),
        (["--tabular", "broken.json"], "tabular: broken.json is not JSON"),
        (["--tabular", "list.json"], "tabular: is of type list"),
        (["--timeseries", "vitals.xlsx"], "a .csv or .json file"),
        (["--text", "-", "--coverage", "nan"], "coverage: "),
        (["--text", "-", "--coverage", "much"], "--coverage"),
        (["--text", "-", "--timeout", "0"], "timeout: "),
        (["--text", "-", "--url", "localhost:8000"], "url: "),
        (["--txt", "-"], "--txt"),
        (["--text", "-", "--retry-seconds", "-1"], "retry_seconds: "),
    ],
)
def test_a_users_mistake_is_one_line_and_exit_code_2(monkeypatch, tmp_path, arguments, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "latin.txt").write_bytes("müde".encode("latin-1"))
    (tmp_path / "broken.json").write_text("{age: 71}")
    (tmp_path / "list.json").write_text("[71]")
    assert words in mistake(run("predict", "mortality", *arguments))


@pytest.mark.parametrize(
    ("url", "variable", "value", "words"),
    [
        ("http://a..b", "LANISTR_KEY", "", "url: http://a..b, or a proxy"),
        (f"http://{'a' * 64}.org", "LANISTR_KEY", "", "label empty or too long"),
        ("http://localhost", "HTTP_PROXY", "http://a..b", "label empty or too long"),
        ("http://localhost", "HTTP_PROXY", "foo://x", "HTTP_PROXY or HTTPS_PROXY: Unknown scheme"),
        (
            "http://localhost",
            "HTTP_PROXY",
            "http://x:port",
            "HTTP_PROXY or HTTPS_PROXY: Invalid port",
        ),
        ("http://localhost", "SSL_CERT_FILE", "/nope", "SSL_CERT_FILE: /nope: No such file"),
    ],
)
def test_an_address_or_an_environment_of_no_use_is_exit_code_2(
    monkeypatch, url, variable, value, words
):
    for name in ("http_proxy", "HTTP_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, value)
    assert words in mistake(run("tasks", "--url", url))


def test_a_service_that_is_not_there_is_the_users_to_start(deserted_url):
    line = mistake(run("tasks", "--url", deserted_url))
    assert line.startswith(f"error: service not reachable at {deserted_url}: ")
    assert line.endswith("refused: is it running? (make serve starts one)")


def test_a_service_that_cannot_be_reached_is_told_with_the_reason(service):
    """Of a certificate nobody vouches for, a name nobody knows: it may well be running."""
    url = service.url.replace("http:", "https:")
    line = mistake(run("tasks", "--url", url))
    assert line.startswith(f"error: service not reachable at {url}: [SSL: ")
    assert "running" not in line


def test_address_and_key_may_stand_in_the_environment(service, monkeypatch):
    service.answers({"tasks": []})
    monkeypatch.setenv("LANISTR_URL", service.url)
    monkeypatch.setenv("LANISTR_KEY", "secret")
    assert run("tasks").returncode == 0
    assert service.last.headers["Authorization"] == "Bearer secret"
    assert "secret" not in run("predict", "--help").stdout


def test_a_key_that_no_header_can_carry_is_the_users_mistake(monkeypatch):
    monkeypatch.setenv("LANISTR_KEY", "schlüssel")
    assert "headers.Authorization: has characters other than printable ASCII" in mistake(
        run("tasks")
    )


def test_each_command_waits_as_long_as_its_help_says():
    for command, seconds in (("predict", 30), ("score", 300), ("load", 30), ("tasks", 30)):
        said = " ".join(run(command, "--help").stdout.split())
        assert f"how long to wait for the service to respond ({seconds})" in said
    words = ["score", "mortality", "--input", "a.csv", "--output", "b.csv"]
    assert _parser().parse_args(words).timeout == 300
    assert _parser().parse_args(["predict", "mortality"]).timeout == 30


def test_a_slow_service_is_exit_code_1(service):
    service.silent = True
    assert "no answer" in mistake(run("tasks", "--url", service.url, "--timeout", "0.3"), code=1)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_service_that_cannot_is_exit_code_1(service, status):
    service.answers({"title": "No", "code": "no", "request_id": "r-3"}, status=status)
    line = mistake(run("tasks", "--url", service.url, "--retry-seconds", "0"), code=1)
    assert line == f"error: No ({status} no, request r-3)"


def test_an_answer_of_something_else_is_exit_code_1(service):
    service.answers_bytes(b"<html>hello</html>", "text/html")
    line = mistake(run("tasks", "--url", service.url), code=1)
    assert "not as a LANISTR service" in line


@pytest.mark.parametrize("tasks", [0, 2000])
def test_a_reader_that_has_enough_is_left_quietly(service, tasks):
    one = {"name": "mortality", "title": "Death", "modalities": ["text", "image"]}
    service.answers({"tasks": [one] * tasks})
    words = [sys.executable, "-m", "clients", "tasks", "--url", service.url]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(60) == 141


@pytest.mark.parametrize("command", [[], ["predict"], ["score"], ["load"], ["tasks"]])
def test_help_has_an_example(command):
    outcome = run(*command, "--help")
    assert outcome.returncode == 0
    assert "python -m clients predict mortality --text note.txt" in outcome.stdout
