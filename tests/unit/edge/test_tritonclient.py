"""NVIDIA's client, unchanged, against the server of a core device: as JSON and as bytes, both say the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tritonclient.http as triton
from bundle_factory import LABELS, WEIGHTS, KeySigner, make_bundle
from tritonclient.utils import InferenceServerException

from isthmus.edge.server import EdgeServer
from isthmus.inference.http import HttpRequest, HttpResponse
from isthmus.inference.service import ModelService, served

X = np.float32([[1, 2, 3, 4], [4, 3, 2, 1]])


class Recorder:
    """A service that remembers what it was asked."""

    def __init__(self, service: ModelService) -> None:
        self.service, self.asked = service, list[HttpRequest]()

    def handle(self, request: HttpRequest) -> HttpResponse:
        self.asked.append(request)
        return self.service.handle(request)


@pytest.fixture
def behind(tmp_path: Path) -> Recorder:
    return Recorder(ModelService([served(make_bundle(tmp_path / "b", KeySigner()), threads=1)]))


@pytest.fixture
def client(behind: Recorder) -> Iterator[triton.InferenceServerClient]:
    server = EdgeServer(behind, 0, max_request_bytes=1_000_000)
    server.start()
    with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        yield client
    server.close()


def tensor(array: np.ndarray, name: str = "x", datatype: str = "FP32", *, binary: bool) -> triton.InferInput:
    made = triton.InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array, binary_data=binary)
    return made


def test_health_and_metadata(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("fashion")
    assert client.is_model_ready("fashion", "1")
    assert not client.is_model_ready("fashion", "2")
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    assert client.get_model_metadata("fashion", "1")["outputs"][0]["name"] == "logits"


@pytest.mark.parametrize("binary_in", [False, True])
@pytest.mark.parametrize("outputs", ["none", "json", "binary"])
def test_json_and_bytes_say_the_same(
    client: triton.InferenceServerClient, binary_in: bool, outputs: str
) -> None:
    wanted = (
        None
        if outputs == "none"
        else [triton.InferRequestedOutput("logits", binary_data=outputs == "binary")]
    )
    found = client.infer(
        "fashion", [tensor(X, binary=binary_in)], model_version="1", outputs=wanted, request_id="r-1"
    )
    assert found.get_response()["id"] == "r-1"
    np.testing.assert_allclose(found.as_numpy("logits"), X @ WEIGHTS, rtol=1e-6)


def test_labels_come_as_bytes(client: triton.InferenceServerClient) -> None:
    pixels = tensor(np.array([[[0, 0], [0, 255]]], np.uint8), "pixels", "UINT8", binary=True)
    found = client.infer("fashion", [pixels], parameters={"preprocess": True, "postprocess": True})
    assert found.as_numpy("label").tolist() == [[LABELS[2].encode(), LABELS[1].encode()]]


def test_at_the_same_time(client: triton.InferenceServerClient) -> None:
    waiting = [client.async_infer("fashion", [tensor(X * k, binary=k % 2 == 0)]) for k in range(4)]
    for k, answer in enumerate(waiting):
        np.testing.assert_allclose(answer.get_result().as_numpy("logits"), X * k @ WEIGHTS, rtol=1e-6)


def test_a_refusal_reaches_the_caller_as_a_sentence(client: triton.InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match="must be FP32, not FP64") as refused:
        client.infer("fashion", [tensor(X.astype(np.float64), datatype="FP64", binary=True)])
    assert refused.value.status() == "400"


def test_a_bearer_header_goes_along(client: triton.InferenceServerClient, behind: Recorder) -> None:
    client.infer("fashion", [tensor(X, binary=True)], headers={"Authorization": "Bearer a.b.c"})
    assert behind.asked[-1].header("authorization") == "Bearer a.b.c"
