"""``POST …/infer``: a request's tensors, in JSON or as bytes, through a model and back.

Request parameters extend the protocol: ``preprocess`` (the input is in the bundle's raw form), ``postprocess`` (the
outputs of the bundle's post-processing are added), ``isthmus_crc32`` (each output that comes as bytes has their
CRC-32 among its parameters; an input that brings one is checked), ``isthmus_timing`` (the response's parameters say
how many seconds the model took).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from isthmus.errors import InvalidRequest, PayloadTooLarge, UnsupportedMediaType
from isthmus.inference.binary import (
    CRC32,
    HEADER,
    SIZE,
    crc32,
    read_binary,
    share_out,
    split_body,
    write_binary,
)
from isthmus.inference.datatypes import from_numpy
from isthmus.inference.http import BINARY, JSON, HttpRequest, HttpResponse, json_response
from isthmus.inference.messages import InferRequest, InferResponse, RequestedOutput
from isthmus.inference.served import ServedModel
from isthmus.inference.tensors import OutputTensor, read_tensor, write_tensor
from isthmus.model.units import MIB, format_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_JSON_BYTES = 6 * MIB
"""Of a request: parsed, JSON takes up to 35 times its size of memory, where bytes take their own."""

TIMING = "isthmus_timing"
SECONDS = "isthmus_seconds"

_decoder = msgspec.json.Decoder(InferRequest)


def infer(request: HttpRequest, model: ServedModel, max_request_bytes: int) -> HttpResponse:
    """Run the model on a request's tensors.

    Raises:
        InvalidRequest: the request does not fit; the message says how.
        InvalidModel: the model fails, or gives what cannot be sent.
    """
    call, rest = parse(request, max_request_bytes)
    raw = _flag(call.parameters, "preprocess")
    arrays = read_inputs(call, rest, model, raw=raw)
    began = time.perf_counter()
    placed = model.answer(arrays, call.parameters, raw=raw)
    told, outputs = dict(placed.parameters), placed.outputs
    if _flag(call.parameters, TIMING):
        told[SECONDS] = round(time.perf_counter() - began, 6)
    extra = model.finish(outputs) if _flag(call.parameters, "postprocess") else {}
    chosen = choose_outputs([output.name for output in call.outputs], list(outputs), list(extra))
    chosen_arrays: dict[str, Any] = {name: outputs.get(name, extra.get(name)) for name in chosen}
    return write_response(call, model, chosen_arrays, told)


def parse(request: HttpRequest, max_request_bytes: int) -> tuple[InferRequest, memoryview]:
    """Check size, then media type, then parse; return the request and the bytes after its JSON object.

    Raises:
        PayloadTooLarge, UnsupportedMediaType, InvalidRequest
    """
    check_size(request, max_request_bytes)
    media = request.media_type
    # Clients of the ecosystem name no type, or that of bytes, when some tensors are binary.
    if media not in ("", JSON) and not (media == BINARY and request.header(HEADER)):
        raise UnsupportedMediaType(f"the body must be {JSON}, or {BINARY} with {HEADER}, not {media[:100]!r}")
    text, rest = split_body(request)
    if len(text) > MAX_JSON_BYTES:
        raise PayloadTooLarge(
            f"the request's JSON is {format_bytes(len(text))}; at most {format_bytes(MAX_JSON_BYTES)} is taken: "
            f"send tensors as bytes ({SIZE}), or smaller batches"
        )
    try:
        return _decoder.decode(text), rest
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"the body is not an inference request: {error}") from error


def check_size(request: HttpRequest, max_request_bytes: int) -> None:
    """Check what holds for every body.

    Raises:
        PayloadTooLarge, UnsupportedMediaType
    """
    if len(request.body) > max_request_bytes:
        raise PayloadTooLarge(
            f"the request is {format_bytes(len(request.body))}; "
            f"at most {format_bytes(max_request_bytes)} is taken"
        )
    if request.header("content-encoding") not in ("", "identity"):
        raise UnsupportedMediaType("the body must not be compressed")


def read_inputs(
    call: InferRequest, rest: memoryview, model: ServedModel, *, raw: bool
) -> dict[str, NDArray[Any]]:
    """Return the arrays of a request by name: each input once, none missing, none unknown.

    Raises:
        InvalidRequest
    """
    specs = {spec.name: spec for spec in model.expected_inputs(raw=raw)}
    given = [tensor.name for tensor in call.inputs]
    needed = ", ".join(specs)
    if unknown := [name for name in given if name not in specs]:
        raise InvalidRequest(f"input {unknown[0][:100]!r} is unknown; needed: {needed}")
    if missing := [name for name in specs if name not in given]:
        raise InvalidRequest(
            f"input {missing[0]!r} is missing; needed: {needed}; given: {', '.join(given) or 'none'}"
        )
    if len(given) != len(specs):
        raise InvalidRequest(f"an input is given twice; needed, once each: {needed}")
    nan = model.manifest.allow_nan
    return {
        tensor.name: read_tensor(tensor, specs[tensor.name], allow_nan=nan)
        if piece is None
        else read_binary(tensor, piece, specs[tensor.name], allow_nan=nan)
        for tensor, piece in zip(call.inputs, share_out(call.inputs, rest), strict=True)
    }


def choose_outputs(asked: list[str], outputs: list[str], extra: list[str]) -> list[str]:
    """Return the outputs to send: those asked for, or all; post-processed ones unless some are asked for.

    Raises:
        InvalidRequest: an unknown name, or one that is asked for twice.
    """
    if unknown := [name for name in asked if name not in outputs + extra]:
        raise InvalidRequest(
            f"output {unknown[0][:100]!r} is unknown; there are: {', '.join(outputs + extra)}"
        )
    if len(set(asked)) != len(asked):
        raise InvalidRequest(f"an output is asked for twice: {', '.join(asked)}")
    if not asked:
        return outputs + extra
    return asked if set(asked) & set(extra) else asked + extra


def write_response(
    call: InferRequest, model: ServedModel, arrays: Mapping[str, Any], parameters: dict[str, Any]
) -> HttpResponse:
    """Return the answer: JSON, and after it the bytes of the outputs that are asked for as such.

    Raises:
        InvalidRequest: ``binary_data`` or ``binary_data_output`` is neither true nor false.
        InvalidModel: an output cannot be sent.
    """
    wanted = _binary_outputs(call, arrays)
    pieces = {name: write_binary(name, arrays[name]) for name in wanted}
    sums = {name: {CRC32: crc32(pieces[name])} for name in wanted} if _flag(call.parameters, CRC32) else {}
    answer = InferResponse(
        model_name=model.name,
        model_version=model.version,
        id=call.id,
        parameters=parameters,
        outputs=[
            _described(name, array, {SIZE: len(pieces[name]), **sums.get(name, {})})
            if name in pieces
            else write_tensor(name, array)
            for name, array in arrays.items()
        ],
    )
    if not pieces:
        return json_response(answer)
    text = msgspec.json.encode(answer)
    return HttpResponse(
        200, b"".join((text, *pieces.values())), {"content-type": BINARY, HEADER: str(len(text))}
    )


def _binary_outputs(call: InferRequest, names: Mapping[str, Any]) -> list[str]:
    default = _flag(call.parameters, "binary_data_output")
    asked = {output.name: _asks_for_bytes(output, default) for output in call.outputs}
    return [name for name in names if asked.get(name, default)]


def _asks_for_bytes(output: RequestedOutput, default: bool) -> bool:
    if unsupported := sorted({"classification", "shared_memory_region"} & set(output.parameters)):
        raise InvalidRequest(
            f"output {output.name[:100]!r} asks for {unsupported[0]!r}, which this server does not know; "
            "the request's parameter 'postprocess' adds classes and labels"
        )
    return _flag(output.parameters, "binary_data") if "binary_data" in output.parameters else default


def _described(name: str, array: NDArray[Any], parameters: dict[str, Any]) -> OutputTensor:
    return OutputTensor(
        name=name, datatype=from_numpy(array.dtype), shape=list(array.shape), parameters=parameters
    )


def _flag(parameters: Mapping[str, Any], name: str) -> bool:
    value = parameters.get(name, False)
    if not isinstance(value, bool):
        raise InvalidRequest(f"parameter {name!r} must be true or false, not {value!r}"[:300])
    return value
