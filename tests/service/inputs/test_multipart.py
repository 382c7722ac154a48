"""Forms, taken apart."""

import pytest

from lanistr.errors import InputError
from lanistr.tasks import find_task
from service.inputs import multipart
from service.settings import Settings

TASK = find_task("mortality")
LIMITS = Settings().limits()


def read(*parts: tuple[str, bytes]):
    body = b"".join(
        b"--b\r\nContent-Disposition: form-data; " + head.encode() + b"\r\n\r\n" + data + b"\r\n"
        for head, data in parts
    )
    return multipart.read(body + b"--b--\r\n", "multipart/form-data; boundary=b", TASK, LIMITS)


def test_fields_and_files():
    record = read(
        ('name="id"', b"stay-17"),
        ('name="text"', "first: 38 °C".encode()),
        ('name="text"; filename="n.txt"', b"\xef\xbb\xbfsecond"),
        ('name="image"; filename="x.png"', b"\x89PNG"),
        ('name="image"', b"aGFsbG8="),
        ('name="tabular"', b'{"age": 50}'),
        ('name="timeseries"; filename="v.CSV"', b"hours,heart_rate\n1,80"),
    )
    assert record == {
        "id": "stay-17",
        "text": ["first: 38 °C", "second"],
        "image": [b"\x89PNG", "aGFsbG8="],
        "tabular": {"age": 50},
        "timeseries": [{"hours": 1, "heart_rate": 80}],
    }


def test_an_empty_part_is_an_absent_part():
    assert read(
        ('name="text"', b""), ('name="image"; filename=""', b""), ('name="tabular"', b" \r\n")
    ) == {"text": None, "image": None, "tabular": None}


def test_an_empty_part_among_several_keeps_its_place():
    assert read(
        ('name="text"', b""),
        ('name="text"', b"note"),
        ('name="image"; filename="a.png"', b"\x89PNG"),
        ('name="image"; filename=""', b""),
    ) == {"text": [None, "note"], "image": [b"\x89PNG", None]}


def test_an_empty_part_beside_the_only_one_of_its_name_changes_nothing():
    assert read(('name="tabular"', b""), ('name="tabular"', b"{}")) == {"tabular": {}}


def test_a_series_of_json_may_begin_with_a_byte_order_mark():
    rows = b'[{"hours": 1, "heart_rate": 80}]'
    assert read(('name="timeseries"', b"\xef\xbb\xbf" + rows)) == {
        "timeseries": [{"hours": 1, "heart_rate": 80}]
    }
    assert read(('name="timeseries"', b"\xef\xbb\xbf null")) == {"timeseries": None}
    part = multipart.Part(data=bytearray(b"\xef\xbb\xbf" + rows), name="timeseries")  # of a tensor
    assert multipart.record([part], TASK, LIMITS)["timeseries"][0]["hours"] == 1


@pytest.mark.parametrize("encoding", ["base64", "Quoted-Printable"])
def test_a_part_that_is_encoded_is_refused(encoding):
    with pytest.raises(InputError) as caught:
        read((f'name="text"\r\nContent-Transfer-Encoding: {encoding}', b"bm90ZQ=="))
    assert (caught.value.code, caught.value.field) == ("unsupported_media_type", "text")
    for plain in ("7bit", "8BIT", "binary"):
        head = f'name="text"\r\nContent-Transfer-Encoding: {plain}'
        assert read((head, b"note")) == {"text": "note"}


def test_null_is_absent():
    assert read(('name="timeseries"', b"null"), ('name="tabular"', b"null")) == {
        "timeseries": None,
        "tabular": None,
    }


def test_an_unknown_name_keeps_its_place():
    assert read(('name="imgae"; filename="x.png"', b"x")) == {"imgae": None}


def test_a_fault_in_a_part_is_named_by_the_part():
    with pytest.raises(InputError) as caught:
        read(('name="tabular"', b'{"age": NaN}'))
    assert (caught.value.code, caught.value.field) == ("not_finite", "tabular.age")


def test_a_part_without_a_name_is_refused():
    with pytest.raises(InputError) as caught:
        read(('filename="x"', b"x"))
    assert caught.value.code == "not_a_form"
