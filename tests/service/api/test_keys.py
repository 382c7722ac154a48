"""Keys over HTTP: who is let in, how far and how often, and how the file is handled."""

import asyncio
import errno
import json
import os
import re
import signal
import time
from pathlib import Path

import httpx
import pytest

from lanistr.errors import ConfigError
from service.api.key_file import new_key
from service.api.keys import Bucket, Keys
from service.app import create_app
from service.settings import Settings
from tests.forked import run
from tests.servers import wait_for
from tests.service.test_command_line import fails

OPEN = {
    "/healthz", "/readyz", "/", "/docs", "/redoc", "/openapi.json", "/docs/oauth2-redirect",
    "/v2/health/live", "/v2/health/ready", "/playground/{name}", "/static-offline-docs",
}  # fmt: skip


def make(*options: str) -> tuple[str, str]:
    """Make a key as a user does; return it and its line."""
    done = run("service", "keys", "new", *options)
    done.check_returncode()
    return done.stderr.strip(), done.stdout


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A file, and the keys by name."""
    file = tmp_path_factory.mktemp("keys") / "keys.yaml"
    shown = {}
    lines = []
    for name, more in {
        "everything": {},
        "stays": {"tasks": ["mortality"]},
        "slow": {"per_minute": 30, "burst": 2},
        "list": {"per_minute": 6, "burst": 3},
        "tensors": {"per_minute": 6, "burst": 3},
        "stream": {"per_minute": 6, "burst": 3},
        "prometheus": {"tasks": [], "metrics": True},
        "scraper": {"metrics": True, "per_minute": 6, "burst": 2},
    }.items():
        shown[name], line = new_key(name, **more)
        lines.append(line)
    file.write_text("\n".join(lines))
    return file, shown


@pytest.fixture(scope="module")
def guarded(start_server, keys):
    with start_server("--keys", str(keys[0])) as started:
        yield started


@pytest.fixture
def ask(guarded, keys):
    """Ask with a key, by its name."""
    with httpx.Client(base_url=guarded.url, timeout=60) as client:

        def asked(method, path, name=None, headers=(), **more):
            head = {**dict(headers), **(bearer(keys[1][name]) if name else {})}
            return client.request(method, path, headers=head, **more)

        yield asked


def code(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["code"]


def test_a_key_opens_and_its_absence_does_not(ask, guarded, stay):
    assert ask("POST", "/predict/mortality", "everything", json=stay).status_code == 200
    without = ask("POST", "/predict/mortality", json=stay)
    assert code(without) == (401, "no_key")
    assert without.headers["www-authenticate"] == 'Bearer realm="lanistr"'
    assert code(ask("GET", "/tasks")) == (401, "no_key")

    wrong = httpx.get(guarded.url + "/tasks", headers=bearer("lanistr_" + "x" * 43))
    assert code(wrong) == (401, "unknown_key")
    assert 'error="invalid_token"' in wrong.headers["www-authenticate"]
    basic = httpx.get(guarded.url + "/tasks", auth=("user", "password"))
    assert code(basic) == (401, "no_key")


def test_state_and_documentation_need_no_key(ask):
    for path in ("/healthz", "/readyz", "/docs", "/redoc"):
        assert ask("GET", path).status_code == 200
    document = ask("GET", "/openapi.json").json()
    assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    assert document["security"] == [{"key": []}]
    assert document["paths"]["/healthz"]["get"]["security"] == []


def test_a_key_reaches_as_far_as_its_tasks(ask, stay):
    assert ask("POST", "/predict/mortality", "stays", json=stay).status_code == 200
    refused = ask("POST", "/predict/rating", "stays", json={"text": "good"})
    assert code(refused) == (403, "out_of_scope")
    assert refused.json()["accepted"] == "tasks: mortality"
    # Nor does it learn what else there is.
    assert code(ask("GET", "/tasks/rating", "stays")) == (403, "out_of_scope")
    assert code(ask("GET", "/tasks/nothing", "stays")) == (403, "out_of_scope")
    tasks = [each["name"] for each in ask("GET", "/tasks", "stays").json()["tasks"]]
    assert tasks == ["mortality"]


def test_a_key_that_comes_too_often_is_told_when_to_come_again(ask):
    answers = [ask("GET", "/tasks", "slow") for _ in range(3)]
    assert [each.status_code for each in answers] == [200, 200, 429]
    assert code(answers[2]) == (429, "rate_limited")
    assert answers[2].headers["retry-after"] == "2"  # 30 a minute
    assert answers[2].json()["accepted"].startswith("30 requests a minute")
    assert ask("GET", "/tasks", "everything").status_code == 200
    time.sleep(2)
    assert ask("GET", "/tasks", "slow").status_code == 200


def test_metrics_count_as_every_request_does(ask):
    answers = [ask("GET", path, "scraper") for path in ("/metrics", "/tasks", "/metrics")]
    assert [each.status_code for each in answers] == [200, 200, 429]
    assert code(answers[2]) == (429, "rate_limited")
    assert answers[2].headers["retry-after"] in ("9", "10")  # 6 a minute


def test_further_cases_of_a_request_count_on_credit():
    bucket = Bucket(rate=1.0, size=2.0, left=2.0)
    assert bucket.take() == 0
    bucket.owe(3)
    assert bucket.take() == pytest.approx(3, abs=0.1)


@pytest.mark.parametrize("name", ["list", "tensors", "stream"])
def test_every_case_of_a_list_counts_whatever_becomes_of_it(ask, name):
    records = [*[{"text": 5}] * 4, {"text": "x"}]
    said = [json.dumps(each) for each in records]
    tensor = {"name": "record", "shape": [5], "datatype": "BYTES", "data": said}
    ndjson = {"content": "\n".join(said), "headers": {"Content-Type": "application/x-ndjson"}}
    path, body, status = {
        "list": ("/predict/mortality/batch", {"json": records}, 200),
        "tensors": ("/v2/models/mortality/infer", {"json": {"inputs": [tensor]}}, 422),
        "stream": ("/predict/mortality/stream", ndjson, 200),
    }[name]
    assert ask("POST", path, name, **body).status_code == status
    late = ask("GET", "/tasks", name)
    assert code(late) == (429, "rate_limited")
    assert int(late.headers["retry-after"]) in (29, 30)  # 3 less 5 cases, and one in 10 seconds


def test_the_log_knows_names_and_no_keys(ask, guarded, keys):
    ask("GET", "/tasks", "everything")
    httpx.get(guarded.url + "/tasks", headers=bearer("lanistr_mistyped"))
    assert guarded.says(" key everything")
    assert guarded.says("code unknown_key")
    ask("GET", "/tasks/rating", "stays")
    assert guarded.says(" key stays code out_of_scope")
    log = guarded.log()
    assert "lanistr_mistyped" not in log
    assert not any(key in log for key in keys[1].values())


async def test_every_route_but_those_for_everyone_asks_for_a_key(keys):
    app = create_app(Settings(keys=keys[0]))
    refused = {}
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://service"
    ) as client:
        for route in app.routes:
            router = getattr(route, "original_router", None)
            for each in router.routes if router else [route]:
                place = re.sub(r"\{.*?\}", "mortality", each.path)
                for method in getattr(each, "methods", ["GET"]):
                    answer = await client.request(method, place)
                    refused[method, each.path] = answer.status_code == 401
    assert refused["POST", "/predict/{task}"]
    assert {path for (_, path), asked in refused.items() if not asked} <= OPEN


# ---- the file -----------------------------------------------------------------------------------


def test_the_command_shows_a_key_once_and_writes_its_line(tmp_path):
    key, line = make("ward-7", "--tasks", "mortality", "rating", "--per-minute", "120")
    other, _ = make("ward-7")
    assert key.startswith("lanistr_")
    assert key != other
    assert key not in line
    assert line.count("\n") == 1
    (tmp_path / "keys.yaml").write_text(line)
    (found,) = Keys(tmp_path / "keys.yaml")
    assert (found.name, found.tasks, found.per_minute) == ("ward-7", ("mortality", "rating"), 120)
    assert Keys(tmp_path / "keys.yaml").find(key) == found


@pytest.mark.parametrize(
    ("options", "said"), [(["ward 7"], "name"), (["a", "--burst", "2"], "burst")]
)
def test_a_name_that_is_none_or_a_burst_of_no_rate_is_refused(options, said):
    done = run("service", "keys", "new", *options)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {said}: ")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "valid tuple"),
        ("- [", "not YAML at line"),
        ("- lanistr_secret", "Input should be"),
        ("- {name: a, sha256: lanistr_secret}", "String should match"),
        ("- {name: a, key: lanistr_secret}", "Field required"),
        ("- {name: a, sha256: X, rate: lanistr_secret}", "unknown key"),
        ("- {name: a, sha256: X, burst: 2}", "a burst needs per_minute"),
        ("- {name: a, sha256: X}\n- {name: a, sha256: Y}", "the same name appears twice"),
        ("- {name: a, sha256: X}\n- {name: b, sha256: X}", "the same sha256 appears twice"),
        ("- {name: 2026-02-30, sha256: X}", "not YAML"),
        ("- {name: a, sha256: X, tasks: [], tasks: [lanistr_secret]}", "is repeated in line 1"),
        ("[" * 20_000, "not YAML"),
    ],
)
def test_a_file_that_is_none_is_refused_without_showing_it(tmp_path, text, said):
    file = tmp_path / "keys.yaml"
    file.write_text(text.replace("X", f"'{'0' * 64}'").replace("Y", f"'{'1' * 64}'"))
    with pytest.raises(ConfigError) as refused:
        Keys(file)
    assert said in str(refused.value)
    assert "secret" not in str(refused.value)


def test_without_its_file_the_service_does_not_start(tmp_path):
    said = fails("--keys", str(tmp_path / "none.yaml"))
    assert "cannot read the keys: No such file or directory" in said


def test_without_keys_the_log_says_that_everyone_is_answered(server, guarded):
    assert "no API keys: anyone" in server.log()
    assert "no API keys: anyone" not in guarded.log()


def test_a_changed_file_is_read_again_and_a_bad_one_is_not_taken(start_server, tmp_path):
    file = tmp_path / "keys.yaml"
    old, old_line = new_key("old", tasks=["mortalty", "rating"])
    new, new_line = new_key("new")
    file.write_text(old_line)
    with start_server("--keys", str(file)) as server:
        assert "did you mean 'mortality'?" in server.log()

        def status(key):
            return httpx.get(server.url + "/tasks", headers=bearer(key)).status_code

        assert (status(old), status(new)) == (200, 401)
        file.write_text("- {name: 2026-02-30}")
        assert server.says("the key file could not be reloaded; the previous keys remain in use:")
        assert (status(old), status(new)) == (200, 401)

        def cases():
            yield b'{"text": "before"}\n'
            file.write_text(new_line)
            wait_for(lambda: status(new) == 200)
            yield b'{"text": "after"}\n'

        # What began with a key that is taken back goes no further.
        said = httpx.post(
            server.url + "/predict/rating/stream",
            content=cases(),
            headers={**bearer(old), "Content-Type": "application/x-ndjson"},
            timeout=60,
        )
        first, second = map(json.loads, said.content.splitlines())
        assert "answer" in first
        assert (second["index"], second["problem"]["code"]) == (1, "unknown_key")
        assert status(old) == 401

        # A change that nothing shows needs the signal.
        mark = file.stat()
        file.write_text(new_line.replace("new", "neu"))
        os.utime(file, ns=(mark.st_atime_ns, mark.st_mtime_ns))
        server.process.send_signal(signal.SIGHUP)
        assert server.says("SIGHUP: checking bundles, keys")
        wait_for(lambda: status(new) == 200 and " key neu" in server.log())


async def test_a_key_that_is_taken_back_goes_also_where_its_file_could_not_be_read_at_first(
    tmp_path, caplog, monkeypatch
):
    monkeypatch.setattr("service.api.key_file._LOOK_SECONDS", 0.1)
    file, read = tmp_path / "keys.yaml", Path.read_text
    (old, old_line), (new, new_line) = new_key("old"), new_key("new")
    file.write_text(old_line)
    keys = Keys(file)
    watching = asyncio.create_task(keys.watch())

    async def until(done):
        async with asyncio.timeout(10):
            while not done():  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.05)

    def fail(path: Path, **more: str) -> str:
        if path == file:
            raise OSError(errno.EMFILE, "Too many open files")
        return read(path, **more)

    with monkeypatch.context() as broken:
        broken.setattr(Path, "read_text", fail)
        file.write_text(new_line)
        await until(lambda: "Too many open files" in caplog.text)
        await asyncio.sleep(0.5)  # it is looked at again
        assert keys.find(old)
    await until(lambda: keys.find(new))
    assert keys.find(old) is None
    assert (
        caplog.text.count("the key file could not be reloaded; the previous keys remain in use:")
        == 1
    )

    # What is wrong with a file that could be read is said at once, and not said every second.
    file.write_text("- [")
    await until(lambda: "not YAML" in caplog.text)
    await asyncio.sleep(0.5)  # it is looked at again
    assert caplog.text.count("not YAML") == 1
    keys.look()
    await until(lambda: caplog.text.count("not YAML") == 2)
    watching.cancel()
