"""ALBEF through the commands: pairs alone, state that goes on, processes that see together."""

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lanistr.errors import ConfigError, DataError
from lanistr.modalities import Modality
from lanistr.model.baselines.albef_pretraining import AlbefForPretraining
from lanistr.model.checkpoint import from_pretrained, weights
from lanistr.model.lanistr import Lanistr
from lanistr.model.pretraining import LanistrForPretraining
from lanistr.model.tensors import to_tensors
from tests.training.gradients import assert_same, one_step
from tests.training.processes import arguments, entries, run, run_twice, run_until
from tests.training.test_flops import counted
from training.data.store import Dataset
from training.distributed import World, blocks, parallelize
from training.evaluate import main as evaluate
from training.finetune import main as finetune
from training.flops import step_flops
from training.prepare.__main__ import main as prepare
from training.pretrain import main as pretrain
from training.recipe import RuntimeConfig
from training.run import Run

Command = Callable[..., str]
CPU = World(torch.device("cpu"))

ALBEF = ("system=albef", "optim.lr=1e-3", "optim.batch_size=16", "model.fusion.queue=30")
LONG = (*ALBEF, "optim.epochs=3", "checkpoints.every=4", "model.fusion.momentum=0.8")


@pytest.fixture(scope="module")
def pretrained(stays: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("albef") / "run"
    run(arguments("pretrain", stays, out, *LONG))
    return out


def bytes_of(folder: Path) -> bytes:
    return (folder / "model" / "model.safetensors").read_bytes()


def pairs_of(stays: Path) -> Dataset:
    """The data as ALBEF reads them."""
    return Dataset.open(stays).only((Modality.TEXT, Modality.IMAGE))


def rows_of(data: Dataset) -> list[int]:
    """The training cases that bring both."""
    rows = data.rows("train")
    both: list[int] = rows[data.patterns(rows) == "text+image"].tolist()
    return both


# ---- the way of a user --------------------------------------------------------------------------


def test_it_learns_from_the_cases_that_bring_both_and_says_how_many_they_are(
    stays: Path, tmp_path: Path, command: Command
) -> None:
    said = command(
        pretrain, "--recipe", "demo", "--data", stays, "--out", tmp_path / "run",
        overrides=(*ALBEF, "optim.epochs=1"),
    )  # fmt: skip
    pairs = len(rows_of(pairs_of(stays)))
    assert 16 < pairs < 100
    steps = -(-pairs // 16)
    assert f"{steps} steps over {pairs} of 100 training cases that have every modality" in said
    (first, *_) = entries(tmp_path / "run")
    assert list(first["losses"]) == ["itc", "itm", "mlm"]
    assert first["loss"] == pytest.approx(sum(first["losses"].values()))


def test_what_was_pretrained_is_fine_tuned_on_all_labelled_cases_and_evaluated(
    stays: Path, pretrained: Path, tmp_path: Path, command: Command
) -> None:
    assert Run.open(pretrained).config.recipe["system"] == "albef"
    words = ("--recipe", "demo", "--data", stays, "--init", pretrained, "--out", tmp_path / "run")
    said = command(finetune, *words, overrides=("system=albef", "optim.epochs=1", "optim.lr=1e-30"))
    assert "100 labelled cases" in said
    model = from_pretrained(tmp_path / "run" / "model", Lanistr)
    assert model.config.head is not None
    assert (model.config.head.layers, model.config.head.dropout) == (1, 0)
    before = weights(from_pretrained(pretrained / "model", AlbefForPretraining).core)
    for name, each in weights(model).items():
        if not name.startswith(("head.", "unimodal.")):
            torch.testing.assert_close(each, before[name], msg=name)
    command(evaluate, "--run", tmp_path / "run", "--data", stays)
    report = json.loads((tmp_path / "run" / "report-test.json").read_text())
    assert set(report["by_presence"]) <= {"text+image", "text", "image", ""}
    assert len(report["by_presence"]) > 1


def test_with_rows_told_in_words_it_reads_them_too(tmp_path: Path, command: Command) -> None:
    data, first, last = (tmp_path / each for each in ("data", "pretrained", "finetuned"))
    command(
        prepare, "synthetic", "--task", "mortality", "--samples", 60, "--tab2txt",
        "--image-size", 16, "--vocabulary-size", 400, "--max-tokens", 64, "--out", data,
    )  # fmt: skip
    brief = (*ALBEF, "optim.epochs=1")
    words = ("--recipe", "demo", "--data", data)
    command(pretrain, *words, "--out", first, overrides=brief)
    command(
        finetune, *words, "--init", first, "--out", last, overrides=("system=albef", *brief[1:3])
    )
    assert Run.open(last).task.modalities == ("text", "image")


# ---- state and processes ------------------------------------------------------------------------


def test_killed_it_goes_on_with_queue_and_slow_weights_to_the_same_end_bit_by_bit(
    stays: Path, pretrained: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    words = arguments("pretrain", stays, out, *LONG)
    run_until(words, lambda: len(entries(out)) >= 6, signal.SIGKILL)
    assert [each.name for each in (out / "checkpoints").glob("step-*")]
    run(words)
    assert entries(out) == entries(pretrained)
    assert bytes_of(out) == bytes_of(pretrained)
    model = from_pretrained(out / "model", AlbefForPretraining)
    pairs = rows_of(pairs_of(stays))
    assert set(model.queue.cases.tolist()) <= set(pairs)
    assert int(model.queue.last) == 3 * len(pairs)


def test_two_processes_learn_what_one_learns_from_the_same_micro_batches(
    stays: Path, tmp_path: Path
) -> None:
    found = []
    # Micro-batches of half a step, so that either way as many cases are told apart at once.
    settings = (*LONG, "runtime.tokens=400", "optim.batch_size=15", "optim.epochs=2")
    for processes in (1, 2):
        out = tmp_path / f"run-{processes}"
        (run_twice if processes == 2 else run)(arguments("pretrain", stays, out, *settings))
        found.append((entries(out), from_pretrained(out / "model", AlbefForPretraining)))
    (alone, one), (together, other) = found
    for ours, theirs in zip(alone, together, strict=True):
        assert theirs["losses"] == pytest.approx(ours["losses"], rel=1e-3)
        assert theirs["gradient_norm"] == pytest.approx(ours["gradient_norm"], rel=1e-2)
    assert torch.equal(one.queue.cases, other.queue.cases)
    torch.testing.assert_close(one.queue.text, other.queue.text, rtol=1e-2, atol=1e-3)
    assert int(one.queue.last) == 2 * len(rows_of(pairs_of(stays)))


def test_two_processes_fine_tune_cases_of_which_some_lack_a_part(
    stays: Path, tmp_path: Path
) -> None:
    found = []
    for processes in (1, 2):
        out = tmp_path / f"run-{processes}"
        settings = (*ALBEF[:1], "optim.epochs=1", "optim.batch_size=50", "runtime.tokens=1500")
        (run_twice if processes == 2 else run)(arguments("finetune", stays, out, *settings))
        found.append([each["loss"] for each in entries(out) if "loss" in each])
    assert found[0] == pytest.approx(found[1], rel=1e-5)


# ---- how it runs --------------------------------------------------------------------------------


def test_in_bf16_it_learns_too(stays: Path, tmp_path: Path, command: Command) -> None:
    command(
        pretrain, "--recipe", "demo", "--data", stays, "--out", tmp_path / "run",
        overrides=(*ALBEF, "optim.epochs=1", "runtime.precision=bf16"),
    )  # fmt: skip
    assert all(each["loss"] > 0 for each in entries(tmp_path / "run"))


def test_recomputed_blocks_give_the_same_losses_and_gradients(
    stays: Path, pretrained: Path
) -> None:
    data = pairs_of(stays)
    batch = to_tensors(data.batch(rows_of(data)[:4]))
    found = []
    for runtime in (RuntimeConfig(), RuntimeConfig(checkpoint_activations=True)):
        model = from_pretrained(pretrained / "model", AlbefForPretraining).train()
        assert len(blocks(model)) == 2 * (2 + 2)  # half of the text's layers stand in fusion
        running = parallelize(model, runtime, CPU)
        torch.manual_seed(0)
        model.begin(2.0)
        found.append(one_step(model, running, batch))
    assert_same(*found)


@pytest.mark.filterwarnings("ignore")  # torch's compiler warns of its own doings
def test_a_compiled_layer_fuses_alike(stays: Path, pretrained: Path) -> None:
    data = pairs_of(stays)
    batch = to_tensors(data.batch([*data.rows("train")[:8]]))
    model = from_pretrained(pretrained / "model", AlbefForPretraining).core
    with torch.inference_mode():
        tokens = model.assemble(batch, model.encode(batch.parts))
        expected = model.fusion.gather(*tokens)
        parallelize(model.fusion, RuntimeConfig(compile=True), CPU)
        torch.testing.assert_close(model.fusion.gather(*tokens), expected, rtol=1e-3, atol=1e-4)


def test_a_step_costs_what_the_counter_sees_and_twice_more_of_what_learns(
    stays: Path, pretrained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = pairs_of(stays)
    model = from_pretrained(pretrained / "model", AlbefForPretraining)
    one_note = [row for row in rows_of(data) if data.row_counts(Modality.TEXT)[row] == 1]
    batches = [to_tensors(data.batch([row])) for row in one_note[:12]]
    whole = sum(step_flops(model, batch) for batch in batches)
    monkeypatch.setattr("training.flops.BACKWARD", 0)
    forward = sum(step_flops(model, batch) for batch in batches)
    seen = sum(
        counted(lambda b=batch: model(b, torch.Generator().manual_seed(1))) for batch in batches
    )
    assert forward == pytest.approx(seen, rel=0.05)  # how many words are asked for is by chance
    assert 2 * forward < whole < 3 * forward


# ---- what is refused ----------------------------------------------------------------------------


def test_what_cannot_be_is_refused_before_anything_is_written(
    stays: Path, pretrained: Path, stays_pretrained: Path, tmp_path: Path, command: Command
) -> None:
    out = tmp_path / "run"
    words = ("--recipe", "demo", "--data", stays, "--out", out)

    def refused(
        main: Callable[[], None], said: str, *overrides: str, init: Path | None = None
    ) -> None:
        flags = ("--init", init) if init else ()
        with pytest.raises(ConfigError, match=said):
            command(main, *words, *flags, overrides=overrides)
        assert not out.exists()

    refused(
        pretrain,
        r"complete: albef learns from cases that have every",
        "system=albef",
        "complete=false",
    )
    refused(
        pretrain,
        r"runtime\.strategy: .*cannot be sharded, .*ddp",
        "system=albef",
        "runtime.strategy=fsdp",
    )
    refused(pretrain, "ALBEF fuses text and image", "system=albef", "modalities=null")
    refused(pretrain, "ALBEF fuses text and image", "system=albef", "modalities=[text]")
    refused(
        pretrain,
        "lent=0.5 of 1 layers is none or all of them",
        "system=albef",
        "model.text.layers=1",
    )
    refused(finetune, "but the run is of another system", "system=albef", init=stays_pretrained)
    refused(finetune, "but the run is of another system", init=pretrained)
    refused(
        finetune, r"init\.fusion: .*another kind.*albef", "system=albef", "init.fusion=facebook/x"
    )


def test_without_a_pair_there_is_nothing_to_learn_from(tmp_path: Path, command: Command) -> None:
    data = tmp_path / "no-pictures"
    command(
        prepare, "synthetic", "--task", "rating", "--samples", 60, "--missing", "image=1.0",
        "--image-size", 16, "--vocabulary-size", 300, "--max-tokens", 32, "--out", data,
    )  # fmt: skip
    with pytest.raises(
        DataError, match="none of the cases to learn from has every modality: text, image"
    ):
        command(
            pretrain, "--recipe", "demo", "--data", data, "--out", tmp_path / "run",
            overrides=("system=albef",),
        )  # fmt: skip
    assert not (tmp_path / "run").exists()


def test_lanistr_too_may_learn_from_complete_cases_alone(
    stays: Path, tmp_path: Path, command: Command
) -> None:
    said = command(
        pretrain, "--recipe", "demo", "--data", stays, "--out", tmp_path / "run",
        overrides=("complete=true", "optim.epochs=1"),
    )  # fmt: skip
    data = Dataset.open(stays)
    complete = sum(each.count("+") == 3 for each in data.patterns(data.rows("train")))
    assert f"over {complete} of 100 training cases" in said
    from_pretrained(tmp_path / "run" / "model", LanistrForPretraining)
