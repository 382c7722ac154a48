"""Alerts and dashboard ask for nothing that a service does not tell."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import httpx
import promql_parser
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from service.api.problems import STATUS
from tests.servers import running

MONITORING = Path(__file__).resolve().parents[2] / "deploy" / "monitoring"
DASHBOARD = json.loads(
    (MONITORING / "grafana" / "dashboards" / "lanistr.json").read_text(encoding="utf-8")
)
RULES = [
    rule
    for group in yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
QUERIES = {f"alert {each['alert']}": each["expr"] for each in RULES} | {
    f"panel {panel['title']} {target['refId']}": target["expr"]
    for panel in DASHBOARD["panels"]
    for target in panel.get("targets", ())
}
TESTS = sorted(MONITORING.glob("*.test.yml"))
FROM_PROMETHEUS = {"up": {"job", "instance"}}
"""What Prometheus itself adds: a series a target, and two labels to each series."""


def selectors(query: str) -> list[Any]:
    """Return what a query asks for, as Grafana sends it."""
    found: list[Any] = []

    def visit(node: Any) -> bool:
        if isinstance(node, promql_parser.VectorSelector):
            found.append(node)
        elif isinstance(node, promql_parser.MatrixSelector):
            found.append(node.vector_selector)
        return True

    promql_parser.walk(promql_parser.parse(query.replace("$__rate_interval", "1m")), visit)
    return found


@pytest.fixture(scope="module")
def told(server) -> dict[str, set[str]]:
    """The labels of each series that a service tells of after some requests."""
    examples = httpx.get(f"{server.url}/tasks/mortality").json()["examples"]
    for task, record in [
        *(("mortality", each["record"]) for each in examples),
        ("rating", {"text": "good", "tabular": {"vote": "1,234"}}),
        ("rating", {"text": 17}),
    ]:
        httpx.post(f"{server.url}/predict/{task}", json=record)
    httpx.post(f"{server.url}/predict/rating/batch", json=[{"text": 17}])
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(httpx.get(f"{server.url}/metrics").text):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    # A counter with labels tells nothing before it counts; no demo task asks for more than it gets.
    abstained = "lanistr_cases_abstained_total"
    assert abstained not in found
    assert f"# TYPE {abstained} counter" in httpx.get(f"{server.url}/metrics").text
    return found | {abstained: found["lanistr_cases_total"]} | FROM_PROMETHEUS


@pytest.mark.parametrize("name", QUERIES)
def test_a_query_asks_for_series_and_labels_that_there_are(told, name):
    query = QUERIES[name]
    asked = selectors(query)
    labels: set[str] = set()
    assert asked
    for each in asked:
        assert each.name in told, f"{name}: no series {each.name}"
        known = told[each.name] | FROM_PROMETHEUS["up"]
        assert {matcher.name for matcher in each.matchers.matchers} <= known
        labels |= known
    grouped = re.findall(r"(?:by|ignoring) \(([^)]*)\)", query)
    assert {each.strip() for some in grouped for each in some.split(",")} <= labels


def counted(url: str, selector: Any) -> float:
    """Return the sum of what a selector selects of what a service tells."""
    series = [
        sample
        for family in text_string_to_metric_families(httpx.get(f"{url}/metrics").text)
        for sample in family.samples
        if sample.name == selector.name
    ]
    for matcher in selector.matchers.matchers:
        wanted = matcher.op in (promql_parser.MatchOp.Equal, promql_parser.MatchOp.Re)
        series = [
            each
            for each in series
            if bool(re.fullmatch(matcher.value, each.labels[matcher.name])) is wanted
        ]
    return sum(each.value for each in series)


def test_no_probe_sets_off_the_alert_of_failed_requests_or_dilutes_it(tmp_path):
    failed, *_, all_ = selectors(QUERIES["alert LanistrFails"])
    with running(tmp_path / "log.txt", "--audit", "/dev/full") as server:
        url = server.url
        assert httpx.post(f"{url}/predict/rating", json={"text": "good"}).status_code == 503
        for path in ("readyz", "v2/health/ready", "v2/models/rating/ready"):
            assert httpx.get(f"{url}/{path}").status_code == 503
        assert counted(url, failed) == 1
        for _ in range(5):
            assert httpx.get(f"{url}/healthz").status_code == 200
        assert counted(url, all_) == 2


def test_panels_name_labels_that_their_queries_keep():
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            shown = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            kept = re.search(r"by \(([^)]*)\)", target["expr"])
            assert not shown or shown <= {"instance", *(kept[1].split(", ") if kept else ())}


def test_what_is_documented_as_a_metric_is_on_the_dashboard():
    documented = set(
        re.findall(r"`(lanistr_\w+)`", (MONITORING.parents[1] / "docs/operating.md").read_text())
    )
    shown = " ".join(QUERIES.values())
    assert documented
    assert [each for each in documented if each not in shown] == []


def test_every_alert_is_explained_where_it_points():
    page = (MONITORING.parents[1] / "docs" / "operating.md").read_text(encoding="utf-8")
    section = page.split("\n## Alerts\n")[1].split("\n## ")[0]
    explained = dict(re.findall(r"(?s)\n### (\w+)\n\n(.*?)(?=\n### |$)", section))
    assert list(explained) == [each["alert"] for each in RULES]
    for each in RULES:
        assert each["annotations"]["runbook"] == f"docs/operating.md#{each['alert'].lower()}"
    codes = re.findall(r"(?m)^\| `(\w+)` \|", explained["LanistrFails"])
    known = {code for code, (status, _) in STATUS.items() if status >= 500} - {"too_busy"}
    assert set(codes) == known


def test_every_alert_is_tried():
    fired = {
        each["alertname"]
        for file in TESTS
        for test in yaml.safe_load(file.read_text())["tests"]
        for each in test["alert_rule_test"]
        if each.get("exp_alerts")
    }
    assert fired == {each["alert"] for each in RULES}


@pytest.mark.parametrize(
    "words",
    [("check", "config", "prometheus.yml"), *(("test", "rules", each.name) for each in TESTS)],
    ids=" ".join,
)
def test_prometheus_takes_the_files_and_alerts_fire_when_they_should(words):
    if not shutil.which("promtool"):
        pytest.skip("promtool is not on the path; it comes with Prometheus (Debian: prometheus)")
    found = subprocess.run(["promtool", *words], cwd=MONITORING, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr


def test_prometheus_asks_every_service_of_compose_where_it_listens(compose, stages, settings_of):
    config = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    (job,) = config["scrape_configs"]
    (found,) = job["dns_sd_configs"]
    services = {
        name
        for name, each in compose["services"].items()
        if each.get("build", {}).get("target") in ("cpu", "gpu")
    }
    assert set(found["names"]) == services
    assert found["port"] == settings_of(stages["cpu"], []).port
    assert {f'job="{job["job_name"]}"'} == set(re.findall(r'job="\w+"', " ".join(QUERIES.values())))


def test_whoever_is_on_the_machine_may_look_at_grafana_and_nobody_logs_in(compose):
    told = compose["services"]["grafana"]["environment"]
    assert told["GF_AUTH_ANONYMOUS_ENABLED"] == told["GF_AUTH_DISABLE_LOGIN_FORM"] == "true"
    assert told.get("GF_AUTH_ANONYMOUS_ORG_ROLE", "Viewer") == "Viewer"
    assert told["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"


def test_grafana_finds_dashboard_and_source(compose):
    grafana = compose["services"]["grafana"]
    mounted = dict(each.split(":")[1::-1] for each in grafana["volumes"])
    provisioning = MONITORING.parents[1] / mounted["/etc/grafana/provisioning"]
    (provider,) = yaml.safe_load((provisioning / "dashboards/lanistr.yml").read_text())["providers"]
    assert provider["options"]["path"] in mounted
    home = Path(grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert str(home.parent) == provider["options"]["path"]
    assert (MONITORING.parents[1] / mounted[str(home.parent)] / home.name).is_file()
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text())[
        "datasources"
    ]
    assert httpx.URL(source["url"]).host in compose["services"]


def test_panels_stand_beside_one_another():
    taken: set[tuple[int, int]] = set()
    assert len({each["id"] for each in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert at["x"] + at["w"] <= 24
        assert not cells & taken
        taken |= cells
