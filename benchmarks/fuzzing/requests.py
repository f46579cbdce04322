"""Requests for hypothesis to make: right ones, nearly right ones, lies about size and shape, and noise."""

from __future__ import annotations

import base64
import functools
import io
import json
import math
import struct
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from benchmarks.fuzzing.models import DATATYPES, INPUTS

LENGTH_HEADER = "Inference-Header-Content-Length"
HANDOVER_HEADERS = ("Isthmus-Handover", "isthmus-handover-answer")
BIG = 6 * 1024 * 1024
SIZES = {
    "BOOL": 1,
    "UINT8": 1,
    "INT8": 1,
    "UINT16": 2,
    "INT16": 2,
    "FP16": 2,
    "UINT32": 4,
    "INT32": 4,
    "FP32": 4,
}


@dataclass(frozen=True)
class Asked:
    """A request, before it is an event or a line on a wire."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


@functools.cache
def _below(count: int) -> st.SearchStrategy[int]:
    return st.integers(0, count - 1)


def once_in(draw: st.DrawFn, count: int) -> bool:
    """Return True once in so many draws, about."""
    return draw(_below(count)) == count - 1


ODD_TEXT = st.one_of(
    st.text(max_size=12),
    st.sampled_from(["", "\x00", "\ud800", "..", "%2e%2e", "%", "%ff", "a" * 5000, "'", "💥", "NaN", "-1"]),
)
ODD_NUMBERS = st.one_of(
    st.integers(-3, 9),
    st.sampled_from(
        [0, -1, 2**31, 2**32, 2**53 + 1, 2**63 - 1, 2**63, 2**64, 10**30, -(2**63), 1e308, 3.5e38, 1e-320]
    ),
    st.floats(width=64),
)
ODD_VALUES = st.one_of(
    ODD_NUMBERS, ODD_TEXT, st.none(), st.booleans(), st.just([]), st.just({}), st.just([[[]]])
)
ODD_SHAPES = st.one_of(
    st.lists(st.integers(-2, 5), max_size=4),
    st.lists(st.sampled_from([0, 1, -1, 2**31, 2**62, 2**63, 2**64, 1.5, True, "2", None]), max_size=4),
    st.just([1] * 2000),
    st.just([2**31, 2**31]),
    ODD_VALUES,
)
ODD_DATA = st.one_of(
    st.lists(ODD_VALUES, max_size=6),
    st.recursive(st.lists(ODD_VALUES, max_size=3), lambda inner: st.lists(inner, max_size=3), max_leaves=8),
    ODD_VALUES,
)
MODELS = st.sampled_from(sorted(INPUTS))


@functools.cache
def elements(datatype: str) -> st.SearchStrategy[Any]:
    """Return values that the datatype can hold."""
    if datatype == "BOOL":
        return st.booleans()
    if datatype == "BYTES":
        return st.text(max_size=6)
    bits = int(datatype.lstrip("UINTFP"))
    if datatype.startswith("FP"):
        return st.floats(width=bits, allow_nan=False, allow_infinity=False)  # type: ignore[arg-type]
    return (
        st.integers(0, 2**bits - 1)
        if datatype[0] == "U"
        else st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    )


PLAIN = {name: {"BOOL": True, "BYTES": "a"}.get(name, 1) for name in DATATYPES}
ODDITIES = st.sampled_from(
    ["values"] * 4 + ["name", "datatype", "shape", "data", "parameters", "missing", "extra"]
)
ODD_DATATYPES = st.one_of(st.sampled_from([*DATATYPES, "FP8"]), ODD_VALUES)


def shape_for(model: str, name: str, count: int) -> list[int]:
    """Return the shape with which an input is right, for so many rows."""
    if model == "pictures":
        return [count, 8, 8] if name == "pixels" else [count, 64]
    return [count]


def _tensor(model: str, name: str, count: int) -> dict[str, Any]:
    datatype, shape = INPUTS[model][name], shape_for(model, name, count)
    return {"name": name, "datatype": datatype, "shape": shape, "data": [PLAIN[datatype]] * math.prod(shape)}


def spoil(draw: st.DrawFn, tensor: dict[str, Any]) -> None:
    """Give a tensor drawn values, or make a part of it odd."""
    match draw(ODDITIES):
        case "values":
            one = draw(elements(tensor["datatype"]))
            tensor["data"] = [*tensor["data"][1:], one]
        case "name":
            tensor["name"] = draw(ODD_TEXT)
        case "datatype":
            tensor["datatype"] = draw(ODD_DATATYPES)
        case "shape":
            tensor["shape"] = draw(ODD_SHAPES)
        case "data":
            tensor["data"] = draw(ODD_DATA)
        case "parameters":
            tensor["parameters"] = {"binary_data_size": draw(ODD_VALUES)}
        case "missing":
            del tensor[draw(PARTS)]
        case "extra":
            tensor[draw(ODD_TEXT)] = draw(ODD_VALUES)


PARTS = st.sampled_from(["name", "datatype", "shape", "data"])
REQUEST_ODDITIES = st.sampled_from(["id", "outputs", "parameters", "inputs", "again"])
KNOWN_OUTPUTS = [{"name": "logits"}, {"name": "y"}, {"name": "label"}, {"name": "out_fp32"}]
ODD_OUTPUTS = st.lists(
    st.one_of(st.sampled_from(KNOWN_OUTPUTS), st.fixed_dictionaries({"name": ODD_TEXT}), ODD_VALUES),
    max_size=3,
)
ODD_PARAMETERS = st.one_of(st.dictionaries(ODD_TEXT, ODD_VALUES, max_size=3), ODD_VALUES)
ODD_INPUTS = st.one_of(ODD_VALUES, st.lists(ODD_VALUES, max_size=3))


def inference(draw: st.DrawFn, model: str) -> dict[str, Any]:
    """Return the JSON object of an inference: right, but for one tensor or one other part."""
    raw = model == "pictures" and draw(st.booleans())
    names = ["pixels"] if raw else [name for name in INPUTS[model] if name != "pixels"]
    count = 1 + draw(_below(3))
    inputs = [_tensor(model, name, count) for name in names]
    spoil(draw, inputs[draw(_below(len(inputs)))])
    request: dict[str, Any] = {"inputs": inputs, "parameters": {"preprocess": True} if raw else {}}
    flags = draw(_below(4))
    if flags & 1:
        request["parameters"]["postprocess"] = True
    if flags & 2:
        request["parameters"]["binary_data_output"] = True
    if once_in(draw, 5):
        match draw(REQUEST_ODDITIES):
            case "id":
                request["id"] = draw(ODD_VALUES)
            case "outputs":
                request["outputs"] = draw(ODD_OUTPUTS)
            case "parameters":
                request["parameters"] = draw(ODD_PARAMETERS)
            case "inputs":
                request["inputs"] = draw(ODD_INPUTS)
            case "again":
                request["inputs"] = inputs * 2
    return request


def as_bytes(data: Any, datatype: Any) -> bytes:
    """Return the bytes of a tensor's data where it is right; else what it is as JSON."""
    formats = {
        "BOOL": "?", "UINT8": "B", "UINT16": "H", "UINT32": "I", "UINT64": "Q", "INT8": "b", "INT16": "h",
        "INT32": "i", "INT64": "q", "FP16": "e", "FP32": "f", "FP64": "d",
    }  # fmt: skip
    try:
        if datatype == "BYTES":
            return b"".join(struct.pack("<I", len(text.encode())) + text.encode() for text in data)
        return struct.pack(f"<{len(data)}{formats[datatype]}", *data)
    except (KeyError, TypeError, AttributeError, UnicodeEncodeError, struct.error, OverflowError):
        return json.dumps(data).encode()


ODD_LENGTHS = ["-1", "0", str(2**63), "9" * 5000, "1e3", " 7", "٣", ""]


def binary_body(draw: st.DrawFn, request: dict[str, Any]) -> tuple[dict[str, str], bytes]:
    """Return headers and body with the tensors as bytes after the JSON object, or lies about where they are."""
    pieces = []
    inputs = request["inputs"] if isinstance(request["inputs"], list) else []
    liar = draw(_below(2 * len(inputs) + 2))
    for number, tensor in enumerate(inputs):
        if isinstance(tensor, dict) and "data" in tensor:
            piece = as_bytes(tensor.pop("data"), tensor.get("datatype"))
            size: Any = len(piece)
            if number == liar:
                piece = [piece, piece[:-1], piece + b"\xff", b""][draw(_below(4))]
                size = draw(ODD_VALUES) if draw(st.booleans()) else len(piece)
            pieces.append(piece)
            tensor["parameters"] = {"binary_data_size": size}
    text = json.dumps(request).encode()
    said = str(len(text))
    if once_in(draw, 8):
        said = [*ODD_LENGTHS, str(len(text) + 1), str(len(text) - 1)][draw(_below(len(ODD_LENGTHS) + 2))]
    return {LENGTH_HEADER: said}, text + b"".join(pieces)


TOKENS = [
    b"\xff",
    b"\x00",
    b"[",
    b"]",
    b"{",
    b"}",
    b'"',
    b",",
    b"-",
    b"1e999",
    b"NaN",
    b"Infinity",
    b"\\ud800",
]
PIECES = st.one_of(st.binary(max_size=6), st.sampled_from(TOKENS))


def mutate(draw: st.DrawFn, body: bytes) -> bytes:
    """Return a body of which some bytes were changed, removed, put in or said twice."""
    changed = bytearray(body)
    for _ in range(1 + draw(_below(3))):
        at = draw(_below(max(len(changed), 1)))
        match draw(_below(5)):
            case 0:
                changed[at : at + 1] = bytes([draw(_below(256))])
            case 1:
                del changed[at:]
            case 2:
                del changed[at : at + 1 + draw(_below(9))]
            case 3:
                changed[at:at] = draw(PIECES)
            case _:
                changed[at:at] = changed[at : at + 40]
    return bytes(changed)


def _inputs_of(model: str, shape: list[int], data: str) -> bytes:
    (name,) = INPUTS[model]
    tensor = (
        f'{{"name":"{name}","datatype":"{INPUTS[model][name]}","shape":{json.dumps(shape)},"data":{data}}}'
    )
    return f'{{"inputs":[{tensor}]}}'.encode()


_ONE = b'{"name":"x","datatype":"FP32","shape":[1],"data":[1]}'
HUGE = {
    "deep arrays": b"[" * BIG,
    "deep objects": b'{"a":' * (BIG // 5),
    "deep data": _inputs_of("large", [1], "[" * 100_000 + "]" * 100_000),
    "deep parameters": b'{"inputs":[],"parameters":{"a":' + b"[" * 50_000 + b"]" * 50_000 + b"}}",
    "numbers": _inputs_of("large", [3_000_000], "[" + ",".join(["0"] * 3_000_000) + "]"),
    "numbers that answer long": _inputs_of("large", [1000], json.dumps([1.25] * 1000)),
    "numbers that answer longer": _inputs_of("large", [60_000], json.dumps([1] * 60_000)),
    "names of numbers": _inputs_of("large", [600_000], "[" + ",".join(['"NaN"'] * 600_000) + "]"),
    "one long number": _inputs_of("lookup", [1], "[" + "9" * 1_000_000 + "]"),
    "one long float": _inputs_of("large", [1], "[0." + "9" * 1_000_000 + "e-5]"),
    "many inputs": b'{"inputs":[' + b",".join([_ONE] * 90_000) + b"]}",
    "zeros": b"\0" * BIG,
    "over the limit": b" " * (BIG + 1),
}  # fmt: skip


def _picture(kind: str, size: tuple[int, int]) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.new("L", size, 77).save(stream, kind)
    return stream.getvalue()


PICTURES = {
    "image/png": [_picture("PNG", (9, 7)), _picture("PNG", (1, 1)), _picture("PNG", (5000, 5000))],
    "image/jpeg": [_picture("JPEG", (9, 7)), _picture("JPEG", (3000, 3000))],
}


MEDIA = st.sampled_from(sorted(PICTURES))
ODD_MEDIA = st.sampled_from(["image/gif", "image/png", "image/jpeg", ""])
NOISE = st.binary(max_size=60)


def picture(draw: st.DrawFn) -> tuple[dict[str, str], bytes]:
    """Return headers and body of a picture, or of what is left of one."""
    media = draw(MEDIA)
    small, *others = PICTURES[media]
    data = others[draw(_below(len(others)))] if once_in(draw, 60) else small
    told = draw(ODD_MEDIA) if once_in(draw, 8) else media
    what = draw(_below(8))
    return {"Content-Type": told}, data if what < 3 else draw(NOISE) if what == 3 else mutate(draw, data)


VERBS = st.sampled_from(["infer"] * 8 + ["classify"] * 2 + ["", "ready", "odd", "handover"])
ODD_WISHES = st.fixed_dictionaries(
    {}, optional={"size_bytes": ODD_VALUES, "sha256": st.one_of(st.just("0" * 64), ODD_TEXT), "x": ODD_VALUES}
)
ODD_VERSIONS = st.builds("/versions/{}".format, st.one_of(st.just("1"), ODD_TEXT))
ODD_PATHS = st.one_of(
    st.sampled_from(["/v2", "/v2/", "/v2/health/ready", "/v2/openapi.json", "/", "", "//v2"]), ODD_TEXT
)
ODD_QUERIES = st.dictionaries(st.one_of(st.just("top_k"), ODD_TEXT), ODD_TEXT, max_size=2)
ODD_METHODS = st.one_of(st.sampled_from(["GET", "PUT", "HEAD", "post", ""]), ODD_TEXT)
ODD_HEADERS = st.dictionaries(
    st.sampled_from(
        [
            "Content-Type",
            "content-encoding",
            LENGTH_HEADER.lower(),
            "Accept",
            "Expect",
            "X-Odd",
            *HANDOVER_HEADERS,
        ]
    ),
    st.one_of(
        st.sampled_from(["application/json", "application/octet-stream", "gzip", "identity", "100-continue"]),
        ODD_TEXT,
    ),
    max_size=2,
)
ODD_FIELDS = st.one_of(ODD_VALUES, st.dictionaries(ODD_TEXT, ODD_VALUES, max_size=2), st.just([1]))
HUGE_NAMES = st.sampled_from(sorted(HUGE))


def request(draw: st.DrawFn) -> Asked:
    """Return a request of any kind, mostly inferences that are nearly right."""
    model, verb = draw(MODELS), draw(VERBS)
    named = draw(ODD_TEXT) if once_in(draw, 12) else model
    version = draw(ODD_VERSIONS) if once_in(draw, 6) else ""
    rest = f"/{draw(ODD_TEXT)}" if verb == "odd" else f"/{verb}" if verb else ""
    path = draw(ODD_PATHS) if once_in(draw, 12) else f"/v2/models/{named}{version}{rest}"
    query = draw(ODD_QUERIES) if once_in(draw, 6) else {}
    headers, body = _headers_and_body(draw, model, verb)
    if once_in(draw, 6):
        headers = {**headers, **draw(ODD_HEADERS)}
    method = draw(ODD_METHODS) if once_in(draw, 12) else "GET" if verb in ("", "ready") else "POST"
    return Asked(method, path, query, headers, body)


def _headers_and_body(draw: st.DrawFn, model: str, verb: str) -> tuple[dict[str, str], bytes]:
    if once_in(draw, 400):
        return {}, HUGE[draw(HUGE_NAMES)]
    if verb == "classify":
        return picture(draw)
    if verb == "handover":
        return {}, json.dumps(draw(ODD_WISHES)).encode()
    if verb != "infer":
        return {}, draw(NOISE) if once_in(draw, 4) else b""
    asked = inference(draw, model)
    headers, body = binary_body(draw, asked) if draw(st.booleans()) else ({}, json.dumps(asked).encode())
    return headers, mutate(draw, body) if once_in(draw, 4) else body


@st.composite
def events(draw: st.DrawFn) -> Any:
    """Return an event of API Gateway's proxy integration, or nearly one."""
    asked = request(draw)
    packed = draw(st.booleans())
    event: dict[str, Any] = {
        "httpMethod": asked.method,
        "path": asked.path,
        "queryStringParameters": asked.query or None,
        "headers": asked.headers,
        "body": base64.b64encode(asked.body).decode()
        if packed
        else asked.body.decode(errors="surrogateescape"),
        "isBase64Encoded": packed,
    }
    if once_in(draw, 12):
        name = sorted(event)[draw(_below(len(event)))]
        if draw(st.booleans()):
            del event[name]
        else:
            event[name] = draw(ODD_FIELDS)
    return event
