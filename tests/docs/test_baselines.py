"""What docs/baselines.md says of each system's size."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from training.finetune import main as finetune
from training.pretrain import main as pretrain

TEXT = (Path(__file__).parents[2] / "docs" / "baselines.md").read_text(encoding="utf-8")
LINE = r"^\| `([a-z-]+)` \| ([\d,]+)(?:; pretraining ([\d,]+)| \(.*?\))? \|"
SIZES = {
    name: tuple(each and int(each.replace(",", "")) for each in counts)
    for name, *counts in re.findall(LINE, TEXT, re.M)
}


@pytest.mark.parametrize(
    "system", ["late-fusion", "autogluon-mlp", "autogluon-tf", "medfuse", "albef"]
)
def test_the_sizes_are_those_of_the_recipes(system: str, command: Callable[..., str]) -> None:
    tuned, pretrained = SIZES[system]
    said = json.loads(command(finetune, "--recipe", system, "--dry-run"))
    assert said["parameters"]["total"] == tuned
    if pretrained:
        said = json.loads(command(pretrain, "--recipe", system, "--dry-run"))
        assert said["parameters"]["total"] == pretrained
