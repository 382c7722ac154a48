"""docker-compose.yml: valid, closed to the outside, and of one mind with the Dockerfile."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from lanistr.errors import ConfigError
from service.settings import read_settings

ROOT = Path(__file__).resolve().parents[2]
PROFILES = {"service": [], "gpu": ["gpu"], "train": ["train"], "train-gpu": ["train"]} | {
    each: ["monitoring"] for each in ("prometheus", "grafana")
}


def sources(service) -> dict[str, str]:
    """Return what a service mounts of this folder, by where it stands in the container."""
    found = {}
    for each in service.get("volumes", []):
        if isinstance(each, str):
            source, target = each.split(":")[:2]
        else:
            source, target = each["source"], each["target"]
        if source.startswith("."):
            found[target] = source
    return found


def test_it_is_what_the_compose_specification_takes():
    checker = Path(sys.executable).parent / "check-jsonschema"
    words = [checker, "--builtin-schema", "vendor.compose-spec", "docker-compose.yml"]
    found = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout


def test_docker_compose_understands_it():
    if not shutil.which("docker-compose"):
        pytest.skip("docker-compose (version 2) is not on the path; the schema was checked")
    words = ["docker-compose", "--profile", "*", "config"]
    found = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert (found.returncode, found.stderr) == (0, "")
    assert set(yaml.safe_load(found.stdout)["services"]) == set(PROFILES)


def test_without_a_profile_it_is_the_service_alone(compose):
    found = {name: each.get("profiles", []) for name, each in compose["services"].items()}
    assert found == PROFILES


@pytest.mark.parametrize("name", PROFILES)
def test_a_service_may_do_no_more_than_it_must(compose, name):
    service = compose["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert not {"privileged", "cap_add", "network_mode", "pid"} & set(service)
    assert all(each.startswith("127.0.0.1:") for each in service.get("ports", []))
    if "ports" in service:
        assert {"cpus", "memory", "pids"} <= set(service["deploy"]["resources"]["limits"])


def test_images_are_built_from_the_stages_of_their_name(compose, stages):
    built = {
        each["image"]: each["build"] for each in compose["services"].values() if "build" in each
    }
    assert built == {
        f"lanistr:{name}": {"context": ".", "target": name} for name in ("cpu", "gpu", "train")
    }
    assert {each["target"] for each in built.values()} <= set(stages)


@pytest.mark.parametrize("name", ["service", "gpu"])
def test_a_service_takes_what_it_is_told_and_reads_what_is_mounted(
    compose, stages, settings_of, name
):
    service = compose["services"][name]
    settings = settings_of(stages[service["build"]["target"]], service["command"])
    assert str(settings.bundles) in sources(service)
    limits = service["deploy"]["resources"]["limits"]
    assert settings.threads == int(limits["cpus"])
    assert service["ports"][0].endswith(f":{settings.port}")
    assert int(service["stop_grace_period"].rstrip("s")) > settings.drain_seconds


@pytest.mark.parametrize(("cores", "threads"), [("0.5", 1), ("1.5", 2), ("2", 2)])
def test_what_compose_takes_for_cores_is_a_number_of_threads(cores, threads):
    assert read_settings(["--threads", cores]).threads == threads


@pytest.mark.parametrize("given", ["inf", "nan", "two", "0", "-0.5"])
def test_no_number_of_threads_is_refused(given):
    with pytest.raises(ConfigError, match=f"threads.*{given}"):
        read_settings(["--threads", given])


@pytest.mark.parametrize("name", ["gpu", "train-gpu"])
def test_who_computes_on_a_gpu_reserves_one(compose, name):
    (device,) = compose["services"][name]["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])
    assert device["count"] == {"gpu": 1, "train-gpu": "all"}[name]


@pytest.mark.parametrize("name", ["train", "train-gpu"])
def test_training_finds_data_and_leaves_runs_where_its_commands_say(compose, stages, name):
    (folder,) = stages["train"].all("WORKDIR")
    mounted = sources(compose["services"][name])
    assert mounted == {f"{folder}/data": "./data", f"{folder}/runs": "./runs"}
    assert compose["services"][name]["user"] == stages["train"].all("USER")[0]


def test_the_commands_of_training_use_what_those_before_them_made():
    page = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
    made: set[str] = set()
    for line in re.findall(r"(?m)^docker compose run --rm train.*", page):
        options = dict(re.findall(r"--(\w+) (\S+)", line.partition("train")[2]))
        for name in ("init", "run"):
            assert options.get(name) is None or options[name] in made, line
        made.add(options.get("out", ""))
    assert "runs/bundles/mortality" in made


def test_what_may_be_set_is_documented():
    page = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
    told = set(re.findall(r"`(LANISTR_\w+)`", page))
    assert told == set(re.findall(r"\$\{(\w+):-", (ROOT / "docker-compose.yml").read_text()))


def test_the_demo_is_what_is_served_unless_told_otherwise(compose):
    served = sources(compose["services"]["service"])["/bundles"]
    assert (ROOT / served / "mortality" / "manifest.json").is_file()


def test_images_from_elsewhere_are_of_a_named_version(compose):
    tags = [
        each["image"].split(":") for each in compose["services"].values() if "build" not in each
    ]
    assert tags
    assert all(len(each) == 2 and each[1][-1].isdigit() for each in tags)


@pytest.mark.parametrize("name", ["prometheus", "grafana"])
def test_what_monitoring_mounts_is_there(compose, name):
    mounted = sources(compose["services"][name])
    assert mounted
    assert all((ROOT / each).exists() for each in mounted.values())
