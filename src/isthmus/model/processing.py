"""What happens to raw bytes before the network sees them, and to its outputs after: as data.

A step is a named operation with its arguments, never code, so a bundle can carry it anywhere and
running it needs numpy alone. Arrays keep the batch as their first axis: ``[N, ...]``.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

Format = Literal["csv", "idx", "npy"]
DType = Literal["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"]


class Decode(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How raw bytes become one array ``[N, ...]``; a ``.gz`` file is decompressed first.

    ``csv``: numbers without a header; ``columns`` is the half-open range of columns to take.
    ``idx``: the format of MNIST (http://yann.lecun.com/exdb/mnist, "the IDX file format").
    ``npy``: numpy's format without pickled objects (NEP 1).
    """

    format: Format
    dtype: DType = "float32"
    columns: tuple[int, int] | None = None


class ImageForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a picture becomes one raw sample: of ``height`` by ``width`` pixels, with ``channels`` of grey or RGB.

    A black pixel becomes ``black`` and a white one ``white``, what lies between in proportion. ``crop`` scales
    until the shorter side fits and takes the middle; ``stretch`` scales each side on its own.
    ``HWC`` has the channels last, ``CHW`` first. The sample then takes the raw form's own shape.
    """

    height: Annotated[int, msgspec.Meta(ge=1, le=4096)]
    width: Annotated[int, msgspec.Meta(ge=1, le=4096)]
    channels: Literal[1, 3] = 3
    layout: Literal["HWC", "CHW"] = "HWC"
    fit: Literal["crop", "stretch"] = "crop"
    black: float = 0.0
    white: float = 255.0


class Reshape(msgspec.Struct, tag="reshape", tag_field="op", frozen=True, forbid_unknown_fields=True):
    """Give each sample this shape: ``[N, ...] -> [N, *shape]``."""

    shape: tuple[int, ...]


class Cast(msgspec.Struct, tag="cast", tag_field="op", frozen=True, forbid_unknown_fields=True):
    """Convert to ``dtype``."""

    dtype: DType


class Affine(msgspec.Struct, tag="affine", tag_field="op", frozen=True, forbid_unknown_fields=True):
    """Compute ``x * scale + offset`` in float32."""

    scale: float = 1.0
    offset: float = 0.0


class Normalize(msgspec.Struct, tag="normalize", tag_field="op", frozen=True, forbid_unknown_fields=True):
    """Compute ``(x - mean) / std`` per channel, channels on axis 1."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


class Transpose(msgspec.Struct, tag="transpose", tag_field="op", frozen=True, forbid_unknown_fields=True):
    """Permute the axes of each sample (the batch axis stays first and is not counted)."""

    axes: tuple[int, ...]


class Softmax(msgspec.Struct, tag="softmax", tag_field="op", frozen=True, forbid_unknown_fields=True):
    """Turn logits ``[N, C]`` into probabilities along the last axis."""


class TopK(msgspec.Struct, tag="top_k", tag_field="op", frozen=True, forbid_unknown_fields=True):
    """Return the ``k`` best classes of ``[N, C]``: outputs ``class``, ``score`` and, with names, ``label``."""

    k: int = 1
    labels: tuple[str, ...] = ()


PreStep = Reshape | Cast | Affine | Normalize | Transpose
PostStep = Softmax | TopK
