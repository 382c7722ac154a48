"""Which intensive-care stays are kept, rule by rule; the label and the row of each.

Source: the public in-hospital-mortality benchmarks on MIMIC (Harutyunyan et al. 2019; Hayat et al.
2022).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from lanistr.errors import DataError
from lanistr.sample import Value
from training.prepare.mimic_iv.layout import Layout
from training.prepare.mimic_iv.tables import TIME, Report, column_names, read_table

_DETAIL = re.compile(r"/| - | OR ")
"""What stands between a group and what is said of it besides."""

HORIZON = pl.duration(hours=48)
"""Nothing later than this after the start of a stay is looked at."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One condition that a stay must meet.

    Attributes:
        name: short, for the attrition table.
        says: the condition in words.
        met: by stay; null counts as not met.
    """

    name: str
    says: str
    met: pl.Expr


KNOWN = Rule(
    "known",
    "patient and admission are listed; start, end and outcome of the stay are known",
    pl.all_horizontal(
        pl.col("admittime", "intime", "outtime", "anchor_age", "anchor_year", "died").is_not_null()
    ),
)
ADULT = Rule("adult", "18 years or older at admission", pl.col("age") >= 18)
RULES = (
    KNOWN,
    ADULT,
    Rule(
        "one_unit",
        "first and last care unit are the same",
        pl.col("first_careunit") == pl.col("last_careunit"),
    ),
    Rule("one_stay", "the only intensive-care stay of its admission", pl.col("siblings") == 1),
    Rule("long", "48 hours or longer", pl.col("outtime") - pl.col("intime") >= HORIZON),
)
"""What a labelled stay must meet, besides a measurement in its window (`MEASURED`)."""

MEASURED = ("measured", "at least one measurement of the 17 variables in the first 48 hours")


def read_stays(layout: Layout, report: Report) -> pl.DataFrame:
    """Return every intensive-care stay with what is known of its admission and patient.

    Returns:
        one row a stay, by patient and start: the columns of icustays, admissions and patients that
        are used, and `age` (years at admission), `siblings` (stays of the admission), `died`
        (before leaving the hospital; null: not known), `start` and `end` of what may be looked at.

    Raises:
        DataError: a table cannot be read, or lists a stay, admission or patient twice.
    """
    stays = read_table(
        layout.stays,
        {
            "subject_id": pl.Int64(),
            "hadm_id": pl.Int64(),
            "stay_id": pl.Int64(),
            "first_careunit": pl.String(),
            "last_careunit": pl.String(),
            "intime": TIME,
            "outtime": TIME,
        },
        report,
    ).drop("row")
    race = "race" if "race" in column_names(layout.admissions) else "ethnicity"
    admissions = (
        read_table(
            layout.admissions,
            {
                "subject_id": pl.Int64(),
                "hadm_id": pl.Int64(),
                "admittime": TIME,
                "dischtime": TIME,
                "deathtime": TIME,
                "admission_type": pl.String(),
                race: pl.String(),
                "hospital_expire_flag": pl.Int64(),
            },
            report,
        )
        .drop("row")
        .rename({race: "race"})
    )
    patients = read_patients(layout, report)
    _refuse_repeated(stays, "stay_id", layout.stays.name)
    _refuse_repeated(admissions, "hadm_id", layout.admissions.name)
    return (
        stays.filter(pl.col("stay_id").is_not_null())
        .join(admissions, on=["subject_id", "hadm_id"], how="left")
        .join(patients, on="subject_id", how="left")
        .with_columns(
            age=pl.col("anchor_age") + pl.col("admittime").dt.year() - pl.col("anchor_year"),
            siblings=pl.len().over("hadm_id"),
            died=_died(),
            hours_before_icu=(pl.col("intime") - pl.col("admittime")).dt.total_seconds() / 3600,
            start=pl.col("intime"),
            end=pl.min_horizontal(pl.col("intime") + HORIZON, "outtime"),
        )
        .sort("subject_id", "intime", "stay_id")
    )


def read_patients(layout: Layout, report: Report) -> pl.DataFrame:
    """Return every patient of the hospital.

    Raises:
        DataError: the table cannot be read, or lists a patient twice.
    """
    patients = read_table(
        layout.patients,
        {
            "subject_id": pl.Int64(),
            "gender": pl.String(),
            "anchor_age": pl.Int64(),
            "anchor_year": pl.Int64(),
        },
        report,
    ).drop("row")
    _refuse_repeated(patients, "subject_id", layout.patients.name)
    return patients.filter(pl.col("subject_id").is_not_null())


def _died() -> pl.Expr:
    """Whether the patient died before leaving the hospital; a later death does not count."""
    within = pl.col("deathtime").is_not_null() & (
        (pl.col("deathtime") >= pl.col("admittime"))
        & (pl.col("deathtime") <= pl.col("dischtime")).fill_null(True)
    ).fill_null(False)
    flag = pl.col("hospital_expire_flag")
    return pl.when(within).then(True).otherwise(flag == 1)


def choose(
    stays: pl.DataFrame, rules: Sequence[Rule]
) -> tuple[pl.DataFrame, list[dict[str, object]]]:
    """Keep the stays that meet every rule.

    Returns:
        these stays, and the attrition table: for each rule how many of all stays meet it, and how
        many are left when it has been applied after those before it.
    """
    met = stays.select(rule.met.fill_null(False).alias(rule.name) for rule in rules)
    attrition: list[dict[str, object]] = [
        {"rule": "all", "says": "every intensive-care stay", "met": len(stays), "left": len(stays)}
    ]
    kept = pl.repeat(True, len(stays), dtype=pl.Boolean, eager=True)
    for rule in rules:
        kept &= met[rule.name]
        attrition.append(
            {
                "rule": rule.name,
                "says": rule.says,
                "met": int(met[rule.name].sum()),
                "left": int(kept.sum()),
            }
        )
    return stays.filter(kept), attrition


def row_of(stay: Mapping[str, object]) -> dict[str, Value]:
    """Return the table row of a stay: what is known when it begins."""
    found = {
        "age": stay["age"],
        "gender": stay["gender"],
        "admission_type": stay["admission_type"],
        "care_unit": stay["first_careunit"],
        "hours_before_icu": stay["hours_before_icu"],
    }
    return {name: value for name, value in found.items() if value is not None}  # type: ignore[misc]


def subgroups_of(stay: Mapping[str, object]) -> dict[str, str]:
    """Return the groups by which a model is evaluated: none of them need be an input.

    MIMIC's race is told in some thirty ways, such as "BLACK/CARIBBEAN ISLAND", "WHITE - RUSSIAN"
    and, of one group, "HISPANIC OR LATINO" and "HISPANIC/LATINO - DOMINICAN"; what stands before
    the first mark or "or" is the group.
    """
    race = _DETAIL.split(str(stay["race"] or "UNKNOWN").upper(), maxsplit=1)[0].strip()
    return {"gender": str(stay["gender"] or "unknown"), "race": race}


def _refuse_repeated(table: pl.DataFrame, name: str, file: str) -> None:
    repeated = table.filter(pl.col(name).is_not_null() & pl.col(name).is_duplicated())
    if len(repeated):
        raise DataError(
            f"the same {name} is in several rows",
            code="duplicate_id",
            field=file,
            seen=repeated[name][0],
            accepted=f"one row per {name}",
        )
