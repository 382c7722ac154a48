"""What is sent to servers: cases as they come, always the same for a seed.

Two cases in five are complete, the others lack one part or two; notes of 60 to 400 words, JPEGs of
some 40 kB, series of 48 hours.
"""

import base64
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from lanistr.batch import Features
from lanistr.bundle import Bundle
from lanistr.errors import BundleError
from lanistr.issues import IssueLog
from lanistr.modalities import Modality
from lanistr.preprocess import read_record
from lanistr.sample import Quantity, Sample
from training.prepare.synthetic import SyntheticOptions, draw

COMPLETE = 0.4
"""Share of the cases that lack nothing."""

SMALLEST: Mapping[str, Any] = {"tabular": {"age": 71, "gender": "F"}}
"""A case that costs next to nothing to read."""


def check_stays(bundle: Bundle) -> None:
    """Check that a bundle takes the cases that there are here.

    Raises:
        BundleError: it is of another task than the demo stays.
    """
    if bundle.task.name != "mortality":
        raise BundleError(
            "a bundle of another task",
            code="other_task",
            field=str(bundle.folder),
            seen=bundle.task.name,
            accepted="one of stays (mortality)",
        )


def workload(bundle: Bundle, count: int, seed: int) -> list[dict[str, Any]]:
    """Return so many records as they are sent; of none, the smallest alone.

    Raises:
        BundleError: see `check_stays`.
    """
    check_stays(bundle)
    if not count:
        return [dict(SMALLEST)]
    rng = np.random.default_rng(seed)
    stays = list(draw("mortality", SyntheticOptions(samples=count, missing=0)))
    notes = [note for stay in stays for note in stay.parts[Modality.TEXT]]
    words = sorted({word for note in notes for word in note.split()})
    records: list[dict[str, Any]] = []
    for stay in stays:
        whole = as_sent(stay) | {
            "text": " ".join(rng.choice(words, int(rng.integers(60, 401)))),
            "image": base64.b64encode(picture(rng)).decode(),
        }
        whole = {name: part for name, part in whole.items() if name in bundle.task.modalities}
        lost = 0 if rng.random() < COMPLETE else int(rng.integers(1, 3))
        kept = set(rng.permutation(list(whole))[min(lost, len(whole) - 1) :])
        records.append({name: part for name, part in whole.items() if name in kept})
    return records


def as_sent(stay: Sample) -> dict[str, Any]:
    """Return row and series of a case as JSON has them."""
    return {
        "tabular": {name: _plain(value) for name, value in stay.parts[Modality.TABULAR].items()},
        "timeseries": [
            {"hours": each.hours, **{name: _plain(value) for name, value in each.values.items()}}
            for each in stay.parts[Modality.TIMESERIES]
        ],
    }


def as_features(record: Mapping[str, Any], bundle: Bundle) -> Features:
    """Return a record, as it was sent in JSON, as arrays; raises whatever is wrong with it."""
    if "image" in record:
        record = {**record, "image": base64.b64decode(record["image"])}
    log = IssueLog()
    return bundle.preprocessor.apply(read_record(record, bundle.task, log), log)


def an_hour_later(record: Mapping[str, Any], number: int) -> dict[str, Any]:
    """Return the same case with a measurement more, another for each number."""
    more = {"hours": 47.9, "heart_rate": round(60 + number / 10_000, 4)}
    return {**record, "timeseries": [*record.get("timeseries", []), more]}


def broken(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the same case with a picture whose second half never arrived."""
    data = base64.b64decode(record["image"])
    return {**record, "image": base64.b64encode(data[: len(data) // 2]).decode()}


def picture(rng: np.random.Generator) -> bytes:
    """Draw blurred noise as dear to decode as a photograph of 500 x 400 pixels."""
    coarse = rng.integers(0, 256, (50, 62, 3), dtype=np.uint8)
    drawn = Image.fromarray(coarse).resize((500, 400), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    drawn.save(file, "JPEG", quality=80)
    return file.getvalue()


def _plain(value: Any) -> Any:
    return {"value": value.value, "unit": value.unit} if isinstance(value, Quantity) else value
