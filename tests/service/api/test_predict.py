"""Good requests over HTTP: what is answered, and that it does not depend on how it was asked."""

import asyncio
import base64
import io
import json
import math
from itertools import combinations, pairwise, permutations

import httpx
import pytest

from lanistr.modalities import Modality

PARTS = tuple(Modality)
SUBSETS = [chosen for size in range(1, 5) for chosen in combinations(PARTS, size)]


@pytest.fixture
def record(stay, picture):
    """A stay with all four parts."""
    return stay | {"image": base64.b64encode(picture()).decode()}


def predict(client, record, task="mortality", **query):
    answer = client.post(f"/predict/{task}", json=record, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_an_answer_for_a_stay(client, record):
    answer = predict(client, record | {"id": "stay-17"})
    assert set(answer) == {
        "id", "task", "model", "status", "prediction", "modalities", "issues", "request_id",
        "timing_ms",
    }  # fmt: skip
    assert answer["status"] == "predicted"
    assert (answer["id"], answer["task"]) == ("stay-17", "mortality")
    assert answer["model"]["demo"] is True
    prediction = answer["prediction"]
    assert list(prediction["probabilities"]) == ["survived", "died"]
    assert sum(prediction["probabilities"].values()) == pytest.approx(1)
    assert prediction["probability"] == prediction["probabilities"]["died"]
    assert prediction["label"] in prediction["set"]
    assert prediction["conformal"]["coverage"] == 0.9
    assert answer["modalities"] == {"used": list(PARTS), "missing": []}
    assert answer["issues"] == []
    assert set(answer["timing_ms"]) == {"preprocess", "queue", "inference"}
    assert all(ms >= 0 for ms in answer["timing_ms"].values())


def test_an_answer_for_a_review(client):
    answer = predict(client, {"text": "Fits well", "tabular": {"verified": True}}, "rating")
    prediction = answer["prediction"]
    assert list(prediction["probabilities"]) == ["1", "2", "3", "4", "5"]
    expected = sum(int(stars) * p for stars, p in prediction["probabilities"].items())
    assert prediction["expected"] == pytest.approx(expected)
    assert prediction["label"] == max(
        prediction["probabilities"], key=prediction["probabilities"].get
    )
    stars = [int(each) for each in prediction["set"]]
    assert prediction["interval"] == [stars[0], stars[-1]]
    assert answer["modalities"] == {"used": ["text", "tabular"], "missing": ["image"]}
    assert answer["id"] is None


@pytest.mark.parametrize("subset", SUBSETS, ids="+".join)
def test_every_subset_of_parts_is_answered(client, record, subset):
    answer = predict(client, {name: record[name] for name in subset}, explain=True)
    assert answer["modalities"]["used"] == list(subset)
    assert answer["modalities"]["missing"] == [each for each in PARTS if each not in subset]
    contributions = answer["modalities"]["contributions"]
    assert list(contributions) == list(PARTS)
    assert {name for name, each in contributions.items() if each == 0} == set(PARTS) - set(subset)


@pytest.mark.parametrize("absent", PARTS)
def test_an_absent_part_is_absent_however_it_is_absent(client, record, absent):
    rest = {name: part for name, part in record.items() if name != absent}
    nothing = {"text": "", "image": "", "tabular": {}, "timeseries": []}[absent]
    form = {name: each for name, each in as_form(rest).items() if name != absent}
    answers = [
        predict(client, rest),
        predict(client, rest | {absent: None}),
        predict(client, rest | {absent: nothing}),
        client.post("/predict/mortality", files=form).json(),
        client.post("/predict/mortality", files=form | {absent: (None, b"")}).json(),
        client.post("/predict/mortality", files=form | {absent: ("", b"")}).json(),
    ]
    for answer in answers:
        assert answer["prediction"] == answers[0]["prediction"]
        assert answer["modalities"] == answers[0]["modalities"]
        assert answer["modalities"]["missing"] == [absent]


def as_form(record):
    """The same record as form parts."""
    form = {}
    for name, part in record.items():
        if name == "image":
            form[name] = ("cxr.png", base64.b64decode(part))
        else:
            form[name] = (None, part if isinstance(part, str) else json.dumps(part))
    return form


def test_a_form_equals_json(client, record):
    as_json = predict(client, record | {"id": "a"}, explain=True)
    form = as_form(record | {"id": "a"})
    as_parts = client.post("/predict/mortality", params={"explain": True}, files=form).json()
    for name in ("id", "prediction", "modalities", "issues"):
        assert as_parts[name] == as_json[name]


def test_csv_equals_json(client):
    rows = [
        {"hours": 0.5, "heart_rate": 92, "gcs_eye": "To Speech", "temperature": 36.5},
        {"hours": 2, "heart_rate": None, "gcs_eye": 4, "temperature": 1000},
    ]
    table = "hours,heart_rate,gcs_eye,temperature\r\n0.5,92,To Speech,36.5\r\n2,NA,4,1000\r\n"
    as_json = predict(client, {"timeseries": rows})
    assert [each["code"] for each in as_json["issues"]] == ["out_of_range"]
    for file in (
        ("vitals.csv", table),
        ("vitals", table, "text/csv"),
        (None, table),
        (None, json.dumps(rows)),
        ("vitals.json", json.dumps(rows)),
    ):
        answer = client.post("/predict/mortality", files={"timeseries": file}).json()
        assert answer["prediction"] == as_json["prediction"], file
        assert answer["issues"] == as_json["issues"]


def test_several_notes_and_pictures_are_one_part_each(client, picture):
    pictures = [picture(seed=seed) for seed in (1, 2)]
    notes = ["first note", "second, rather longer note"]
    as_json = predict(
        client, {"text": notes, "image": [base64.b64encode(each).decode() for each in pictures]}
    )
    parts = [("text", (None, note)) for note in notes]
    parts += [("image", ("x.png", each)) for each in pictures]
    as_form = client.post("/predict/mortality", files=parts).json()
    assert as_form["prediction"] == as_json["prediction"]
    assert as_form["modalities"]["used"] == ["text", "image"]


@pytest.mark.parametrize("task", ["mortality", "rating"])
def test_contributions_add_up_to_the_prediction(client, record, task):
    record = record if task == "mortality" else {"text": "good", "image": record["image"]}
    answer = predict(client, record, task, explain=True)
    modalities, prediction = answer["modalities"], answer["prediction"]
    total = modalities["baseline"] + math.fsum(modalities["contributions"].values())
    if task == "mortality":
        p = prediction["probability"]
        assert total == pytest.approx(math.log(p / (1 - p)), abs=1e-6)
    else:
        assert total == pytest.approx(prediction["expected"], abs=1e-6)
    plain = predict(client, record, task)
    assert "contributions" not in plain["modalities"]
    assert plain["prediction"]["probabilities"] == pytest.approx(
        prediction["probabilities"], abs=1e-5
    )


def test_contributions_are_the_mean_gain_over_all_orders_in_which_parts_may_come(client, record):
    """Worked out from the answers to every subset: nothing but the service is believed."""
    worth = {
        frozenset(subset): math.log(p / (1 - p))
        for subset in SUBSETS
        if (
            p := predict(client, {name: record[name] for name in subset})["prediction"][
                "probability"
            ]
        )
    }
    answer = predict(client, record, explain=True)["modalities"]
    worth[frozenset()] = answer["baseline"]
    orders = list(permutations(PARTS))
    for part in PARTS:
        gains = []
        for order in orders:
            before = frozenset(order[: order.index(part)])
            gains.append(worth[before | {part}] - worth[before])
        assert answer["contributions"][part] == pytest.approx(sum(gains) / len(orders), abs=1e-5)


def test_more_coverage_gives_no_smaller_a_set(client, stay):
    sets = [
        set(predict(client, stay, coverage=coverage)["prediction"]["set"])
        for coverage in (0.01, 0.5, 0.9, 0.999999)
    ]
    assert all(small <= large for small, large in pairwise(sets))
    assert sets[-1] == {"survived", "died"}


def test_good_and_bad_requests_at_once_do_not_touch_each_other(server, record, picture):
    """Which requests run together changes from run to run; the answers must not."""
    good = [{name: record[name] for name in subset} for subset in SUBSETS]
    good += [{"text": f"note of {n} " + "word " * n} for n in range(1, 10)]
    bad = [
        {"image": base64.b64encode(picture()[:300]).decode()},
        {"tabular": {"agee": 7}},
        {"timeseries": [{"hours": "x"}]},
        {},
    ]

    async def main():
        limits = httpx.Limits(max_connections=64)
        async with httpx.AsyncClient(base_url=server.url, timeout=60, limits=limits) as client:

            async def send(each):
                return await client.post("/predict/mortality", json=each)

            alone = [await send(each) for each in good]
            mixed = [pair for k, each in enumerate(good) for pair in (each, bad[k % len(bad)])]
            return alone, await asyncio.gather(*map(send, mixed * 2))

    alone, together = asyncio.run(main())
    for k, answer in enumerate(together):
        if k % 2:
            assert answer.status_code == 422
            continue
        assert answer.status_code == 200
        expected = alone[k // 2 % len(good)].json()["prediction"]["probabilities"]
        assert answer.json()["prediction"]["probabilities"] == pytest.approx(expected, abs=1e-5)


def test_a_request_id_comes_back(client, stay):
    for path in ("/healthz", "/nowhere"):
        assert (
            client.get(path, headers={"X-Request-ID": "abc-1"}).headers["x-request-id"] == "abc-1"
        )
    made = client.post("/predict/mortality", json=stay, headers={"X-Request-ID": "not an id; no"})
    assert len(made.headers["x-request-id"]) == 32
    assert made.json()["request_id"] == made.headers["x-request-id"]


def test_what_was_sent_is_never_logged(server, client, picture):
    secret = "Zaphod-Beeblebrox"
    client.post("/predict/mortality", json={"id": secret, "text": secret})
    client.post("/predict/mortality", json={secret: 1})
    client.post("/predict/mortality", json={"tabular": {"gender": secret, "age": secret}})
    client.post("/predict/mortality", content=b'{"' + secret.encode())
    client.post("/predict/mortality", files={"image": (secret + ".png", picture()[:200])})
    client.post(f"/predict/mortality?{secret}=1", json={})
    assert secret not in server.log()


def test_a_picture_may_be_a_data_url(client, picture):
    encoded = base64.b64encode(picture("JPEG")).decode()
    plain = predict(client, {"image": encoded})
    url = predict(client, {"image": "data:image/jpeg;base64," + encoded})
    assert url["prediction"] == plain["prediction"]


def test_a_chunked_body_is_read(client, stay):
    pieces = io.BytesIO(json.dumps(stay).encode())
    answer = client.post(
        "/predict/mortality",
        content=iter(lambda: pieces.read(100), b""),
        headers={"Content-Type": "application/json; charset=utf-8"},
    )
    assert answer.status_code == 200
