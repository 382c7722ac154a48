"""How the files of the playground are sent. What the page does is tested in a browser."""

import re

import pytest


def addresses(client):
    page = client.get("/").text
    return re.findall(r'(?:src|href)="(playground/[^"]+)"', page)


def test_home_is_the_playground(client):
    answer = client.get("/")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "Not a medical device" in answer.text


def test_every_file_comes_with_its_own_media_type(client):
    found = {each: client.get(f"/{each}").headers["content-type"] for each in addresses(client)}
    types = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
    assert {each.rpartition(".")[2] for each in found} == set(types)
    for name, media_type in found.items():
        assert media_type.startswith(types[name.rpartition(".")[2]])


def test_every_module_that_a_module_imports_is_sent(client):
    waiting, seen = {"main.js"}, set()
    while waiting:
        name = waiting.pop()
        seen.add(name)
        answer = client.get(f"/playground/{name}")
        assert answer.status_code == 200, name
        waiting |= set(re.findall(r'from "\./([^"]+)"', answer.text)) - seen
    assert len(seen) > 10


def test_nothing_runs_or_loads_but_files_of_the_service(client):
    policy = client.get("/").headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    for name in ("/", *(f"/{each}" for each in addresses(client))):
        text = client.get(name).text.replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://", text), name
        assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|\bstyle=", text), name


@pytest.mark.parametrize("path", ["/", "/playground/main.js"])
def test_a_file_that_has_not_changed_is_not_sent_again(client, path):
    first = client.get(path)
    assert first.headers["cache-control"] == "no-cache"
    tag = first.headers["etag"]
    for known in (tag, f"W/{tag}", f'"another", {tag}', "*"):
        again = client.get(path, headers={"If-None-Match": known})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == tag
    assert client.get(path, headers={"If-None-Match": '"another"'}).content == first.content


def test_a_head_request_has_the_same_headers(client):
    got, head = client.get("/"), client.head("/")
    assert head.content == b""
    for name in ("content-length", "content-type", "etag", "content-security-policy"):
        assert head.headers[name] == got.headers[name]


@pytest.mark.parametrize("name", ["none.js", "..%2Fapp.py", "%2e%2e%2fapp.py", "__init__.py"])
def test_nothing_else_is_sent(client, name):
    answer = client.get(f"/playground/{name}")
    assert answer.status_code == 404
    assert answer.json()["code"] == "not_found"
