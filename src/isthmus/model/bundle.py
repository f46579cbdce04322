"""A bundle: a trained model as shipped; ``manifest.json`` names every file by its digest."""

from __future__ import annotations

from typing import Literal

import msgspec

from isthmus.model.blob import Name, Sha256, SizeBytes
from isthmus.model.processing import ImageForm, PostStep, PreStep

MODEL_FILE = "model.onnx"
MANIFEST_FILE = "manifest.json"
SIGNATURE_FILE = "manifest.sig"

Datatype = Literal[
    "BOOL",
    "UINT8",
    "UINT16",
    "UINT32",
    "UINT64",
    "INT8",
    "INT16",
    "INT32",
    "INT64",
    "FP16",
    "FP32",
    "FP64",
    "BYTES",
]
"""Tensor element types of the Open Inference Protocol v2."""


class TensorSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Name, element type and shape of a tensor; -1 is a dimension that a request chooses."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...]


class BundleFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One file of a bundle."""

    path: str
    sha256: Sha256
    size_bytes: SizeBytes


class Golden(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A raw input (npy, ``[N, *raw_shape]``) and the outputs that the model must give for it.

    ``expected`` is npy, the model's first output. Outputs may differ by ``tolerance``
    (``max |a-b| / max(1, max|b|)``): machines round differently.
    """

    inputs: str
    expected: str
    tolerance: float = 1e-3


class Lineage(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where a model came from; digests are SHA-256 in hex. ``fencing`` is the attempt's number.

    A slice of a model names the whole (``model_sha256``) and the plan; what the whole itself came from is known
    where the whole is a bundle.
    """

    dataset: str = ""
    manifest_sha256: Sha256 | None = None
    job_sha256: Sha256 | None = None
    job_key: str
    code_sha256: Sha256 | None = None
    plan_sha256: Sha256 | None = None
    model_sha256: Sha256 | msgspec.UnsetType = msgspec.UNSET
    fencing: int = 0


class Quantization(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the 8-bit variant compared with the model as it was trained, on ``samples`` held-out samples.

    ``accuracy`` and ``float_accuracy`` are shares of them (0..1), None of what was not measured.
    ``served``: the bundle's model is the variant. ``reason`` says why, or why not.
    """

    form: Literal["int8"] = "int8"
    served: bool
    reason: str
    float_accuracy: float | None = None
    accuracy: float | None = None
    samples: int = 0
    calibration_samples: int = 0
    float_size_bytes: int
    size_bytes: int | None = None


class BundleManifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a bundle holds; its own SHA-256 names the bundle and is what the signature signs.

    ``image``: how a picture becomes a sample of the ``raw`` form, where that form does not say it itself.
    """

    schema: Literal["isthmus/bundle/1"] = "isthmus/bundle/1"
    model: Name
    release: int
    files: tuple[BundleFile, ...]
    opset: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    raw: TensorSpec | None = None
    image: ImageForm | msgspec.UnsetType = msgspec.UNSET
    preprocessing: tuple[PreStep, ...] = ()
    postprocessing: tuple[PostStep, ...] = ()
    goldens: tuple[Golden, ...] = ()
    metrics: dict[str, float] = {}
    lineage: Lineage
    created_at: str
    allow_nan: bool = False
    quantization: Quantization | msgspec.UnsetType = msgspec.UNSET
