"""JPEG and PNG to arrays, by Pillow; a picture's size is checked before its pixels are decoded."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from typing import TYPE_CHECKING, Any

from isthmus.errors import InvalidRequest, PayloadTooLarge, UnsupportedMediaType
from isthmus.model.processing import ImageForm

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

MEDIA = {"image/jpeg": "JPEG", "image/png": "PNG"}
MAX_PIXELS = 24_000_000
"""Pillow holds four bytes of each: 96 MB."""

MAX_SIDE = 65_535
"""A JPEG has no more; a PNG of one column costs far more for each of its rows than for their pixels."""

MAX_SCANS = 100
"""Of a progressive JPEG; each is a pass over all of its pixels, and costs the sender a few bytes."""

START_OF_SCAN = b"\xff\xda"
"""Within a scan 0xFF is never followed by this (ITU-T T.81, B.1.1.5): only markers are counted."""

# What Pillow lets through of the faults of a broken file (fuzzed in tests/unit/inference/test_inference_images.py).
FAULTS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    ArithmeticError,
    struct.error,
    zlib.error,
)


def read_image(data: bytes, media_type: str, form: ImageForm) -> NDArray[Any]:
    """Return a picture as ``[height, width, channels]`` (or ``CHW``) float32, from ``black`` to ``white``.

    Turned upright as its EXIF data says; transparency shows what lies under it.

    Raises:
        UnsupportedMediaType: neither JPEG nor PNG by name.
        PayloadTooLarge: more pixels than are decoded.
        InvalidRequest: not such a picture, or not a whole one.
    """
    import numpy as np

    if media_type not in MEDIA:
        raise UnsupportedMediaType(f"the body must be one of {', '.join(MEDIA)}, not {media_type[:100]!r}")
    with _quietly():
        picture = _decode(data, MEDIA[media_type], form)
    pixels = np.asarray(picture, np.float32).reshape(form.height, form.width, form.channels)
    scaled = pixels * np.float32((form.white - form.black) / 255) + np.float32(form.black)
    return scaled.transpose(2, 0, 1) if form.layout == "CHW" else scaled


def _decode(data: bytes, kind: str, form: ImageForm) -> Image:
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise InvalidRequest("this server decodes no pictures: it lacks Pillow (isthmus[images])") from error

    mode = "L" if form.channels == 1 else "RGB"
    if data.count(START_OF_SCAN) > MAX_SCANS and kind == "JPEG":
        raise InvalidRequest(f"the picture is sent in more than {MAX_SCANS} scans: save it with fewer")
    try:
        picture = Image.open(io.BytesIO(data), formats=(kind,))
        _check_size(*picture.size)
        # A JPEG can be decoded at an eighth of its size: no more of it is than the model can see.
        side = 2 * max(form.width, form.height)
        picture.draft(mode, (side, side))
        return _scaled(_to_bytes(ImageOps.exif_transpose(picture)).convert(mode), form)
    except Image.DecompressionBombError as error:
        raise PayloadTooLarge(
            f"the picture has too many pixels; at most {MAX_PIXELS:,} are decoded"
        ) from error
    except FAULTS as error:
        raise InvalidRequest(f"the body is not a whole {kind} picture: {error}"[:300]) from error


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise PayloadTooLarge(
            f"the picture has {width} by {height} pixels; at most {MAX_PIXELS:,}, and {MAX_SIDE:,} a side, "
            "are decoded: scale it down"
        )


def _to_bytes(picture: Image) -> Image:
    """Return a picture of 16 bits a pixel with their upper 8, where Pillow would clip."""
    import numpy as np
    from PIL import Image

    if not picture.mode.startswith("I"):
        return picture
    return Image.fromarray((np.asarray(picture).astype(np.int32) >> 8).astype(np.uint8))


def _scaled(picture: Image, form: ImageForm) -> Image:
    from PIL import Image, ImageOps

    size = (form.width, form.height)
    if form.fit == "crop":
        return ImageOps.fit(picture, size, Image.Resampling.BILINEAR)
    return picture.resize(size, Image.Resampling.BILINEAR)


def _quietly() -> warnings.catch_warnings[None]:
    # What a stranger's file warns of is no news; a bomb is refused by its size above.
    return warnings.catch_warnings(action="ignore")
