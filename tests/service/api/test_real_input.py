"""Real records, as they stand, over HTTP."""

import base64

import pytest


def predict(client, record, task="mortality"):
    answer = client.post(f"/predict/{task}", json=record)
    assert answer.status_code == 200, answer.text
    return answer.json()


def codes(answer):
    return {each["code"] for each in answer["issues"]}


def test_a_stay_of_physionet_as_a_series_alone(client, real_stays):
    for record in real_stays:
        answer = predict(client, {"timeseries": record["timeseries"]})
        assert answer["modalities"]["used"] == ["timeseries"]


def test_a_stay_of_physionet_with_its_row(client, real_stays):
    for record in real_stays:
        answer = predict(client, record)
        assert answer["id"] == record["id"]
        assert answer["modalities"]["used"] == ["tabular", "timeseries"]


def test_a_stay_with_an_x_ray_and_its_note(client, real_stays, x_rays):
    for record, (note, x_ray) in zip(real_stays, x_rays, strict=False):
        full = record | {"text": note, "image": base64.b64encode(x_ray).decode()}
        answer = predict(client, full)
        assert answer["modalities"]["missing"] == []


def test_reviews_as_they_stand(client, reviews):
    """Missing text, votes with commas, reviewers never seen."""
    for review in reviews:
        fields = {"reviewerID", "asin", "verified", "vote", "unixReviewTime"}
        row = {name: review[name] for name in fields if name in review}
        notes = [review.get("summary"), review.get("reviewText")]
        answer = predict(client, {"text": notes, "tabular": row}, "rating")
        assert "tabular" in answer["modalities"]["used"]
        assert codes(answer) <= {"text_as_number", "text_cut", "empty"}
        for issue in answer["issues"]:
            if issue["code"] == "text_as_number":
                assert issue["field"] == "tabular.vote"
                assert issue["seen"] == review["vote"]


def test_a_review_with_no_text_at_all(client):
    row = {"vote": "1,234", "reviewerID": "never seen"}
    answer = predict(client, {"text": None, "tabular": row}, "rating")
    assert answer["modalities"]["used"] == ["tabular"]
    (issue,) = answer["issues"]
    assert issue == {
        "code": "text_as_number",
        "field": "tabular.vote",
        "seen": "1,234",
        "action": "converted",
        "detail": "1234",
    }


@pytest.mark.parametrize(
    ("format", "mode"),
    [
        ("PNG", "RGB"),
        ("JPEG", "RGB"),
        ("PNG", "L"),
        ("JPEG", "L"),
        ("PNG", "I;16"),
        ("WEBP", "RGB"),
    ],
)
def test_an_x_ray_in_every_usual_form(client, picture, format, mode):
    data = picture(format, mode, size=(400, 300))
    answer = client.post("/predict/mortality", files={"image": ("cxr", data)}).json()
    assert answer["modalities"]["used"] == ["image"]
    assert codes(answer) == ({"deep_image"} if mode == "I;16" else set())


def test_an_x_ray_of_covid_cxr(client, x_rays):
    for _, x_ray in x_rays:
        answer = client.post("/predict/mortality", files={"image": ("cxr.jpg", x_ray)})
        assert answer.status_code == 200


def test_a_note_of_20_000_characters(client):
    note = "pt remains intubated, sedated, and on pressors overnight. "
    answer = predict(client, {"text": (note * 400)[:20_000]})
    assert answer["modalities"]["used"] == ["text"]
    assert codes(answer) == {"text_cut"}


def test_a_series_with_everything_wrong_that_can_be_mended(client):
    rows = [
        {"hours": 5, "heart_rate": 90, "temperature": {"value": 101.2, "unit": "degF"}},
        {"hours": 1, "heart_rate": 80},
        {"hours": 5, "heart_rate": 95},
        {"hours": 7, "heart_rate": 10_000},
        {"hours": 60, "heart_rate": 70},
    ]
    answer = predict(client, {"timeseries": rows})
    assert [(each["field"], each["code"], each["action"]) for each in answer["issues"]] == [
        ("timeseries[0].temperature", "unit_converted", "converted"),
        ("timeseries[2].heart_rate", "repeated_time", "kept"),
        ("timeseries[3].heart_rate", "out_of_range", "dropped"),
        ("timeseries[4].hours", "beyond_horizon", "dropped"),
    ]
    assert answer["issues"][2]["seen"] == 10_000
    assert answer["issues"][0]["detail"] == "38.4444 degC"
    in_order = [
        {"hours": 1, "heart_rate": 80},
        {"hours": 5, "heart_rate": 95, "temperature": 38.444444444444446},
    ]
    assert predict(client, {"timeseries": in_order})["prediction"]["probability"] == pytest.approx(
        answer["prediction"]["probability"], abs=1e-6
    )
