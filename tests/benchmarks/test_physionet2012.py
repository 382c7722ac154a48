"""The trees beside the model: the same labels, and features that can be worked out by hand."""

import polars as pl

from benchmarks.physionet2012 import summarise
from lanistr.tasks import find_task
from training.prepare.physionet2012 import Stays

STAYS = pl.DataFrame(
    {
        "record_id": [1, 2],
        "Age": [54.0, 70.0],
        "Gender": [0.0, -1.0],
        "Height": [-1.0, 175.0],
        "ICUType": [4.0, 3.0],
        "Weight": [None, 80.0],
    }
)
EVENTS = [
    *((1, 0.5, "HR", 70.0), (1, 2.0, "HR", 100.0), (1, 1.0, "MechVent", 1.0)),
    *((1, 3.0, "HR", 260.0), (1, 4.0, "HR", 90.0), (1, 5.0, "HR", 0.0)),
]


def test_variables_are_summed_up_within_their_limits_and_what_is_missing_stays_missing():
    columns = ["record_id", "hours", "parameter", "value"]
    events = pl.DataFrame(EVENTS, schema=columns, orient="row")
    found = summarise(Stays(STAYS, events, {}, {}), find_task("physionet2012"))
    first, second = found.iter_rows(named=True)
    assert {name: first[f"{name}_HR"] for name in ("first", "last", "min", "max", "count")} == {
        "first": 70, "last": 90, "min": 70, "max": 250, "count": 4,
    }  # fmt: skip
    assert first["mean_HR"] == (70 + 100 + 250 + 90) / 4
    assert first["count_MechVent"] == 1
    assert (first["Age"], first["Gender"], first["Height"], first["Weight"]) == (54, 0, None, None)
    assert (second["Gender"], second["Height"], second["Weight"]) == (None, 175, 80)
    assert second["last_HR"] is None
    assert not {"In-hospital_death", "set", "Survival"} & set(found.columns)
