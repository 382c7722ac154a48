"""The files by which the software is deployed, read as those who use them would."""

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.settings import Settings, read_settings
from tests.servers import Server, running

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Stage:
    """What a stage of the Dockerfile says, after all that the stage it is made from says."""

    said: list[tuple[str, str]] = field(default_factory=list)

    def all(self, instruction: str) -> list[str]:
        return [what for name, what in self.said if name == instruction]

    def words(self, instruction: str) -> list[str]:
        """Return the words of the last ENTRYPOINT, CMD or HEALTHCHECK."""
        what = self.all(instruction)[-1]
        return json.loads(what[what.index("[") :])

    def variables(self) -> dict[str, str]:
        pairs = [each.split("=", 1) for what in self.all("ENV") for each in shlex.split(what)]
        return {name: value.replace(":$PATH", "") for name, value in pairs}

    def sources(self) -> list[str]:
        """Return what is copied or bound from the folder that is built."""
        copied = [what.split()[:-1] for what in self.all("COPY") if "--from" not in what]
        bound = re.findall(r"type=bind,source=([^, ]+)", " ".join(self.all("RUN")))
        return [each for some in copied for each in some] + bound


@pytest.fixture(scope="session")
def stages() -> dict[str, Stage]:
    """The stages of the Dockerfile by name."""
    text = re.sub(r"(?m)^#.*\n", "", (ROOT / "Dockerfile").read_text()).replace("\\\n", " ")
    found: dict[str, Stage] = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        instruction, what = line.split(maxsplit=1)
        if instruction == "FROM":
            base, _, name = what.split()
            stage = found[name] = Stage(list(found[base].said) if base in found else [])
        elif found:
            stage.said.append((instruction, what))
    return found


@pytest.fixture(scope="session")
def compose() -> dict[str, Any]:
    """docker-compose.yml, where no variable is set."""
    text = (ROOT / "docker-compose.yml").read_text()
    return yaml.safe_load(re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text))


@pytest.fixture(scope="session")
def settings_of(stages: dict[str, Stage]) -> Any:
    """Return what a container of a stage is told, with so many options in place of its own."""

    def read(stage: Stage, options: list[str]) -> Settings:
        entry = stage.words("ENTRYPOINT")
        assert entry[:3] == ["python", "-m", "service"]
        return read_settings([*entry[3:], *options])

    return read


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("deployed") / "log.txt") as started:
        yield started
