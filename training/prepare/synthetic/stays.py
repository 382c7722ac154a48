"""Made-up intensive-care stays for `tasks/mortality.yaml`. Shares of measured hours: MIMIC-IV's."""

import io
import math
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from lanistr.modalities import Modality
from lanistr.sample import Measurements, Quantity, Sample, Value

SHARED = 0.8
"""How much of the latent state each view shows; the rest is the view's own."""

DEATH_LOGIT, DEATH_SLOPE = -1.6, 3.0
"""The logit of death is this much, and so much more per unit of the views' mean."""


def make(number: int, rng: np.random.Generator) -> Sample:
    """Make one complete stay."""
    state = rng.normal()
    own = math.sqrt(1 - SHARED**2)
    views = [SHARED * state + own * rng.normal() for _ in range(4)]
    logit = DEATH_LOGIT + DEATH_SLOPE * float(np.mean(views))
    died = rng.random() < 1 / (1 + np.exp(-logit))
    row = _row(views[2], rng)
    return Sample(
        {
            Modality.TEXT: _notes(views[0], rng),
            Modality.IMAGE: (_chest(views[1], rng),),
            Modality.TABULAR: row,
            Modality.TIMESERIES: _series(views[3], rng),
        },
        id=f"stay-{number}",
        label="died" if died else "survived",
        group=f"patient-{number}",
        subgroups={"gender": str(row.get("gender", "unknown"))},
    )


# ---- notes --------------------------------------------------------------------------------------

# By topic: what is written of a patient who does badly, in between, and well.
_TOPICS: tuple[tuple[tuple[str, ...], ...], ...] = (
    (
        ("pt remains intubated and sedated", "vent dependent, high peep", "failed sbt, back on ac"),
        ("weaning vent as tolerated", "on high flow nasal cannula", "moderate o2 requirement"),
        ("extubated without issue", "sats well on room air", "breathing comfortably on 2l nc"),
    ),
    (
        ("pressors uptitrated overnight", "levophed and vasopressin running", "profound shock"),
        ("low dose neo for map goal", "bp labile, fluid bolus given", "responded to one liter"),
        ("off all pressors", "hemodynamically stable", "normotensive without support"),
    ),
    (
        ("unresponsive to voice, no purposeful movement", "obtunded", "gcs declining"),
        ("lethargic but arousable", "intermittently confused", "follows commands inconsistently"),
        ("alert and oriented x3", "conversant and appropriate", "mentating well"),
    ),
    (
        ("anuric, crrt started", "creatinine rising, oliguria", "worsening renal failure"),
        ("marginal urine output", "creatinine plateaued", "lasix trial with partial effect"),
        ("brisk urine output", "renal function at baseline", "foley out, voiding"),
    ),
    (
        ("lactate climbing despite resuscitation", "refractory acidosis", "lactic acidosis"),
        ("lactate trending slowly down", "mild acidosis", "repeat gas pending"),
        ("lactate cleared", "gas within normal limits", "acid base status normal"),
    ),
    (
        ("septic, source unclear, broad abx", "cultures growing gnr", "febrile and rigoring"),
        ("low grade temp, cultures sent", "empiric antibiotics continued", "wbc slightly up"),
        ("afebrile, abx narrowed", "no growth to date", "antibiotics stopped"),
    ),
    (
        ("family meeting held, goals of care", "code status changed to dnr", "poor prognosis"),
        ("family updated by phone", "social work consulted", "awaiting family decision"),
        ("family at bedside, pleased", "pt talking with wife", "planning for rehab"),
    ),
    (
        ("npo, ileus, high residuals", "gi bleed, transfused 4 units", "tube feeds held"),
        ("tube feeds advanced slowly", "hct drifting, no overt bleed", "abd soft, mild distension"),
        ("tolerating regular diet", "hct stable", "taking po well"),
    ),
)
# Terse findings, "system: word". There are many words for each grade, so that a few labelled notes
# hardly cover them, while notes without labels show which words keep company.
_SYSTEMS = (
    *("resp", "cards", "neuro", "renal", "gi", "id", "heme", "endo", "skin", "pain", "lytes"),
    *("volume", "airway", "perfusion", "mobility", "nutrition", "coags", "secretions"),
)
_WORDS: tuple[tuple[str, ...], ...] = (
    (
        *("tenuous", "deteriorating", "critical", "worsening", "failing", "grim", "dire", "severe"),
        *("decompensated", "refractory", "unstable", "ominous", "profoundly impaired", "poor"),
        *("declining", "precarious", "escalating", "maxed", "exhausted", "crashing", "dismal"),
        *("progressive", "life threatening", "minimal reserve", "collapsing", "spiraling"),
        *("uncontrolled", "markedly abnormal", "florid", "end stage"),
    ),
    (
        *("guarded", "unchanged", "fair", "borderline", "fluctuating", "mixed", "watchful"),
        *("mildly abnormal", "equivocal", "plateaued", "slow progress", "tolerated", "variable"),
        *("pending", "marginal", "adequate", "intermittent", "partial", "moderate", "so so"),
        *("under review", "no trend", "acceptable", "labile at times", "supported", "steady"),
        *("not yet clear", "compensated", "nonspecific", "as before"),
    ),
    (
        *("excellent", "improving", "resolved", "strong", "robust", "unremarkable", "benign"),
        *("recovering", "back to baseline", "brisk", "reassuring", "clear", "comfortable"),
        *("normalized", "independent", "bright", "healing", "well controlled", "good reserve"),
        *("thriving", "settled", "encouraging", "intact", "ambulating", "cheerful", "quiescent"),
        *("much better", "near normal", "ready for floor", "stellar"),
    ),
)
_FILLER = (
    "continue to monitor",
    "labs drawn per protocol",
    "skin intact, turned q2h",
    "lines clean dry intact",
    "seen by ___ at ___",
    "plan discussed with team",
    "see flowsheet for details",
)


def _notes(view: float, rng: np.random.Generator) -> tuple[str, ...]:
    return tuple(_note(view, rng) for _ in range(1 + int(rng.random() < 0.25)))


def _note(view: float, rng: np.random.Generator) -> str:
    sentences: list[str] = []
    for topic in rng.permutation(len(_TOPICS))[: rng.integers(1, 3)]:
        sentences.append(str(rng.choice(_TOPICS[topic][_grade(view, rng)])))
    for system in rng.permutation(len(_SYSTEMS))[: rng.integers(4, 7)]:
        sentences.append(f"{_SYSTEMS[system]}: {rng.choice(_WORDS[_grade(view, rng)])}")
    if rng.random() < 0.6:
        sentences.append(str(rng.choice(_FILLER)))
    return ". ".join(str(each) for each in rng.permutation(sentences)) + "."


def _grade(view: float, rng: np.random.Generator) -> int:
    """Return 0 for bad, 1 for in between, 2 for well."""
    noisy = view + 0.6 * rng.normal()
    return 0 if noisy > 0.5 else 2 if noisy < -0.5 else 1


# ---- chest X-ray --------------------------------------------------------------------------------


def _chest(view: float, rng: np.random.Generator) -> bytes:
    """Draw two lungs; opacities grow in number and brightness with the view."""
    side = 96
    picture = Image.new("L", (side, side), int(rng.integers(130, 170)))
    draw = ImageDraw.Draw(picture)
    shift = rng.integers(-3, 4, size=2)
    for left in (14, 52):
        x, y = left + int(shift[0]), 16 + int(shift[1])
        draw.ellipse((x, y, x + 30, y + 62), fill=int(rng.integers(35, 60)))
    draw.rectangle((45, 0, 51, side), fill=190)  # spine
    draw.ellipse((44, 50, 70, 76), fill=175)  # heart
    for _ in range(rng.poisson(np.exp(0.9 + 0.8 * view))):
        x, y = int(rng.integers(14, 78)), int(rng.integers(20, 74))
        radius = int(rng.integers(3, 9))
        draw.ellipse(
            (x - radius, y - radius, x + radius, y + radius), fill=int(rng.integers(120, 200))
        )
    picture = picture.filter(ImageFilter.GaussianBlur(1.5))
    noisy = np.asarray(picture, dtype=np.float64) + rng.normal(0, 6, (side, side))
    out = io.BytesIO()
    Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(out, "JPEG", quality=85)
    return out.getvalue()


# ---- admission row ------------------------------------------------------------------------------


def _row(view: float, rng: np.random.Generator) -> dict[str, Value]:
    emergency = rng.random() < 1 / (1 + np.exp(-1.5 * view))
    row: dict[str, Value] = {
        "age": round(float(np.clip(63 + 13 * view + 6 * rng.normal(), 18, 95))),
        "gender": str(rng.choice(["F", "M"])),
        "admission_type": str(
            rng.choice(["emergency", "EW EMER.", "urgent"])
            if emergency
            else rng.choice(["elective", "SURGICAL SAME DAY ADMISSION", "observation"])
        ),
        "care_unit": str(
            rng.choice(["medical", "MICU", "coronary"])
            if rng.random() < 0.5 + 0.3 * np.tanh(view)
            else rng.choice(["surgical", "CVICU", "neuro", "trauma_surgical"])
        ),
        "hours_before_icu": round(float(np.exp(2 + 0.7 * view + rng.normal())), 1),
    }
    return {name: value for name, value in row.items() if rng.random() > 0.12}


# ---- vitals -------------------------------------------------------------------------------------

# Variable: share of hours with a measurement, mean, change per unit of the view, noise.
_VITALS: dict[str, tuple[float, float, float, float]] = {
    "heart_rate": (0.95, 86, 9, 8),
    "respiratory_rate": (0.94, 19, 3, 3),
    "oxygen_saturation": (0.94, 97, -1.3, 1.2),
    "systolic_bp": (0.92, 120, -10, 10),
    "diastolic_bp": (0.92, 62, -5, 7),
    "mean_bp": (0.92, 79, -7, 8),
    "temperature": (0.29, 36.9, 0.2, 0.4),
    "glucose": (0.23, 135, 15, 25),
    "fio2": (0.13, 0.42, 0.09, 0.06),
    "ph": (0.10, 7.38, -0.04, 0.04),
    "weight": (0.05, 82, 0, 1),
}
_GCS_SHARE = 0.29


def _series(view: float, rng: np.random.Generator) -> tuple[Measurements, ...]:
    """Chart 48 hours at irregular times; the view drifts in as the stay goes on."""
    start = view + 0.8 * rng.normal()
    rows: list[Measurements] = []
    for hour in range(48):
        course = start + (view - start) * hour / 47
        values: dict[str, Value] = {}
        for name, (share, mean, slope, noise) in _VITALS.items():
            if rng.random() < share:
                values[name] = _charted(name, mean + slope * course + noise * rng.normal(), rng)
        if rng.random() < _GCS_SHARE:
            for name, best in (("gcs_eye", 4), ("gcs_motor", 6), ("gcs_verbal", 5)):
                values[name] = min(max(round(best - 0.4 * best * max(course, 0)), 1), best)
        if values:
            rows.append(Measurements(round(hour + float(rng.random()), 2), values))
    rng.shuffle(rows)  # charts are not written in order
    return tuple(rows)


def _charted(name: str, number: float, rng: np.random.Generator) -> Value:
    """Write a value down as a nurse does: in whole numbers, in other units, now and then wrong."""
    whole: Any = round(
        number, 2 if name in ("ph", "fio2") else 1 if name == "temperature" else None
    )
    if rng.random() < 0.002:
        return 10_000
    if name == "temperature" and rng.random() < 0.5:
        return Quantity(round(number * 9 / 5 + 32, 1), "degF")
    if name == "fio2":
        clipped = min(max(number, 0.21), 1.0)
        return round(100 * clipped) if rng.random() < 0.5 else round(clipped, 2)
    if name == "oxygen_saturation":
        return min(whole, 100)
    if name == "weight" and rng.random() < 0.3:
        return Quantity(round(number / 0.45359237), "lb")
    return float(whole) if isinstance(whole, float) else int(whole)
