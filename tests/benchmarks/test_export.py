"""The benchmark of exporting: that every figure is there; none of them is judged."""

import json
import sys
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.commands import call
from benchmarks.export import incomplete, main
from benchmarks.records import prepare_records
from benchmarks.sizes import SIZES
from lanistr.batch import Features
from lanistr.errors import LanistrError
from lanistr.manifest import FUSION
from lanistr.modalities import Modality
from lanistr.tasks import find_task
from service.settings import DEMO_BUNDLES


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """The line of JSON about a demo bundle."""
    threads = torch.get_num_threads()
    printed: list[str] = []
    words = ["benchmarks.export", "--quick", "--bundle", str(DEMO_BUNDLES / "mortality")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", words)
        patch.setattr("builtins.print", lambda *words, **_: printed.append(" ".join(words)))
        main()
    torch.set_num_threads(threads)
    read: dict[str, Any] = json.loads(printed[-1])
    return read


def test_every_graph_is_timed_in_every_build(found: dict[str, Any]) -> None:
    assert {row["graph"] for row in found["graphs"]} == {*Modality, FUSION}
    builds = {each["build"] for each in found["builds"]}
    for row in [*found["graphs"], found["workload"]]:
        assert builds <= set(row["seconds"])
        assert all(0 < each < np.inf for each in row["seconds"].values())


def test_text_is_timed_at_several_lengths_and_fusion_with_and_without_the_largest_part(
    found: dict[str, Any],
) -> None:
    tokens = {
        graph: [row["tokens"] for row in found["graphs"] if row["graph"] == graph]
        for graph in (Modality.TEXT, FUSION)
    }
    assert tokens[Modality.TEXT] == [32, 128]
    assert len(tokens[FUSION]) == 2


def test_two_cases_in_five_are_complete_and_the_others_lack_one_part_or_two() -> None:
    whole = Features({each: ({},) for each in Modality})
    lacking = [len(Modality) - len(each.rows) for each in incomplete([whole] * 400)]
    assert set(lacking) == {0, 1, 2}
    assert 0.35 < lacking.count(0) / 400 < 0.45
    alone = Features({Modality.TEXT: ({},)})
    assert all(each.rows for each in incomplete([alone] * 20))


def test_a_vocabulary_can_be_larger_than_what_is_written(tmp_path) -> None:
    dataset = prepare_records(
        tmp_path / "data", find_task("mortality"), SIZES["tiny"], 8, vocabulary=5000
    )
    assert dataset.preprocessor.dimensions()[Modality.TEXT]["vocab_size"] == 5000
    unknown = 1
    rows = [dataset.batch([0]).parts[Modality.TEXT].arrays["token_ids"]]
    assert unknown not in np.concatenate(rows)


def test_a_command_tells_what_it_took_and_one_that_fails_is_not_passed_over() -> None:
    spent = call("platform")
    assert min(spent.cpu, spent.seconds, spent.peak_mb) > 0
    with pytest.raises(LanistrError):
        call("platform.nothing")
