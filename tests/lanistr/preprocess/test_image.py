"""Pictures: every kind that a user has, and what is none."""

import base64
import io
import struct
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lanistr.errors import InputError
from lanistr.issues import IssueLog
from lanistr.preprocess.image import ImageOptions, ImagePreprocessor
from lanistr.tasks import TaskSpec

IMAGES = ImagePreprocessor(ImageOptions(size=32))


def encoded(pixels: Any, format: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(np.asarray(pixels))
    picture.save(file, format, **options)
    return file.getvalue()


def colours(height: int = 48, width: int = 64) -> np.ndarray:
    """A smooth picture: red grows to the right, green downwards."""
    red, green = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return np.stack([red, green, np.full_like(red, 100)], axis=-1).astype(np.uint8)


def seen(data: bytes, log: IssueLog | None = None, images: ImagePreprocessor = IMAGES) -> Any:
    """Apply to one picture; return its pixels as whole numbers, height first."""
    (row,) = images.apply((data,), IssueLog() if log is None else log)
    assert row["pixels"].shape == (3, images.options.size, images.options.size)
    assert row["pixels"].dtype == np.uint8
    return row["pixels"].transpose(1, 2, 0).astype(int)


def refused(data: bytes, images: ImagePreprocessor = IMAGES) -> InputError:
    with pytest.raises(InputError) as caught:
        images.apply((data,), IssueLog())
    assert caught.value.field == "image"
    return caught.value


# ---- kinds of pictures --------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "TIFF", "BMP"])
def test_the_same_picture_looks_the_same_in_every_format(format: str, log: IssueLog):
    options = {"quality": 95} if format in ("JPEG", "WEBP") else {}
    pixels = seen(encoded(colours(), format, **options), log)
    assert np.abs(pixels - seen(encoded(colours()))).max() <= 6
    assert not log.issues


@pytest.mark.parametrize(
    ("mode", "format"),
    [
        ("1", "PNG"),
        ("L", "PNG"),
        ("LA", "PNG"),
        ("P", "PNG"),
        ("RGBA", "PNG"),
        ("CMYK", "TIFF"),
        ("YCbCr", "TIFF"),
    ],
)
def test_every_mode_becomes_rgb(mode: str, format: str):
    pixels = seen(encoded(Image.fromarray(colours()).convert(mode), format))
    assert pixels[:, :4].mean() < pixels[:, -4:].mean()


def test_greyscale_has_three_equal_channels():
    pixels = seen(encoded(colours()[..., 0]))
    assert (pixels == pixels[..., :1]).all()
    assert pixels[16, 0, 0] < 60 < 200 < pixels[16, -1, 0]


def test_a_palette_shows_its_colours():
    picture = Image.new("P", (40, 40), 1)
    picture.putpalette([0, 0, 0, 200, 30, 60])
    assert (seen(encoded(picture)) == [200, 30, 60]).all()


def test_cmyk_jpeg_shows_its_colours():
    picture = Image.new("RGB", (40, 40), (200, 30, 60)).convert("CMYK")
    assert np.abs(seen(encoded(picture, "JPEG", quality=95)) - [200, 30, 60]).max() < 12


def test_transparent_pixels_show_white_whatever_colour_lies_beneath():
    pixels = np.zeros((40, 40, 4), np.uint8)
    pixels[:, 20:] = (200, 30, 60, 255)
    shown = seen(encoded(pixels))
    assert (shown[:, :8] == 255).all()
    assert (shown[:, -8:] == [200, 30, 60]).all()


def test_a_transparent_palette_entry_shows_white_too():
    picture = Image.new("P", (40, 40), 1)
    picture.putpalette([0, 0, 0, 200, 30, 60])
    assert (seen(encoded(picture, transparency=1)) == 255).all()


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_deep_greyscale_is_scaled_by_the_depth_in_use_not_by_its_container(
    format: str, bits: int, log: IssueLog
):
    ramp = np.linspace(0, 2**bits - 1, 64 * 64).reshape(64, 64).astype(np.uint16)
    pixels = seen(encoded(ramp, format), log)
    assert pixels.min() < 10
    assert pixels.max() > 245
    (issue,) = log.issues
    assert (issue.code, issue.action) == ("deep_image", "converted")
    assert issue.seen == f"{bits}-bit greyscale"


def test_sixteen_bits_that_hold_eight_keep_their_brightness():
    pixels = seen(encoded(np.full((40, 40), 77, np.uint16)))
    assert (pixels == 77).all()


def test_sixteen_bit_colour_keeps_its_colours():
    header = struct.pack(">IIBBBBB", 40, 40, 16, 2, 0, 0, 0)
    row = b"\0" + struct.pack(">HHH", 200 * 257, 30 * 257, 60 * 257) * 40
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in [(b"IHDR", header), (b"IDAT", zlib.compress(row * 40)), (b"IEND", b"")]
    )
    assert np.abs(seen(data) - [200, 30, 60]).max() <= 1


@pytest.mark.parametrize("scale", [1.0, 1e-3, 3000.0])
def test_floating_point_is_stretched_from_its_least_to_its_largest(scale: float):
    ramp = np.linspace(-1, 1, 64 * 64).reshape(64, 64).astype(np.float32) * scale
    pixels = seen(encoded(ramp, "TIFF"))
    assert pixels.min() < 10
    assert pixels.max() > 245


@pytest.mark.parametrize(("least", "largest"), [(-500, -245), (-1000, 1040), (-32768, 32767)])
def test_whole_numbers_that_go_below_zero_are_stretched_too(
    least: int, largest: int, log: IssueLog
):
    ramp = np.linspace(least, largest, 64 * 64).reshape(64, 64).astype(np.int32)
    pixels = seen(encoded(ramp, "TIFF"), log)
    as_floats = seen(encoded(ramp.astype(np.float32), "TIFF"))
    assert (pixels == as_floats).all()
    assert pixels.max() - pixels.min() > 235
    assert [(issue.code, issue.seen) for issue in log.issues] == [
        ("deep_image", "signed greyscale")
    ]


def test_a_flat_deep_picture_divides_nothing_by_zero():
    assert seen(encoded(np.full((9, 9), 2.5, np.float32), "TIFF")).max() == 0
    assert seen(encoded(np.zeros((9, 9), np.uint16))).max() == 0


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
@pytest.mark.parametrize("top", [255, 1023, 65535, 1.0])
def test_a_tiff_in_which_zero_is_white_is_no_negative(top: float, compression: str | None):
    ramp = np.linspace(0, top, 64 * 64).reshape(64, 64)
    ramp = ramp.astype(np.float32 if top == 1 else np.uint16)
    positive = encoded(ramp, "TIFF", compression=compression)
    negative = encoded(top - ramp, "TIFF", compression=compression, tiffinfo={262: 0})
    assert np.abs(seen(negative) - seen(positive)).max() <= 1
    assert seen(negative)[0].max() < 10


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_floating_point_that_is_not_finite_is_broken(wrong: float):
    pixels = np.zeros((9, 9), np.float32)
    pixels[3, 3] = wrong
    assert refused(encoded(pixels, "TIFF")).code == "broken_image"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_is_turned_upright(orientation: int):
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    upright = Image.fromarray(colours())
    turned = upright.transpose(turns[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = seen(encoded(turned, "JPEG", exif=exif, quality=95))
    assert np.abs(pixels - seen(encoded(upright))).max() <= 6


@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP"])
def test_of_several_frames_the_first_is_taken_and_said_so(format: str, log: IssueLog):
    first, second = (Image.new("RGB", (40, 40), colour) for colour in ("white", "black"))
    data = encoded(first, format, save_all=True, append_images=[second])
    assert (seen(data, log) == 255).all()
    (issue,) = log.issues
    assert (issue.code, issue.seen) == ("first_frame", "more than one frame")


def test_of_a_tiff_no_frame_is_read_but_the_first(log: IssueLog):
    data = bytearray(encoded(colours(), "TIFF"))
    (header,) = struct.unpack_from("<I", data, 4)
    (tags,) = struct.unpack_from("<H", data, header)
    struct.pack_into("<I", data, header + 2 + 12 * tags, 2**31)  # where the second is to be found
    assert (seen(bytes(data), log) == seen(encoded(colours()))).all()
    assert [issue.code for issue in log.issues] == ["first_frame"]


# ---- shape --------------------------------------------------------------------------------------


def test_the_centred_square_is_what_is_seen():
    wide = np.zeros((40, 120, 3), np.uint8)
    wide[:, 40:80] = (200, 30, 60)
    assert np.abs(seen(encoded(wide))[:, 3:-3] - [200, 30, 60]).max() <= 2


def test_a_smaller_crop_shows_the_middle_only():
    pixels = np.zeros((40, 40, 3), np.uint8)
    pixels[10:30, 10:30] = 255
    close = ImagePreprocessor(ImageOptions(size=32, crop=0.4))
    assert (seen(encoded(pixels), images=close) == 255).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 100_000), (100_000, 1), (2, 3), (5000, 7)])
def test_any_shape_becomes_the_square(size: tuple[int, int]):
    picture = Image.new("L", size, 90)
    assert (seen(encoded(picture)) == 90).all()


# ---- what is no picture -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"\x00",
        b"hello, this is text",
        b"%PDF-1.7\n",
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff\xe0",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        encoded(colours(), "GIF"),
        encoded(colours(), "PPM"),
    ],
)
def test_what_is_no_picture_of_the_known_formats_is_refused(data: bytes):
    error = refused(data)
    assert error.code == "not_an_image"
    assert "JPEG, PNG, WEBP, TIFF, BMP" in error.accepted


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "TIFF", "BMP"])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_truncated_picture_is_refused_not_filled_with_grey(format: str, share: float):
    noise = np.random.default_rng(0).integers(0, 256, (60, 60, 3)).astype(np.uint8)
    data = encoded(noise, format)
    assert refused(data[: int(len(data) * share)]).code in ("broken_image", "not_an_image")


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_the_message_for_a_truncated_picture_tells_how_much_came(format: str):
    data = encoded(np.random.default_rng(0).integers(0, 256, (60, 60, 3)).astype(np.uint8), format)
    error = refused(data[: len(data) // 2])
    assert error.code == "broken_image"
    assert error.seen == f"{len(data) // 2} bytes of {format}"


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_rough_look_refuses_just_what_decoding_refuses(options: dict[str, Any], channels: int):
    noise = np.random.default_rng(0).integers(0, 256, (60, 75, channels)).astype(np.uint8)
    data = encoded(noise.squeeze(), "JPEG", **options)

    def refusal(length: int, *, roughly: bool) -> str:
        try:
            IMAGES.decode(data[:length], "image", IssueLog(), roughly=roughly)
        except InputError as exc:
            return exc.code
        return ""

    lengths = [*range(1, len(data) - 100, 50), *range(len(data) - 100, len(data) + 1)]
    refused = [refusal(length, roughly=True) for length in lengths]
    assert refused == [refusal(length, roughly=False) for length in lengths]
    assert set(refused) == {"not_an_image", "broken_image", ""}


def test_a_bomb_is_refused_from_its_header_before_anything_is_decoded():
    # A header that promises 10 gigapixels and nothing after it: decoding would fail otherwise.
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in [(b"IHDR", header), (b"IDAT", b"nothing")]
    )
    error = refused(data)
    assert error.code == "image_too_large"
    assert error.seen == "10,000,000,000 pixels"
    assert error.accepted == "at most 40,000,000 pixels in all images of a case"


def test_the_limit_of_pixels_is_inclusive():
    exact = ImagePreprocessor(ImageOptions(size=32, max_pixels=100))
    assert seen(encoded(Image.new("L", (10, 10))), images=exact) is not None
    assert refused(encoded(Image.new("L", (10, 11))), exact).code == "image_too_large"


def test_the_limit_of_pixels_is_for_all_pictures_of_a_case_together():
    exact = ImagePreprocessor(ImageOptions(size=32, max_pixels=200))
    picture = encoded(Image.new("L", (10, 10)))
    assert len(exact.apply((picture, picture), IssueLog())) == 2
    with pytest.raises(InputError) as caught:
        exact.apply((picture, picture, picture), IssueLog())
    assert (caught.value.code, caught.value.field) == ("image_too_large", "image")
    assert caught.value.seen == "300 pixels"


def test_among_several_pictures_the_broken_one_is_named():
    with pytest.raises(InputError) as caught:
        IMAGES.apply((encoded(colours()), b"nothing"), IssueLog())
    assert caught.value.field == "image[1]"


def test_a_picture_is_called_by_its_place_in_the_record(mortality: TaskSpec):
    good = encoded(colours())
    for value, path in (([good, None, b"nothing"], "image[2]"), ([None, b"nothing"], "image[1]")):
        pictures = ImagePreprocessor.read(value, mortality, IssueLog())
        assert pictures is not None
        with pytest.raises(InputError) as caught:
            IMAGES.apply(pictures, IssueLog())
        assert caught.value.field == path


BASES = [encoded(colours(), format) for format in ("PNG", "JPEG", "WEBP", "TIFF", "BMP")]
BASES.append(
    encoded(colours(), "TIFF", save_all=True, append_images=[Image.fromarray(colours(20, 20))])
)
SMALL = ImagePreprocessor(ImageOptions(size=16, max_pixels=100_000))


@given(
    st.sampled_from(BASES),
    st.lists(
        st.tuples(st.integers(0, 400) | st.integers(0, 2**16), st.integers(0, 255)), max_size=8
    ),
    st.floats(0.05, 1),
)
def test_damage_of_any_kind_gives_pixels_or_a_clear_refusal(
    base: bytes, changes: list[tuple[int, int]], share: float
):
    data = bytearray(base)
    for position, value in changes:
        data[position % len(data)] = value
    with suppress(InputError):
        seen(bytes(data[: max(int(len(data) * share), 1)]), images=SMALL)


def test_a_tiff_with_damage_in_its_second_page_gives_pixels_or_a_clear_refusal():
    for position in range(len(BASES[-1]) - 400, len(BASES[-1])):
        data = bytearray(BASES[-1])
        data[position] ^= 0xFF
        with suppress(InputError):
            seen(bytes(data), images=SMALL)


# ---- reading ------------------------------------------------------------------------------------

RED = encoded(Image.new("RGB", (3, 3), "red"))
TEXT = base64.b64encode(RED).decode()


@pytest.mark.parametrize(
    ("value", "pictures"),
    [
        (None, None),
        ([], None),
        ([None], None),
        (RED, (RED,)),
        (TEXT, (RED,)),
        (f"data:image/png;base64,{TEXT}", (RED,)),
        (f"DATA:image/png;charset=utf-8;BASE64,{TEXT}", (RED,)),
        (f"data:;base64,{TEXT}", (RED,)),
        (TEXT[:20] + "\n" + TEXT[20:] + "\n", (RED,)),
        ([TEXT, RED, None], (RED, RED)),
    ],
)
def test_a_picture_is_bytes_base64_or_a_data_url(mortality: TaskSpec, value: Any, pictures: Any):
    assert ImagePreprocessor.read(value, mortality, IssueLog()) == pictures


@pytest.mark.parametrize(
    ("value", "field", "code"),
    [
        ("https://example.org/x.png", "image", "not_base64"),
        ("data:image/png,raw", "image", "not_base64"),
        ("not base64!", "image", "not_base64"),
        ("AAA", "image", "not_base64"),
        ("Ünicode", "image", "not_base64"),
        ("\ud800", "image", "not_base64"),
        (3, "image", "wrong_type"),
        ({"url": "x"}, "image", "wrong_type"),
        ([TEXT, 3], "image[1]", "wrong_type"),
        ([[TEXT]], "image[0]", "wrong_type"),
    ],
)
def test_anything_else_is_refused_with_its_place(
    mortality: TaskSpec, value: Any, field: str, code: str
):
    with pytest.raises(InputError) as caught:
        ImagePreprocessor.read(value, mortality, IssueLog())
    assert (caught.value.field, caught.value.code) == (field, code)


@pytest.mark.parametrize("value", ["", b"", "data:image/png;base64,"])
def test_an_empty_picture_is_absent_with_an_issue(mortality: TaskSpec, log: IssueLog, value: Any):
    assert ImagePreprocessor.read(value, mortality, log) is None
    assert [(issue.code, issue.field) for issue in log.issues] == [("empty", "image")]


# ---- real ones ----------------------------------------------------------------------------------


def test_real_x_rays_are_seen_alike_as_they_stand_as_png_and_in_sixteen_bits(open_data: Path):
    paths = sorted((open_data / "covid_cxr" / "images").iterdir())[:4]
    assert paths
    for path in paths:
        as_it_stands = seen(path.read_bytes())
        with Image.open(path) as picture:
            grey = picture.convert("L")
        png = seen(encoded(grey))
        deep = seen(encoded(np.asarray(grey).astype(np.uint16) * 257))
        assert np.abs(as_it_stands - png).mean() < 3
        assert np.abs(deep - png).max() <= 1


def test_options_survive_saving(mortality: TaskSpec, tmp_path: Path):
    images = ImagePreprocessor(ImageOptions(size=40, crop=0.9, max_pixels=1000))
    again = ImagePreprocessor.load(images.save(tmp_path), mortality, tmp_path)
    assert again.options == images.options
    assert images.layout()["pixels"].shape == (3, 40, 40)


# ---- what is not seen as it came ----------------------------------------------------------------


def issues_of(picture: Any) -> list[tuple[str, str]]:
    log = IssueLog()
    seen(encoded(picture), log)
    return [(issue.code, issue.action) for issue in log.issues]


def test_a_picture_of_which_the_square_shows_less_than_half_is_told():
    assert issues_of(colours(64, 128)) == []
    assert issues_of(colours(64, 129)) == [("image_cut", "clipped")]
    assert issues_of(colours(129, 64)) == [("image_cut", "clipped")]


def test_a_picture_that_must_grow_to_more_than_twice_its_size_is_told():
    assert issues_of(colours(16, 20)) == []
    assert issues_of(colours(15, 20)) == [("small_image", "kept")]


def test_transparent_pixels_are_told_and_an_alpha_channel_without_any_is_not():
    opaque = np.dstack([colours(), np.full((48, 64), 255, np.uint8)])
    assert issues_of(opaque) == []
    opaque[0, 0, 3] = 254
    assert issues_of(opaque) == [("transparent_image", "converted")]
