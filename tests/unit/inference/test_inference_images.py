"""Pictures in, classes out."""

from __future__ import annotations

import base64
import io
import re
import struct
import zlib
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import yaml
from bundle_factory import LABELS, WEIGHTS, KeySigner, make_bundle
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from isthmus.errors import InvalidRequest, PayloadTooLarge
from isthmus.inference.classify import image_form
from isthmus.inference.http import HttpRequest
from isthmus.inference.images import MAX_PIXELS, MAX_SIDE, read_image
from isthmus.inference.lambda_handler import answer
from isthmus.inference.service import ModelService, served
from isthmus.model.bundle import TensorSpec
from isthmus.model.job import Job
from isthmus.model.processing import Affine, ImageForm, Reshape, Softmax, TopK

CLASSIFY = "/v2/models/fashion/classify"
GREY = ImageForm(height=2, width=2, channels=1)
PIXELS = np.array([[0, 51], [102, 255]], np.uint8)


def encoded(picture: Image.Image | np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    image.save(stream, kind, **options)
    return stream.getvalue()


def classify(
    service: ModelService, data: bytes, media: str = "image/png", query: str = ""
) -> tuple[int, dict[str, Any]]:
    response = service.handle(HttpRequest("POST", CLASSIFY + query, {"content-type": media}, data))
    return response.status, msgspec.json.decode(response.body)


def test_a_picture_gets_the_bundles_labels_best_first(service: ModelService) -> None:
    status, found = classify(service, encoded(PIXELS))
    logits = PIXELS.reshape(1, 4).astype(np.float32) / 255 @ WEIGHTS
    scores = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    order = np.argsort(-scores[0])
    assert (status, found["model_name"], found["model_version"]) == (200, "fashion", "1")
    assert [guess["label"] for guess in found["classes"]] == [LABELS[index] for index in order]
    assert [guess["index"] for guess in found["classes"]] == order.tolist()
    np.testing.assert_allclose([guess["score"] for guess in found["classes"]], scores[0][order], rtol=1e-5)


def test_how_many_are_wanted(service: ModelService) -> None:
    data = encoded(PIXELS)
    assert [len(classify(service, data, query=f"?top_k={k}")[1]["classes"]) for k in (1, 2, 3, 99)] == [
        1,
        2,
        3,
        3,
    ]
    for wrong in ("0", "-1", "x", "1001", "", "²", "1.5"):
        status, found = classify(service, data, query=f"?top_k={wrong}")
        assert (status, "top_k must be a number from 1 to 1000" in found["error"]) == (400, True)
    assert "'topk' is unknown" in classify(service, data, query="?topk=3")[1]["error"]


def test_the_query_reaches_it_in_an_event(service: ModelService) -> None:
    event = {
        "httpMethod": "POST",
        "path": CLASSIFY,
        "queryStringParameters": {"top_k": "1"},
        "headers": {"Content-Type": "image/png"},
        "body": base64.b64encode(encoded(PIXELS)).decode(),
        "isBase64Encoded": True,
    }
    assert len(msgspec.json.decode(answer(event, service)["body"])["classes"]) == 1


@pytest.mark.parametrize(
    ("media", "data", "status", "says"),
    [
        ("image/gif", b"GIF89a", 415, "one of image/jpeg, image/png, not 'image/gif'"),
        ("", b"", 415, "one of image/jpeg, image/png, not ''"),
        ("image/png", b"", 400, "not a whole PNG picture"),
        ("image/jpeg", encoded(PIXELS), 400, "not a whole JPEG picture"),
        ("image/png", encoded(PIXELS)[:-30], 400, "not a whole PNG picture"),
        ("image/png", encoded(Image.new("RGB", (64, 64)), "GIF"), 400, "not a whole PNG picture"),
        ("image/jpeg", encoded(PIXELS, "JPEG") + b"\xff\xda" * 200, 400, "in more than 100 scans"),
    ],
)
def test_what_is_no_picture_is_told_so(
    service: ModelService, media: str, data: bytes, status: int, says: str
) -> None:
    found = classify(service, data, media)
    assert (found[0], says in found[1]["error"]) == (status, True), found


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims its size and has no pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    start = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + start + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "size",
    [
        (MAX_PIXELS + 1, 1),
        (6000, 6000),
        (20_000, 20_000),
        (2**31 - 1, 2**31 - 1),
        (MAX_SIDE + 1, 1),
        (1, MAX_PIXELS),
    ],
)
def test_pixels_are_counted_before_they_are_decoded(service: ModelService, size: tuple[int, int]) -> None:
    status, found = classify(service, png_header(*size))
    assert (status, "at most 24,000,000" in found["error"]) == (413, True), found


@pytest.mark.parametrize("size", [(6000, 4000), (MAX_SIDE, 1), (1, MAX_SIDE)])
def test_the_largest_that_is_decoded(size: tuple[int, int]) -> None:
    with pytest.raises(InvalidRequest, match="not a whole PNG") as refused:
        read_image(png_header(*size), "image/png", GREY)
    assert not isinstance(refused.value, PayloadTooLarge)


def same(data: bytes, form: ImageForm, media: str = "image/png") -> np.ndarray:
    return np.asarray(read_image(data, media, form))


def test_every_kind_of_png_gives_the_same_pixels() -> None:
    grey = np.tile(np.array([[0, 60], [120, 240]], np.uint8), (2, 2))
    form = ImageForm(height=4, width=4, channels=1)
    image = Image.fromarray(grey)
    kinds = [image, image.convert("RGB"), image.convert("RGBA"), image.convert("P"), image.convert("LA")]
    kinds += [Image.fromarray(grey.astype(np.uint16) * 256)]
    for kind in kinds:
        found = same(encoded(kind), form)
        assert (found.shape, found.dtype) == ((4, 4, 1), np.float32)
        np.testing.assert_allclose(found[..., 0], grey, atol=1, err_msg=kind.mode)
    two = same(encoded(Image.fromarray(grey > 100)), form)
    np.testing.assert_array_equal(two[..., 0], np.where(grey > 100, 255, 0))


def test_layout_range_and_rounding() -> None:
    colours = np.array([[[0, 127, 255]]], np.uint8)
    wide = ImageForm(height=1, width=1)
    assert same(encoded(colours), wide).tolist() == [[[0, 127, 255]]]
    chw = ImageForm(height=1, width=1, layout="CHW", black=16, white=0)
    np.testing.assert_allclose(same(encoded(colours), chw).ravel(), [16, 16 - 127 * 16 / 255, 0], atol=1e-5)


def test_a_jpeg_is_turned_upright() -> None:
    left = np.zeros((64, 64, 3), np.uint8)
    left[:, :32] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # shown, it is turned by 90 degrees clockwise
    form = ImageForm(height=2, width=2, channels=1)
    plain = same(encoded(left, "JPEG", quality=95), form, "image/jpeg")[..., 0]
    turned = same(encoded(left, "JPEG", quality=95, exif=exif.tobytes()), form, "image/jpeg")[..., 0]
    np.testing.assert_allclose(plain, [[255, 0], [255, 0]], atol=40)
    np.testing.assert_allclose(turned, [[255, 255], [0, 0]], atol=40)


def test_crop_takes_the_middle_and_stretch_takes_all() -> None:
    wide = np.zeros((20, 60), np.uint8)
    wide[:, 20:40] = 200
    crop = same(encoded(wide), ImageForm(height=10, width=10, channels=1))
    stretched = same(encoded(wide), ImageForm(height=10, width=30, channels=1, fit="stretch"))
    assert crop[:, 1:-1].min() == 200
    assert (stretched[:, 2].max(), stretched[:, 15].min()) == (0, 200)


@pytest.mark.parametrize(
    ("shape", "form"),
    [
        ((-1, 2, 2), GREY),
        ((-1, 4, 6, 3), ImageForm(height=4, width=6)),
        ((-1, 4, 6, 1), ImageForm(height=4, width=6, channels=1)),
        ((-1, 3, 4, 6), ImageForm(height=4, width=6, layout="CHW")),
    ],
)
def test_uint8_pixels_say_themselves_how_a_picture_becomes_them(
    tmp_path: Path, shape: tuple[int, ...], form: ImageForm
) -> None:
    raw = TensorSpec(name="pixels", datatype="UINT8", shape=shape)
    assert image_form(make_bundle(tmp_path / "b", KeySigner(), raw=raw).manifest) == form


@pytest.mark.parametrize(
    "raw",
    [
        None,
        TensorSpec(name="pixels", datatype="FP32", shape=(-1, 2, 2)),
        TensorSpec(name="pixels", datatype="UINT8", shape=(-1, 4)),
        TensorSpec(name="pixels", datatype="UINT8", shape=(-1, 2, 2, 2)),
        TensorSpec(name="pixels", datatype="UINT8", shape=(-1, -1, -1, 3)),
    ],
)
def test_a_model_without_pictures_says_what_it_needs(tmp_path: Path, raw: TensorSpec | None) -> None:
    bundle = make_bundle(tmp_path / "b", KeySigner(), raw=raw)
    status, found = classify(ModelService([served(bundle, threads=1)]), encoded(PIXELS))
    assert (status, "takes no pictures: it needs an image in its job" in found["error"]) == (400, True)


def test_a_form_of_the_bundles_own(tmp_path: Path) -> None:
    """As the digits have it: 0 to 16, in one row."""
    bundle = make_bundle(
        tmp_path / "b",
        KeySigner(),
        raw=TensorSpec(name="raw", datatype="FP32", shape=(-1, 4)),
        image=ImageForm(height=2, width=2, channels=1, black=16, white=0),
        preprocessing=(Affine(scale=1 / 16), Reshape((4,))),
        postprocessing=(),
        goldens=(),
    )
    status, found = classify(ModelService([served(bundle, threads=1)]), encoded(PIXELS))
    expected = (1 - PIXELS.reshape(1, 4) / 255) @ WEIGHTS
    order = np.argsort(-expected[0])
    assert (status, [guess["index"] for guess in found["classes"]]) == (200, order.tolist())
    assert [guess["score"] for guess in found["classes"]] == pytest.approx(expected[0][order], abs=1e-5)
    assert "label" not in found["classes"][0]


def test_a_bundle_whose_steps_do_not_fit_is_broken(tmp_path: Path) -> None:
    wrong = make_bundle(tmp_path / "a", KeySigner(), postprocessing=(Softmax(), TopK(k=1, labels=("a", "b"))))
    assert classify(ModelService([served(wrong, threads=1)]), encoded(PIXELS))[0] == 500
    small = make_bundle(tmp_path / "b", KeySigner(), image=ImageForm(height=3, width=3))
    status, found = classify(ModelService([served(small, threads=1)]), encoded(PIXELS))
    assert (status, "does not fit the raw form" in found["error"]) == (500, True)
    with np.errstate(invalid="ignore"):
        big = make_bundle(tmp_path / "c", KeySigner(), weights=np.full((4, 3), np.inf, np.float32))
    status, found = classify(ModelService([served(big, threads=1)]), encoded(PIXELS))
    assert (status, "NaN or infinity" in found["error"]) == (500, True)


SAMPLES = [
    ("image/png", encoded(PIXELS)),
    ("image/png", encoded(Image.new("P", (9, 7)))),
    ("image/jpeg", encoded(Image.new("RGB", (40, 30), (9, 99, 200)), "JPEG")),
    ("image/jpeg", encoded(Image.new("L", (40, 30)), "JPEG", progressive=True, exif=Image.Exif().tobytes())),
]


@given(st.sampled_from(SAMPLES), st.lists(st.tuples(st.integers(0, 700), st.integers(0, 255)), max_size=6))
def test_a_broken_picture_is_the_callers_fault(
    sample: tuple[str, bytes], damage: list[tuple[int, int]]
) -> None:
    media, data = sample
    broken = bytearray(data)
    for place, value in damage:
        broken[place % len(broken)] = value
    with suppress(InvalidRequest):  # anything else would be this server's fault
        assert read_image(bytes(broken), media, GREY).shape == (2, 2, 1)


@pytest.mark.parametrize(
    ("raw_shape", "says"),
    [([64], ""), ([8, 8], ""), ([65], "raw_shape needs as many, and is [65]"), (None, "is not given")],
)
def test_a_jobs_image_fits_its_raw_shape(raw_shape: list[int] | None, says: str) -> None:
    job = {
        "model": "digits",
        "source": {"kind": "import", "artifact": {"key": "k", "sha256": "1" * 64, "size_bytes": 1}},
        "raw_shape": raw_shape,
        "image": {"height": 8, "width": 8, "channels": 1},
    }
    with nullcontext() if not says else pytest.raises(msgspec.ValidationError, match=re.escape(says)):
        assert isinstance(msgspec.convert(job, Job).image, ImageForm)


def test_the_examples_job_takes_pictures() -> None:
    path = Path(__file__).parents[3] / "examples/digits/job.yaml"
    form = msgspec.convert(yaml.safe_load(path.read_text())["image"], ImageForm)
    assert (form.height, form.width, form.channels, form.black, form.white) == (8, 8, 1, 16, 0)
