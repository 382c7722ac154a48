"""The command line of both stages."""

import sys
from collections.abc import Callable

import pytest
import torch

from lanistr.errors import ConfigError, DataError
from training import finetune, pretrain
from training.arguments import choose_device


@pytest.mark.parametrize("main", [pretrain.main, finetune.main])
def test_a_real_run_asks_for_data_and_for_a_folder(
    main: Callable[[], None], command: Callable[..., str]
) -> None:
    with pytest.raises(ConfigError, match="--data: missing"):
        command(main, "--recipe", "small", "--out", "nowhere")
    with pytest.raises(ConfigError, match="--out: missing"):
        command(main, "--recipe", "small", "--data", "nowhere")
    with pytest.raises(DataError, match="not a prepared data set"):
        command(main, "--recipe", "small", "--data", "nowhere", "--out", "nowhere")


@pytest.mark.parametrize("main", [pretrain.main, finetune.main])
def test_help_shows_an_example(
    main: Callable[[], None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["command", "--help"])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 0
    assert f"example:\n  python -m {main.__module__} --recipe" in capsys.readouterr().out


def test_auto_takes_the_gpu_where_there_is_one() -> None:
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert choose_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["tpu9", "cuda:99", "cpu:x", ""])
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="no such device"):
        choose_device(name)
