"""Ray Serve: replicas are dealt requests, exchanged while requests run, and are services each."""

import os
import re
import shutil
import threading
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from lanistr.bundle import Bundle
from lanistr.errors import ConfigError
from service.examples import example
from service.settings import DEMO_BUNDLES
from tests.servers import exported_later, wait_for

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Ray's own
    ray = pytest.importorskip("ray", reason="Ray is not installed: the extra `cluster`, in no lock")
    from ray import serve
    from ray.serve import schema
    from ray.serve._private.api import serve_start  # as `serve run` does it

    from service.cluster import application

pytestmark = pytest.mark.filterwarnings("ignore")

ROOT = Path(__file__).resolve().parents[2]
CONFIG = yaml.safe_load((ROOT / "deploy" / "cluster" / "ray-serve.yaml").read_text())
STAY = example(Bundle.open(DEMO_BUNDLES / "mortality").task)


def here(bundles: Path) -> schema.ServeDeploySchema:
    """Return the configuration as it can run here: other places, fractions of a core, no GPU."""
    config = yaml.safe_load(yaml.safe_dump(CONFIG))
    config["http_options"] = {"host": "127.0.0.1", "port": PORT}
    for each in config["applications"]:
        each["args"] = {"bundles": str(bundles / each["name"]), "device": "cpu"}
        (deployment,) = each["deployments"]
        deployment["ray_actor_options"] = {"num_cpus": 0.2}
        deployment["autoscaling_config"] |= {"max_replicas": 3, "upscale_delay_s": 1}
    config["applications"][0]["deployments"][0]["autoscaling_config"]["target_ongoing_requests"] = 2
    return schema.ServeDeploySchema.model_validate(config)


PORT = 8377
PATIENCE = 120
"""Seconds: Ray starts processes one after another."""

URL = f"http://127.0.0.1:{PORT}"


def running() -> dict[str, bool]:
    return {name: each.status == "RUNNING" for name, each in serve.status().applications.items()}


def replicas(name: str) -> int:
    (deployment,) = serve.status().applications[name].deployments.values()
    return deployment.replica_states.get("RUNNING", 0)


@pytest.fixture(scope="module")
def cluster() -> Iterator[object]:
    """Ray on this machine, and what deploys to it."""
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(ROOT)}
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        yield serve_start(http_options={"host": "127.0.0.1", "port": PORT})
    finally:
        serve.shutdown()
        ray.shutdown()


@pytest.fixture(scope="module")
def deployed(cluster):
    cluster.deploy_apps(here(DEMO_BUNDLES))
    wait_for(
        lambda: running() == {"mortality": True, "rating": True}, "both applications", PATIENCE
    )
    return cluster


def test_the_configuration_is_what_ray_takes_and_its_settings_are_the_services():
    assert schema.ServeDeploySchema.model_validate(CONFIG)
    for each in CONFIG["applications"]:
        assert each["import_path"] == "service.cluster:application"
        assert application(each["args"])


def test_settings_that_are_rays_are_refused():
    with pytest.raises(ConfigError, match="workers: this setting is controlled by Ray; seen 2"):
        application({"bundles": "bundles", "workers": 2})
    with pytest.raises(ConfigError, match="bundels"):
        application({"bundels": "bundles"})


def test_tasks_have_addresses_and_replicas_of_their_own(deployed):
    assert (replicas("mortality"), replicas("rating")) == (2, 1)
    answer = httpx.post(f"{URL}/mortality/predict/mortality", json=STAY, timeout=60)
    assert answer.json()["status"] == "predicted"
    answer = httpx.post(f"{URL}/rating/predict/rating", json={"text": "good"}, timeout=60)
    assert answer.json()["prediction"]["label"]
    problem = httpx.post(f"{URL}/rating/predict/mortality", json=STAY, timeout=60)
    assert (problem.status_code, problem.json()["code"]) == (404, "unknown_task")


def test_requests_reach_both_replicas(deployed):
    with httpx.Client(base_url=URL, timeout=60) as client:
        told = [client.get("/mortality/metrics").text for _ in range(30)]
    begun = {re.search(r"(?m)^process_start_time_seconds (\S+)", each)[1] for each in told}
    assert len(begun) == 2


def test_another_version_takes_over_and_no_request_fails(deployed, tmp_path):
    new = exported_later(tmp_path / "mortality")
    shutil.copytree(DEMO_BUNDLES / "rating", tmp_path / "rating")
    before = httpx.post(f"{URL}/mortality/predict/mortality", json=STAY, timeout=60).json()
    seen: Counter[tuple[int, str]] = Counter()
    done = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=URL, timeout=60) as client:
            while not done.is_set():
                answer = client.post("/mortality/predict/mortality", json=STAY)
                version = answer.json()["model"]["version"] if answer.is_success else answer.text
                seen[answer.status_code, version] += 1

    clients = [threading.Thread(target=ask) for _ in range(3)]
    for each in clients:
        each.start()
    try:
        deployed.deploy_apps(here(tmp_path))
        wait_for(lambda: seen[200, new] and all(running().values()), "the new version", PATIENCE)
    finally:
        done.set()
        for each in clients:
            each.join()
    assert set(seen) == {(200, before["model"]["version"]), (200, new)}


def test_more_requests_bring_more_replicas(deployed):
    done = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=URL, timeout=60) as client:
            while not done.is_set():
                assert client.post("/mortality/predict/mortality", json=STAY).status_code == 200

    clients = [threading.Thread(target=ask) for _ in range(12)]
    for each in clients:
        each.start()
    try:
        wait_for(lambda: replicas("mortality") == 3, "a third replica", PATIENCE)
    finally:
        done.set()
        for each in clients:
            each.join()
