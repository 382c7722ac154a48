"""The manifests for Kubernetes: valid, and of one mind with the service."""

import re
from pathlib import Path
from typing import Any

import httpx
import kubernetes_validate
import pytest
import yaml

from tests.servers import running

CLUSTER = Path(__file__).resolve().parents[2] / "deploy" / "cluster"
MANIFESTS = {
    each["kind"]: each for each in yaml.safe_load_all((CLUSTER / "kubernetes.yaml").read_text())
}
KSERVE = {each["kind"]: each for each in yaml.safe_load_all((CLUSTER / "kserve.yaml").read_text())}
PREDICTOR = KSERVE["InferenceService"]["spec"]["predictor"]
OF_POD, GRACE = ("containers", "volumes"), "terminationGracePeriodSeconds"
PODS = {
    "kubernetes": MANIFESTS["Deployment"]["spec"]["template"]["spec"],
    "kserve": {name: KSERVE["ServingRuntime"]["spec"][name] for name in OF_POD}
    | {GRACE: PREDICTOR[GRACE]},  # a runtime has no word for it
}
VERSIONS = ("1.32", "1.37")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", MANIFESTS)
def test_a_manifest_is_what_kubernetes_takes(kind, version):
    kubernetes_validate.validate(MANIFESTS[kind], version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
def test_what_runs_under_kserve_is_a_pod_that_kubernetes_takes(version):
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": PODS["kserve"]}
    kubernetes_validate.validate(pod, version, strict=True)


@pytest.mark.parametrize("name", PODS)
def test_the_service_takes_what_a_container_is_told(name, stages, settings_of):
    (container,) = PODS[name]["containers"]
    cores = container["resources"]["limits"]["cpu"]
    options = [each.replace("$(THREADS)", cores) for each in container["args"]]
    settings = settings_of(stages[container["image"].partition(":")[2]], options)
    assert settings.threads == int(cores)
    assert settings.port == container["ports"][0]["containerPort"]
    mounted = {each["mountPath"] for each in container["volumeMounts"]} | {"/mnt/models"}
    assert {str(settings.bundles), "/tmp"} <= mounted
    before = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    assert PODS[name][GRACE] > before + settings.drain_seconds
    assert settings.open_metrics or not settings.keys, "whoever scrapes has no key"


@pytest.mark.parametrize("name", PODS)
def test_a_container_may_do_no_more_than_it_must(name, stages):
    pod = PODS[name]
    (container,) = pod["containers"]
    allowed = pod.get("securityContext", {}) | container["securityContext"]
    assert allowed["runAsNonRoot"]
    assert str(allowed["runAsUser"]) == stages["cpu"].all("USER")[0].partition(":")[0]
    assert allowed["readOnlyRootFilesystem"]
    assert not allowed["allowPrivilegeEscalation"]
    assert allowed["capabilities"] == {"drop": ["ALL"]}
    assert allowed["seccompProfile"] == {"type": "RuntimeDefault"}
    assert {each["name"] for each in container["volumeMounts"]} == {
        each["name"] for each in pod["volumes"]
    }


PROBES = ("startupProbe", "readinessProbe", "livenessProbe")


def asked(name: str, url: str) -> list[int]:
    """Return what a service answers to the probes of a pod."""
    (container,) = PODS[name]["containers"]
    return [httpx.get(url + container[each]["httpGet"]["path"]).status_code for each in PROBES]


@pytest.mark.parametrize("name", PODS)
def test_probes_ask_what_the_service_answers(name, server):
    (container,) = PODS[name]["containers"]
    (port,) = container["ports"]
    for each in PROBES:
        assert container[each]["httpGet"]["port"] in (port["name"], port["containerPort"])
    assert asked(name, server.url) == [200, 200, 200]


def test_a_pod_that_cannot_answer_now_gets_no_requests_and_is_not_killed(tmp_path):
    with running(tmp_path / "log.txt", "--audit", "/dev/full") as server:
        refused = httpx.post(f"{server.url}/predict/rating", json={"text": "good"})
        assert refused.json()["code"] == "audit_unavailable"
        for name in PODS:
            assert asked(name, server.url) == [503, 503, 200]


def test_metrics_are_scraped_where_they_are():
    (container,) = PODS["kubernetes"]["containers"]
    pods = MANIFESTS["Deployment"]["spec"]["template"]["metadata"]["annotations"]
    runtime = KSERVE["ServingRuntime"]["spec"]["annotations"]
    ports = {pods["prometheus.io/port"], runtime["prometheus.kserve.io/port"]}
    assert ports == {str(container["ports"][0]["containerPort"])}
    assert pods["prometheus.io/scrape"] == "true"
    assert runtime["prometheus.kserve.io/path"] == "/metrics"


def test_whoever_selects_finds_the_pods():
    labels = MANIFESTS["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert MANIFESTS["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert MANIFESTS["Service"]["spec"]["selector"] == labels
    assert MANIFESTS["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert MANIFESTS["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == labels
    target = MANIFESTS["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert target["name"] == MANIFESTS["Deployment"]["metadata"]["name"]


def test_ports_are_called_by_a_name_that_the_container_gives_them():
    (container,) = PODS["kubernetes"]["containers"]
    names = {each["name"] for each in container["ports"]}
    (service,) = MANIFESTS["Service"]["spec"]["ports"]
    (policy,) = MANIFESTS["NetworkPolicy"]["spec"]["ingress"]
    assert {service["targetPort"], *(each["port"] for each in policy["ports"])} == names


def test_kserve_finds_runtime_format_and_protocol():
    runtime = KSERVE["ServingRuntime"]
    model: dict[str, Any] = PREDICTOR["model"]
    assert model["runtime"] == runtime["metadata"]["name"]
    (offered,) = runtime["spec"]["supportedModelFormats"]
    assert {name: offered[name] for name in ("name", "version")} == model["modelFormat"]
    assert model["protocolVersion"] in runtime["spec"]["protocolVersions"]


def test_kserve_finds_the_bundle_of_the_model_in_the_volume_of_bundles():
    claims = [each.get("persistentVolumeClaim") for each in PODS["kubernetes"]["volumes"]]
    (claim,) = (each["claimName"] for each in claims if each)
    name = KSERVE["InferenceService"]["metadata"]["name"]
    assert PREDICTOR["model"]["storageUri"] == f"pvc://{claim}/{name}"


def test_a_model_of_kserve_is_called_by_its_name(server):
    name = KSERVE["InferenceService"]["metadata"]["name"]
    assert httpx.get(f"{server.url}/v2/models/{name}/ready").status_code == 200
    assert re.fullmatch(r"[a-z0-9-]+", name)
