"""The 17 variables of the mortality task: under which items they are charted, in which unit.

Ranges, limits and normal values stand in `tasks/mortality.yaml` and are applied by the
preprocessor, to the unit that is named here.

Source: the public in-hospital-mortality benchmarks on MIMIC (Harutyunyan et al. 2019; Hayat et al.
2022), without the items that are not of blood (urine glucose 51478, urine pH 51491 and 51094).
"""

import re
from collections.abc import Mapping

CHART_ITEMS: Mapping[str, tuple[int, ...]] = {
    "capillary_refill_rate": (223951, 224308),
    "diastolic_bp": (220051, 225310, 220180, 224643),
    "fio2": (223835,),
    "gcs_eye": (220739,),
    "gcs_motor": (223901,),
    "gcs_verbal": (223900,),
    "gcs_total": (198,),
    "glucose": (225664, 220621, 226537),
    "heart_rate": (220045,),
    "height": (226707, 226730),
    "mean_bp": (220052, 225312, 220181, 224322),
    "oxygen_saturation": (220227, 220277),
    "respiratory_rate": (220210, 224689, 224422, 224690),
    "systolic_bp": (220050, 225309, 220179, 224167, 227243),
    "temperature": (223762, 223761),
    "weight": (224639, 226512, 226531),
    "ph": (223830, 220274),
}

LAB_ITEMS: Mapping[str, tuple[int, ...]] = {
    "glucose": (50931, 50809),
    "oxygen_saturation": (50817,),
    "ph": (50820, 50831),
}

OWN = ""
"""The unit in which the task's file gives the variable's range."""

ITEM_UNITS: Mapping[int, str] = {
    226707: "in",
    223761: "degF",
    226531: "lb",
}
"""Items that are charted in another unit than the variable's own, when the row names none."""

# By variable: what stands in `valueuom`, folded by `fold_unit`, and the unit of the task that it
# means. Oxygen is told as a fraction or in percent whatever the column says (the unit is the item's
# label, not the writer's choice), so the size decides: no living patient has 1 %, and no fraction
# is 20 or more. The task's `implied` units say so.
UNITS: Mapping[str, Mapping[str, str]] = {
    "diastolic_bp": {"mmhg": OWN, "kpa": "kPa"},
    "mean_bp": {"mmhg": OWN, "kpa": "kPa"},
    "systolic_bp": {"mmhg": OWN, "kpa": "kPa"},
    "fio2": {"%": OWN, "percent": OWN, "fraction": OWN},
    "oxygen_saturation": {"%": OWN, "percent": OWN, "fraction": OWN},
    "glucose": {"mg/dl": OWN, "mmol/l": "mmol/L"},
    "heart_rate": {"bpm": OWN, "/min": OWN, "1/min": OWN},
    "respiratory_rate": {"insp/min": OWN, "bpm": OWN, "/min": OWN, "1/min": OWN},
    "height": {
        "cm": OWN,
        "in": "in",
        "inch": "in",
        "inches": "in",
        "m": "m",
    },
    "temperature": {
        "c": OWN,
        "degc": OWN,
        "celsius": OWN,
        "f": "degF",
        "degf": "degF",
        "fahrenheit": "degF",
    },
    "weight": {
        "kg": OWN,
        "kgs": OWN,
        "lb": "lb",
        "lbs": "lb",
        "pounds": "lb",
        "g": "g",
        "grams": "g",
    },
    "ph": {"units": OWN, "unit": OWN},
}


def fold_unit(text: str) -> str:
    """Return a unit without case, spaces and what became of a degree sign: "?F" is "f"."""
    return _BEFORE_UNIT.sub("", "".join(text.split()).casefold())


_BEFORE_UNIT = re.compile(r"^[^a-z%/1]+|\.")
