"""The JSON bodies of the Open Inference Protocol v2 (REST) as structs; the OpenAPI document is made of them.

Source: kserve/open-inference-protocol, ``specification/protocol/inference_rest.md`` and
``open_inference_rest.yaml``; ``Classification`` and what belongs to it is ours, and so are ``Wish`` and ``Offer``.
"""

from __future__ import annotations

from typing import Any

import msgspec

from isthmus.inference.tensors import InputTensor, OutputTensor
from isthmus.model.blob import Sha256
from isthmus.model.bundle import TensorSpec


class ServerMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """Who answers, and which extensions of the protocol it knows."""

    name: str
    version: str
    extensions: list[str]


class ServerLive(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the server takes requests."""

    live: bool


class ServerReady(msgspec.Struct, frozen=True, kw_only=True):
    """Whether every model can answer."""

    ready: bool


class ModelReady(msgspec.Struct, frozen=True, kw_only=True):
    """Whether one model can answer."""

    name: str
    ready: bool


class ModelMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """What a model takes and gives; a dimension of -1 is the request's to choose.

    ``raw``, where the bundle has one: what a request with the parameter ``preprocess`` brings instead.
    """

    name: str
    versions: list[str]
    platform: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    raw: TensorSpec | msgspec.UnsetType = msgspec.UNSET


class RequestedOutput(msgspec.Struct, frozen=True, kw_only=True):
    """An output that the client wants; ``binary_data`` in its parameters asks for it as bytes."""

    name: str
    parameters: dict[str, Any] = {}


class InferRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a model is to work on. Parameters: ``preprocess``, ``postprocess``, ``binary_data_output``,
    ``isthmus_crc32``, ``isthmus_timing``; of a split model also ``isthmus_placement``, ``isthmus_deadline_seconds``."""

    inputs: list[InputTensor]
    outputs: list[RequestedOutput] = []
    id: str | None = None
    parameters: dict[str, Any] = {}


class InferResponse(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the model made of it."""

    model_name: str
    model_version: str
    outputs: list[OutputTensor]
    id: str | None = None
    parameters: dict[str, Any] = {}


class Guess(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One class of a picture; ``index`` is its place in the model's output, ``label`` its name in the bundle."""

    index: int
    score: float
    label: str | None = None


class Classification(msgspec.Struct, frozen=True, kw_only=True):
    """What a picture shows, best guess first."""

    model_name: str
    model_version: str
    classes: list[Guess]


class Wish(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body that a caller wants to hand over."""

    size_bytes: int
    sha256: Sha256


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """Where to put a body: ``method`` on ``url`` with exactly these headers, until ``expires_at`` (UTC seconds)."""

    id: str
    method: str
    url: str
    headers: dict[str, str]
    expires_at: int


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Why a request was not answered, in one sentence."""

    error: str
