"""Proving a bundle on its goldens: in this process, or through a deployed version's own door."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from isthmus.errors import InvalidInput, ProofFailed
from isthmus.inference.bundle import Bundle
from isthmus.inference.http import JSON, HttpRequest, HttpResponse
from isthmus.inference.messages import InferResponse
from isthmus.inference.served import ServedModel
from isthmus.inference.tensors import array_of, write_tensor
from isthmus.model.bundle import Golden, TensorSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_ELEMENTS = 200_000
"""Of one golden request: as decimal numbers in JSON at most about 4 MB."""


def prove(bundle: Bundle, model: ServedModel) -> float:
    """Run every golden; return the largest relative error (0.0 without goldens).

    Raises:
        ProofFailed: an answer differs by more than its golden's tolerance, or none came.
    """
    worst = 0.0
    raw = bundle.manifest.raw is not None
    for golden, inputs, expected in bundle.goldens():
        try:
            name = bundle.manifest.inputs[0].name
            outputs = model.run({name: inputs}, raw=raw)
        except InvalidInput as error:
            raise ProofFailed(f"golden {golden.inputs} cannot be run: {error}") from error
        worst = max(worst, check_golden(golden, outputs[bundle.manifest.outputs[0].name], expected))
    return worst


def check_golden(golden: Golden, actual: NDArray[Any], expected: NDArray[Any]) -> float:
    """Return ``max |a-b| / max(1, max|b|)``.

    Raises:
        ProofFailed: over the golden's tolerance, another shape, or NaN where none is expected.
    """
    import numpy as np

    if actual.shape != expected.shape:
        raise ProofFailed(
            f"golden {golden.inputs}: got shape {list(actual.shape)}, not {list(expected.shape)}"
        )
    if actual.size == 0:
        raise ProofFailed(f"golden {golden.inputs} is empty and proves nothing")
    a, b = actual.astype(np.float64), expected.astype(np.float64)
    error = float(np.abs(a - b).max() / max(1.0, float(np.abs(b).max())))
    # Not "error > tolerance": a comparison with NaN must fail the proof.
    if not error <= golden.tolerance:
        raise ProofFailed(
            f"golden {golden.inputs} differs by {error:.3g}; at most {golden.tolerance:.3g} is allowed"
        )
    return error


def golden_requests(bundle: Bundle) -> list[tuple[Golden, HttpRequest, NDArray[Any]]]:
    """Return the goldens as requests that a client would send, each with its expected first output.

    A golden with many samples becomes several requests, so that none nears Lambda's limit.
    """
    manifest = bundle.manifest
    path = f"/v2/models/{manifest.model}/versions/{manifest.release}/infer"
    spec = manifest.raw or manifest.inputs[0]
    requests = []
    for golden, inputs, expected in bundle.goldens():
        for rows in _batches(spec, inputs, expected):
            body = {
                "id": golden.inputs,
                "parameters": {"preprocess": manifest.raw is not None},
                "inputs": [write_tensor(spec.name, inputs[rows])],
                "outputs": [{"name": manifest.outputs[0].name}],
            }
            request = HttpRequest("POST", path, {"content-type": JSON}, msgspec.json.encode(body))
            requests.append((golden, request, expected[rows]))
    return requests


def _batches(spec: TensorSpec, inputs: NDArray[Any], expected: NDArray[Any]) -> list[slice]:
    """Return half-open ranges of samples, as many in each as one request carries."""
    count = len(inputs)
    if spec.shape[:1] != (-1,) or expected.shape[:1] != (count,):
        return [slice(0, count)]
    size = max(1, MAX_ELEMENTS // max(1, inputs[0].size))
    return [slice(start, start + size) for start in range(0, count, size)]


def check_golden_response(golden: Golden, response: HttpResponse, expected: NDArray[Any]) -> float:
    """Return the relative error of a response to a golden's request.

    Raises:
        ProofFailed: an error status, no readable body, or a wrong answer.
    """
    if response.status != 200:
        raise ProofFailed(f"golden {golden.inputs}: status {response.status}, {response.body[:500]!r}")
    try:
        answer = msgspec.json.decode(response.body, type=InferResponse)
        actual = array_of(answer.outputs[0])
    except (msgspec.DecodeError, IndexError, ValueError) as error:
        raise ProofFailed(f"golden {golden.inputs}: the answer cannot be read: {error}") from error
    return check_golden(golden, actual, expected)
