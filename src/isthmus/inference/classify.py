"""``POST …/classify``: a JPEG or PNG picture in, its classes out, with the bundle's labels."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from isthmus.errors import InvalidInput, InvalidModel, InvalidRequest
from isthmus.inference.datatypes import NUMPY
from isthmus.inference.http import HttpRequest, HttpResponse, json_response
from isthmus.inference.images import read_image
from isthmus.inference.infer import check_size
from isthmus.inference.messages import Classification, Guess
from isthmus.inference.processing import postprocess
from isthmus.inference.served import ServedModel
from isthmus.model.bundle import BundleManifest
from isthmus.model.processing import ImageForm, PostStep, TopK

if TYPE_CHECKING:
    from numpy.typing import NDArray

DEFAULT_TOP_K = 5
MAX_TOP_K = 1000
CHANNELS = (1, 3)


def classify(request: HttpRequest, model: ServedModel, max_request_bytes: int) -> HttpResponse:
    """Answer with the best classes of a picture; ``?top_k=N`` says how many.

    Raises:
        InvalidRequest: not a picture, or the model takes none; the message says which.
        InvalidModel: the bundle's steps do not fit the model.
    """
    check_size(request, max_request_bytes)
    form = image_form(model.manifest)
    wanted = _top_k(request.path)
    picture = read_image(request.body, request.media_type, form)
    outputs = model.run({"raw": _as_raw(picture, model.manifest)}, raw=True)
    scores = outputs[model.manifest.outputs[0].name]
    classes = _classes(scores, model.manifest, wanted)
    return json_response(Classification(model_name=model.name, model_version=model.version, classes=classes))


def image_form(manifest: BundleManifest) -> ImageForm:
    """Return how a picture becomes the model's raw input: as the bundle says, or as uint8 pixels say themselves.

    Raises:
        InvalidRequest: neither says it.
    """
    if isinstance(manifest.image, ImageForm):
        return manifest.image
    raw = manifest.raw
    if raw is not None and raw.datatype == "UINT8" and all(size > 0 for size in raw.shape[1:]):
        match raw.shape[1:]:
            case (height, width):
                return ImageForm(height=height, width=width, channels=1)
            case (height, width, 1 | 3 as channels):
                return ImageForm(height=height, width=width, channels=channels)
            case (1 | 3 as channels, height, width):
                return ImageForm(height=height, width=width, channels=channels, layout="CHW")
    had = "none" if raw is None else f"{raw.datatype} {list(raw.shape)}"
    raise InvalidRequest(
        f"model {manifest.model!r} takes no pictures: it needs an image in its job, "
        f"or a raw form of UINT8 pixels, and has {had}"
    )


def _top_k(path: str) -> int:
    query = parse_qs(path.partition("?")[2], keep_blank_values=True)
    if unknown := sorted(set(query) - {"top_k"}):
        raise InvalidRequest(f"query parameter {unknown[0][:100]!r} is unknown; there is top_k")
    text = query.get("top_k", [str(DEFAULT_TOP_K)])[-1]
    if not (text.isascii() and text.isdecimal() and len(text) < 5 and 1 <= int(text) <= MAX_TOP_K):
        raise InvalidRequest(f"top_k must be a number from 1 to {MAX_TOP_K}, not {text[:100]!r}")
    return int(text)


def _as_raw(picture: NDArray[Any], manifest: BundleManifest) -> NDArray[Any]:
    """Return ``[1, *raw_shape]`` of the raw datatype; for integers rounded and within their range."""
    import numpy as np

    raw = manifest.raw
    if raw is None or picture.size != math.prod(raw.shape[1:]):
        shape = "none" if raw is None else list(raw.shape)
        raise InvalidModel(f"a picture of {picture.size} values does not fit the raw form, {shape}")
    dtype = np.dtype(NUMPY[raw.datatype])
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        picture = np.clip(np.rint(picture), limits.min, limits.max)
    return np.ascontiguousarray(picture.astype(dtype)).reshape(1, *raw.shape[1:])


def _classes(scores: NDArray[Any], manifest: BundleManifest, wanted: int) -> list[Guess]:
    """Return the best classes of ``[1, C]``, by the bundle's own post-processing but for their number."""
    import numpy as np

    if scores.ndim != 2 or scores.dtype.kind != "f":
        raise InvalidRequest(
            f"model {manifest.model!r} is no classifier: its first output is {scores.dtype} {list(scores.shape)}"
        )
    if not np.isfinite(scores).all():
        raise InvalidModel(
            f"the model's output {manifest.outputs[0].name!r} holds NaN or infinity for this picture"
        )
    before = tuple(step for step in manifest.postprocessing if not isinstance(step, TopK))
    labels = next((step.labels for step in manifest.postprocessing if isinstance(step, TopK)), ())
    steps: tuple[PostStep, ...] = (*before, TopK(k=min(wanted, scores.shape[1]), labels=labels))
    try:
        found = {name: array[0].tolist() for name, array in postprocess(scores, steps).items()}
    except InvalidInput as error:
        raise InvalidModel(f"the post-processing does not fit the model's output: {error}") from error
    names = found.get("label") or [None] * len(found["class"])
    return [
        Guess(index=index, score=score, label=label)
        for index, score, label in zip(found["class"], found["score"], names, strict=True)
    ]
