"""Inputs in fewer bits, checksums and timing: what isthmus adds to the protocol for slices."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundle_factory import KeySigner, make_bundle

from isthmus.inference.http import BINARY, HttpRequest, HttpResponse
from isthmus.inference.service import ModelService, served

X = np.array([[0.0, 1.0, -2.0, 4.0], [3.5, 0.25, 8.0, -1.0]], np.float32)


@pytest.fixture
def service(tmp_path: Path, signer: KeySigner) -> ModelService:
    return ModelService([served(make_bundle(tmp_path / "bundle", signer), threads=1)])


def ask(
    service: ModelService, body: bytes, tensor: dict[str, Any] | None = None, **parameters: Any
) -> HttpResponse:
    given = {"binary_data_size": len(body), **(tensor or {})}
    inputs = [{"name": "x", "datatype": "FP32", "shape": [2, 4], "parameters": given}]
    text = json.dumps({"inputs": inputs, "parameters": parameters}).encode()
    headers = {"content-type": BINARY, "inference-header-content-length": str(len(text))}
    return service.handle(HttpRequest("POST", "/v2/models/fashion/infer", headers, text + body))


def logits(response: HttpResponse) -> np.ndarray:
    assert response.status == 200, response.body
    return np.array(json.loads(response.body)["outputs"][0]["data"], np.float32).reshape(2, 3)


def halves() -> bytes:
    return X.astype("<f2").tobytes()


def eighths(channels: int) -> bytes:
    """Least value and scale of each channel (axis 1), or one of all, then the levels."""
    rows = X.T if channels > 1 else X.reshape(1, -1)
    least, scale = rows.min(axis=1), np.maximum(np.ptp(rows, axis=1) / 255, 1e-9)
    levels = np.rint((rows - least[:, None]) / scale[:, None]).astype(np.uint8)
    levels = levels.T if channels > 1 else levels.reshape(X.shape)
    return np.stack([least, scale], axis=1).astype("<f4").tobytes() + np.ascontiguousarray(levels).tobytes()


def test_narrow_inputs_are_widened(service: ModelService) -> None:
    whole = logits(ask(service, X.tobytes()))
    assert logits(ask(service, halves(), {"isthmus_cast": "float16"})) == pytest.approx(whole, rel=2e-3)
    for channels in (1, 4):
        narrow = ask(service, eighths(channels), {"isthmus_cast": "int8", "isthmus_channels": channels})
        assert np.abs(logits(narrow) - whole).max() <= 0.02 * np.ptp(whole)


@pytest.mark.parametrize(
    ("body", "tensor", "why"),
    [
        (X.tobytes(), {"isthmus_cast": "int4"}, "must be float16 or int8, of FP32, not 'int4'"),
        (X.tobytes(), {"isthmus_cast": ["int8"]}, "must be float16 or int8"),
        (X.tobytes(), {"isthmus_cast": "float16"}, "as float16 needs 16 bytes, not 32"),
        (halves(), {"isthmus_cast": "float16", "isthmus_channels": 4}, "must be one of [0]"),
        (eighths(4), {"isthmus_cast": "int8", "isthmus_channels": 1}, "as int8 needs 16 bytes, not 40"),
        (eighths(4), {"isthmus_cast": "int8", "isthmus_channels": 3}, "must be one of [1, 4]"),
        (eighths(1), {"isthmus_cast": "int8", "isthmus_channels": True}, "must be one of [1, 4]"),
        (eighths(1), {"isthmus_cast": "int8", "isthmus_channels": [1]}, "must be one of [1, 4]"),
        (
            struct.pack("<ff", 0, float("nan")) + bytes(8),
            {"isthmus_cast": "int8", "isthmus_channels": 1},
            "NaN",
        ),
        (X.tobytes(), {"isthmus_crc32": 1}, "are not those that were sent: their CRC-32 differs"),
        (X.tobytes(), {"isthmus_crc32": "no"}, "are not those that were sent"),
    ],
)
def test_what_does_not_fit_is_refused(service: ModelService, body: bytes, tensor: Any, why: str) -> None:
    response = ask(service, body, tensor)
    assert response.status == 400
    assert why in json.loads(response.body)["error"]


def test_checksums_and_seconds_come_when_they_are_asked_for(service: ModelService) -> None:
    plain = json.loads(ask(service, X.tobytes()).body)
    assert set(plain) == {"model_name", "model_version", "outputs"}
    asked = {"isthmus_crc32": True, "isthmus_timing": True, "binary_data_output": True}
    response = ask(service, X.tobytes(), {"isthmus_crc32": zlib.crc32(X.tobytes())}, **asked)
    length = int(response.headers["inference-header-content-length"])
    told, data = json.loads(response.body[:length]), response.body[length:]
    assert told["outputs"][0]["parameters"] == {
        "binary_data_size": len(data),
        "isthmus_crc32": zlib.crc32(data),
    }
    assert 0 < told["parameters"]["isthmus_seconds"] < 60
    assert ask(service, X.tobytes(), isthmus_timing="yes").status == 400
