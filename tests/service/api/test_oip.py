"""The Open Inference Protocol: read as its specification has it, and asked by a standard client."""

import base64
import json
import struct

import numpy as np
import pytest

from lanistr import __version__
from service.api.deadline import HEADER as DEADLINE

MODEL = "/v2/models/mortality"
OUTPUTS = {
    "mortality": {
        "probability": ("FP64", [-1]),
        "label": ("BYTES", [-1]),
        "probabilities": ("FP64", [-1, 2]),
        "answer": ("BYTES", [-1]),
    },
    "rating": {
        "expected": ("FP64", [-1]),
        "label": ("BYTES", [-1]),
        "probabilities": ("FP64", [-1, 5]),
        "answer": ("BYTES", [-1]),
    },
}
DTYPES = {"FP64": np.float64, "BYTES": np.object_}


def tensor(name, *data, **more):
    return {"name": name, "shape": [len(data)], "datatype": "BYTES", "data": list(data), **more}


def infer(client, *inputs, path=MODEL + "/infer", **more):
    """Ask, and check the answer against the specification's `inference_response`."""
    answer = client.post(path, json={"inputs": list(inputs), **more})
    assert answer.status_code == 200, answer.text
    said = answer.json()
    assert set(said) - {"id"} == {"model_name", "model_version", "outputs"}
    for each in said["outputs"]:
        assert set(each) == {"name", "shape", "datatype", "data"}
        assert len(each["data"]) == np.prod(each["shape"])
    return {each["name"]: each["data"] for each in said["outputs"]}, said


@pytest.fixture
def refuse(client):
    """Ask for what must be refused: a problem, with the protocol's `error` beside its own words."""

    def ask(status, code, *inputs, **more):
        answer = client.post(MODEL + "/infer", json={"inputs": list(inputs), **more})
        problem = answer.json()
        assert (answer.status_code, problem["code"]) == (status, code), problem
        assert answer.headers["content-type"] == "application/problem+json"
        assert problem["error"].endswith(problem["detail"])
        return problem

    return ask


@pytest.mark.parametrize(
    ("method", "path", "patience", "status"),
    [
        ("GET", "/v2/nowhere", None, 404),
        ("PUT", "/v2", None, 405),
        ("POST", MODEL + "/infer", "1", 504),
        ("POST", MODEL + "/infer", "soon", 422),
    ],
)
def test_an_error_has_its_words_under_error_wherever_it_comes_from(
    client, stay, method, path, patience, status
):
    asked = {"inputs": [tensor("record", *[json.dumps(stay)] * 200)]}
    headers = {} if patience is None else {DEADLINE: patience}
    answer = client.request(method, path, json=asked, headers=headers)
    problem = answer.json()
    assert answer.status_code == status
    place = f"{problem['field']}: " if problem["field"] else ""
    assert problem["error"] == place + problem["detail"]
    assert "error" not in client.get(path.replace("/v2", "/v20")).json()


# ---- state and models ---------------------------------------------------------------------------


def test_state_and_server(client):
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    for path in ("/v2", "/v2/"):
        assert client.get(path).json() == {
            "name": "lanistr",
            "version": __version__,
            "extensions": ["binary_tensor_data"],
        }


@pytest.mark.parametrize("task", ["mortality", "rating"])
def test_a_model_says_what_it_takes_and_returns(client, bundles, task):
    version = bundles[task].manifest.version
    said = client.get(f"/v2/models/{task}").json()
    assert (said["name"], said["versions"], said["platform"]) == (
        task,
        [version],
        "onnxruntime_onnx",
    )
    takes = ["record", "id", *bundles[task].task.modalities]
    assert said["inputs"] == [{"name": each, "datatype": "BYTES", "shape": [-1]} for each in takes]
    gives = {each["name"]: (each["datatype"], each["shape"]) for each in said["outputs"]}
    assert gives == OUTPUTS[task]
    assert client.get(f"/v2/models/{task}/versions/{version}").json() == said
    for path in (f"/v2/models/{task}/ready", f"/v2/models/{task}/versions/{version}/ready"):
        assert client.get(path).json() == {"name": task, "ready": True}


@pytest.mark.parametrize("path", ["/v2/models/mortalty", "/v2/models/mortality/versions/1/ready"])
def test_a_model_that_is_not_served(client, path):
    answer = client.get(path)
    assert answer.status_code == 404
    assert answer.json()["error"]
    assert answer.json()["code"] in ("unknown_task", "unknown_version")


# ---- inference ----------------------------------------------------------------------------------


def test_a_request_of_records_is_answered_as_each_would_be_alone(client, stay):
    records = [stay | {"id": "a"}, {"text": "a note"}]
    found, said = infer(client, tensor("record", *map(json.dumps, records)), id="42")
    assert (said["id"], said["model_name"]) == ("42", "mortality")
    shares = np.reshape(found["probabilities"], (2, 2))
    for k, record in enumerate(records):
        alone = client.post("/predict/mortality", json=record).json()["prediction"]
        assert found["probability"][k] == pytest.approx(alone["probability"], abs=1e-6)
        assert found["label"][k] == alone["label"]
        assert shares[k] == pytest.approx(list(alone["probabilities"].values()), abs=1e-6)
        whole = json.loads(found["answer"][k])
        assert whole["prediction"]["probability"] == found["probability"][k]
        assert whole["id"] == record.get("id")


def test_parts_may_be_tensors_of_their_own_and_absent_where_empty(client, stay, picture):
    image = base64.b64encode(picture()).decode()
    row, csv = json.dumps(stay["tabular"]), "hours,heart_rate\n1,92\n"
    found, _ = infer(
        client,
        tensor("text", "a note", ""),
        tensor("image", "", image),
        tensor("tabular", row, ""),
        tensor("timeseries", "", csv),
        tensor("id", "one", "two"),
        outputs=[{"name": "answer"}],
    )
    first, second = map(json.loads, found["answer"])
    assert (first["id"], first["modalities"]["used"]) == ("one", ["text", "tabular"])
    assert (second["id"], second["modalities"]["used"]) == ("two", ["image", "timeseries"])
    alone = client.post(
        "/predict/mortality",
        json={"image": image, "timeseries": [{"hours": 1, "heart_rate": 92}]},
    ).json()
    assert second["prediction"]["probability"] == pytest.approx(
        alone["prediction"]["probability"], abs=1e-6
    )


def test_outputs_and_options_are_chosen_by_name(client):
    found, _said = infer(
        client,
        tensor("record", '{"text": "a"}'),
        outputs=[{"name": "answer"}, {"name": "probability"}],
        parameters={"explain": True, "coverage": 0.5},
        path=f"{MODEL}/versions/{client.get(MODEL).json()['versions'][0]}/infer",
    )
    assert list(found) == ["answer", "probability"]
    answer = json.loads(found["answer"][0])
    assert answer["prediction"]["conformal"]["coverage"] == 0.5
    assert set(answer["modalities"]["contributions"]) == {"text", "image", "tabular", "timeseries"}


def test_what_other_clients_send_besides_is_taken(client):
    """A null for what is left out, as types of pydantic do; the model's name, as KServe's does."""
    asked = tensor("text", "a", parameters=None)
    more = {"id": None, "parameters": None, "outputs": [{"name": "label", "parameters": None}]}
    found, _ = infer(client, asked, **more, model_name="mortality")
    assert list(found) == ["label"]
    assert len(infer(client, asked, **more | {"outputs": None})[0]) == 4


def test_a_bad_case_fails_the_request_unless_answers_alone_are_wanted(client, refuse):
    records = tensor("record", '{"text": "a"}', '{"tabular": {"agee": 1}}')
    problem = refuse(422, "unknown_field", records)
    assert problem["field"] == "tabular.agee"
    assert "case 1: unknown field" in problem["error"]
    found, _ = infer(client, records, outputs=[{"name": "answer"}])
    good, bad = map(json.loads, found["answer"])
    assert (good["status"], bad["code"]) == ("predicted", "unknown_field")


def test_a_record_that_is_no_json_is_not_called_the_body(client, refuse):
    for data, status, code, field in (
        ("abc", 400, "not_json", "record"),
        ('{"text": "a"', 400, "not_json", "record"),
        ("[" * 17 + "]" * 17, 413, "too_deep", "record"),
        ("NaN", 422, "not_finite", "record"),
        ('{"tabular": {"age": NaN}}', 422, "not_finite", "tabular.age"),
        ('{"tabular": {"age": 1, "age": 2}}', 422, "repeated_field", "tabular.age"),
    ):
        assert refuse(status, code, tensor("record", data))["field"] == field
    for answer in (
        client.post(MODEL + "/infer", content=b"abc"),
        client.post(
            "/predict/mortality", content=b"abc", headers={"Content-Type": "application/json"}
        ),
    ):
        assert (answer.json()["code"], answer.json()["field"]) == ("not_json", "body")


def test_a_case_of_which_the_model_abstains_has_no_probability(strict):
    body = {"inputs": [tensor("record", '{"tabular": {"age": 71}}')]}
    said = strict.post(MODEL + "/infer", json=body).json()
    assert (said["status"], said["code"]) == (422, "abstained")
    answer = strict.post(MODEL + "/infer", json=body | {"outputs": [{"name": "answer"}]}).json()
    assert json.loads(answer["outputs"][0]["data"][0])["status"] == "abstained"


@pytest.mark.parametrize(
    ("inputs", "more", "code"),
    [
        ([], {}, "wrong_type"),
        ([tensor("words", "a")], {}, "unknown_field"),
        ([tensor("text", "a") | {"datatype": "FP32"}], {}, "wrong_type"),
        ([tensor("text", "a") | {"shape": [2]}], {}, "wrong_type"),
        ([tensor("text", "a") | {"shape": [-1]}], {}, "wrong_type"),
        ([tensor("text", "a") | {"shape": [-1, -1]}], {}, "wrong_type"),
        ([tensor("text", 1.5)], {}, "wrong_type"),
        ([tensor("text")], {}, "nothing_present"),
        ([tensor("text", "a"), tensor("id", "a", "b")], {}, "wrong_type"),
        ([tensor("text", "a"), tensor("text", "b")], {}, "repeated_field"),
        ([tensor("record", "{}"), tensor("text", "b")], {}, "wrong_type"),
        ([tensor("text", "a", parameters=[1])], {}, "wrong_type"),
        ([tensor("text", "a")], {"outputs": [{"name": "odds"}]}, "unknown_field"),
        ([tensor("text", "a")], {"outputs": [{"name": "label", "parameters": 1}]}, "wrong_type"),
        ([tensor("text", "a")], {"parameters": {"explane": True}}, "bad_parameter"),
        ([tensor("text", "a")], {"parameters": {"coverage": 2}}, "bad_parameter"),
        ([tensor("text", "a")], {"parameters": {"binary_data_output": "false"}}, "wrong_type"),
        ([tensor("text", "a")], {"outputs": [{"name": "label"}] * 2}, "repeated_field"),
        (
            [tensor("text", "a")],
            {"outputs": [{"name": "label", "parameters": {"binary_data": "false"}}]},
            "wrong_type",
        ),
        ([tensor("text", "a")], {"id": 5}, "wrong_type"),
        ([tensor("text", "a")], {"paramters": {"coverage": 0.5}}, "unknown_field"),
        ([tensor("text", "a", dtype="BYTES")], {}, "unknown_field"),
        ([tensor("text", "a")], {"outputs": [{"name": "label", "binary": 1}]}, "unknown_field"),
        *(
            ([tensor("text", "a")], {name: wrong}, "wrong_type")
            for name, ours in (("parameters", dict), ("outputs", list))
            for wrong in ([], {}, 0, False, "")
            if not isinstance(wrong, ours)
        ),
        ([tensor("text", "")], {}, "nothing_present"),
    ],
)
def test_what_is_no_request_is_refused(refuse, inputs, more, code):
    problem = refuse(422, code, *inputs, **more)
    assert problem["accepted"]


def test_a_version_stands_in_the_path_and_in_no_query(client):
    asked = {"inputs": [tensor("text", "a")]}
    problem = client.post("/v2/models/mortality/infer?version=1", json=asked).json()
    assert (problem["code"], problem["field"]) == ("bad_parameter", "version")
    assert problem["accepted"] == "none"


def test_too_many_cases_are_refused(refuse):
    refuse(413, "too_many", tensor("text", *["a"] * 257))


# ---- bytes behind the JSON ----------------------------------------------------------------------


def packed(*elements):
    return b"".join(struct.pack("<I", len(each)) + each for each in elements)


def ask_in_bytes(client, head, behind, length=None):
    text = json.dumps(head).encode()
    headers = {"Inference-Header-Content-Length": str(len(text) if length is None else length)}
    return client.post(MODEL + "/infer", content=text + behind, headers=headers)


def described(name, data, count):
    parameters = {"binary_data_size": len(data)}
    return {"name": name, "shape": [count, 1], "datatype": "BYTES", "parameters": parameters}


def test_tensors_may_come_and_go_as_bytes(client, picture):
    image = picture("JPEG")
    pictures, notes = packed(image, b""), packed(b"", b"a note")
    head = {
        "inputs": [described("image", pictures, 2), described("text", notes, 2)],
        "outputs": [
            {"name": "label", "parameters": {"binary_data": False}},
            {"name": "probabilities"},
            {"name": "answer"},
        ],
        "parameters": {"binary_data_output": True},
    }
    answer = ask_in_bytes(client, head, pictures + notes)
    assert answer.headers["content-type"] == "application/octet-stream"
    length = int(answer.headers["inference-header-content-length"])
    said, behind = json.loads(answer.content[:length]), answer.content[length:]
    label, shares, whole = said["outputs"]
    assert len(label["data"]) == 2
    assert (shares["shape"], shares["parameters"]) == ([2, 2], {"binary_data_size": 32})
    assert len(behind) == 32 + whole["parameters"]["binary_data_size"]
    (size,) = struct.unpack_from("<I", behind, 32)
    first = json.loads(behind[36 : 36 + size])
    assert first["modalities"]["used"] == ["image"]
    found = np.frombuffer(behind[:32], "<f8").reshape(2, 2)
    assert found[0].tolist() == list(first["prediction"]["probabilities"].values())
    alone = client.post("/predict/mortality", files={"image": ("x.jpg", image)}).json()
    assert found[0, 1] == pytest.approx(alone["prediction"]["probability"], abs=1e-6)


@pytest.mark.parametrize(
    ("behind", "length"),
    [
        (packed(b"a")[:-1], None),
        (packed(b"a") + b"b", None),
        (b"\xff\xff\xff\xff" + b"a", None),
        (packed(b"a"), 10_000),
        (packed(b"a"), "-1"),
        (packed(b"a"), "9" * 5000),
    ],
    ids=["too few", "too many", "too long", "head too long", "negative", "huge"],
)
def test_bytes_that_are_not_as_they_are_described_are_refused(client, behind, length):
    head = {"inputs": [described("text", packed(b"a"), 1)]}
    answer = ask_in_bytes(client, head, behind, length)
    assert (answer.status_code, answer.json()["code"]) == (422, "wrong_type")


# ---- a standard client --------------------------------------------------------------------------


def test_tritons_client_finds_its_way(server, stay, picture):
    """Not among the requirements, since it brings gevent: pip install 'tritonclient[http]'."""
    triton = pytest.importorskip("tritonclient.http")
    client = triton.InferenceServerClient(server.url.removeprefix("http://"))
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("mortality")
    assert not client.is_model_ready("mortality", "1")
    metadata = client.get_model_metadata("mortality")
    record = np.array([json.dumps(stay).encode()] * 3, np.object_)
    for binary in (True, False):
        asked = triton.InferInput("record", [3], "BYTES")
        asked.set_data_from_numpy(record, binary_data=binary)
        outputs = [
            triton.InferRequestedOutput(each["name"], binary_data=binary)
            for each in metadata["outputs"]
        ]
        for wanted in (None, outputs):
            found = client.infer("mortality", [asked], outputs=wanted, request_id="7")
            assert found.get_response()["id"] == "7"
            for each in metadata["outputs"]:
                array = found.as_numpy(each["name"])
                assert array.dtype == DTYPES[each["datatype"]]
                assert array.shape == (3, *each["shape"][1:])
            answer = json.loads(found.as_numpy("answer")[2])
            assert answer["prediction"]["probability"] == found.as_numpy("probability")[2]
    pictures = triton.InferInput("image", [1, 1], "BYTES")
    pictures.set_data_from_numpy(np.array([[picture()]], np.object_))
    assert client.infer("mortality", [pictures]).as_numpy("probabilities").shape == (1, 2)
    pictures.set_data_from_numpy(np.array([[b"no picture"]], np.object_))
    with pytest.raises(Exception, match="case 0: not an image") as caught:
        client.infer("mortality", [pictures])
    assert caught.value.status() == "422"
    client.close()
