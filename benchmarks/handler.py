"""handler: how much of a warm function's time is the model's own.

The function's own handler (``functions/serve_model``, with its logger) answers API Gateway events that hold one
picture of 224 x 224 x 3 bytes, in base64: the protocol's binary tensors in a proxy event. It decodes, turns the
picture around, scales each channel, runs MobileNet-v2 (``benchmarks/networks.py``), and answers with a thousand
scores. ``reference`` is ``session.run`` of the same model outside the handler, at the fastest of its settings here
(threads; optimised as it loads, or before); ``ratio`` is the reference over the handler's time. ``binary_ratio`` is
the same without API Gateway, of a request in process whose tensors are the network's own floats, in and out, as
``isthmus.Client`` writes it; ``unaligned_ratio`` is of one whose JSON another client ended anywhere, so that no float
begins at a multiple of its size.

All take turns in one process; of each the quickest round counts: what the machine does when nothing else disturbs
it. The ratio of the medians is printed beside. A machine that is busy otherwise has no core for the second thread.
"""

from __future__ import annotations

import base64
import functools
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.networks import write
from benchmarks.report import report
from isthmus.adapters.local.signer import MemorySigner
from isthmus.client.wire import write_request
from isthmus.inference.bundle import describe_files, seal_bundle
from isthmus.inference.http import BINARY, HttpRequest
from isthmus.inference.onnx_model import describe_onnx, open_session, optimise
from isthmus.inference.processing import preprocess
from isthmus.inference.runtime import MEMORY_MB_PER_VCPU, session_options
from isthmus.model.bundle import MODEL_FILE, BundleManifest, Lineage, TensorSpec
from isthmus.model.processing import Affine, Normalize, Transpose

ROUNDS, CHOOSING, TURN = 80, 8, 5
BINARY_GOAL = 0.95
OURS = ("handler", "binary", "unaligned")
SHAPE = (1, 224, 224, 3)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet, as torchvision's models want it."""
PATH = "/v2/models/mobilenet/infer"


class Context:
    """What Lambda hands to a handler, as far as the logger reads it."""

    function_name = memory_limit_in_mb = invoked_function_arn = aws_request_id = "benchmark"


def make_bundle(folder: Path) -> bytes:
    """Write a signed bundle of MobileNet-v2 that takes pictures; return the public key."""
    folder.mkdir()
    optimise(write("mobilenet_v2", folder.parent), folder / MODEL_FILE)
    inputs, outputs, opset = describe_onnx(folder / MODEL_FILE)
    manifest = BundleManifest(
        model="mobilenet",
        release=1,
        files=describe_files(folder),
        opset=opset,
        inputs=inputs,
        outputs=outputs,
        raw=TensorSpec(name="picture", datatype="UINT8", shape=(-1, *SHAPE[1:])),
        preprocessing=(Transpose((2, 0, 1)), Affine(scale=1 / 255), Normalize(MEAN, STD)),
        lineage=Lineage(dataset="none", manifest_sha256="0" * 64, job_sha256="0" * 64, job_key="0" * 40),
        created_at="2026-01-01T00:00:00Z",
    )
    signer = MemorySigner()
    seal_bundle(folder, manifest, signer)
    return signer.public_key()


def settings(folder: Path, key: bytes) -> dict[str, str]:
    """Return the variables that tell the function of its bundle, and of memory that has this machine's cores."""
    return {
        "ISTHMUS_MODEL_DIR": str(folder),
        "ISTHMUS_PUBLIC_KEY": base64.b64encode(key).decode(),
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(len(os.sched_getaffinity(0)) * MEMORY_MB_PER_VCPU),
        "POWERTOOLS_SERVICE_NAME": "benchmark",
        "AWS_LAMBDA_FUNCTION_NAME": "mobilenet",
    }


def body(name: str, array: np.ndarray, **parameters: Any) -> tuple[bytes, int]:
    """Return a request's body with one binary tensor, and the length of its JSON."""
    kinds = {"uint8": "UINT8", "float32": "FP32"}
    tensor = {"name": name, "shape": list(array.shape), "datatype": kinds[str(array.dtype)]}
    text = json.dumps(
        {"inputs": [{**tensor, "parameters": {"binary_data_size": array.nbytes}}], **parameters}
    )
    return text.encode() + array.tobytes(), len(text)


def event(picture: np.ndarray) -> dict[str, Any]:
    """Return what API Gateway's proxy integration makes of a request with a picture."""
    data, length = body("picture", picture, parameters={"preprocess": True})
    headers = {"Host": "api", "Content-Type": BINARY, "Inference-Header-Content-Length": str(length)}
    headers |= {"User-Agent": "benchmark", "X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "https"}
    request = {"requestId": "00000000-0000-0000-0000-000000000000", "stage": "v2"}
    return {
        "httpMethod": "POST",
        "path": PATH,
        "headers": headers,
        "requestContext": request,
        "body": base64.b64encode(data).decode(),
        "isBase64Encoded": True,
    }


def sessions(folder: Path) -> dict[str, Any]:
    """Return the settings that the reference may choose from, each with its session."""
    made = {}
    for threads in range(1, len(os.sched_getaffinity(0)) + 1):
        for name, path in (("loaded", folder.parent / "mobilenet_v2.onnx"), ("saved", folder / MODEL_FILE)):
            made[f"{threads} threads, {name}"] = open_session(path, session_options(threads=threads))
    return made


def rounds(calls: dict[str, Callable[[], Any]], count: int) -> dict[str, list[float]]:
    """Return each call's milliseconds, from rounds in which all take turns.

    A turn is several calls, of which the first is not timed: a session's threads go on looking for work for a while,
    and would keep the next session's from theirs.
    """
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(count):
        for name, call in calls.items():
            call()
            for _ in range(TURN):
                begun = time.perf_counter()
                call()
                taken[name].append((time.perf_counter() - begun) * 1000)
    return taken


def check(answer: dict[str, Any], binary: Any, expected: np.ndarray) -> None:
    """Refuse to measure what answers wrongly."""
    scores = json.loads(answer["body"])["outputs"][0]["data"] if answer["statusCode"] == 200 else []
    length = int(binary.headers.get("inference-header-content-length", 0))
    floats = np.frombuffer(binary.body[length:], np.float32) if length else np.zeros(0)
    for given in (np.float32(scores), floats):
        if given.shape != expected.shape or not np.allclose(given, expected, rtol=1e-3, atol=1e-3):
            raise SystemExit("the handler does not answer what the model gives")


def tell(taken: dict[str, list[float]]) -> None:
    """Print the line."""
    reference = min(taken, key=lambda name: (name in OURS, min(taken[name])))
    quickest = {name: min(milliseconds) for name, milliseconds in taken.items()}
    middle = {name: statistics.median(milliseconds) for name, milliseconds in taken.items()}
    report(
        "handler",
        ours=quickest["handler"],
        reference=quickest[reference],
        unit="ms",
        speedup=True,
        binary_ratio=round(quickest[reference] / quickest["binary"], 4),
        binary_goal=BINARY_GOAL,
        binary_holds=quickest[reference] / quickest["binary"] >= BINARY_GOAL,
        overhead_ms=round(quickest["handler"] - quickest[reference], 3),
        unaligned_ratio=round(quickest[reference] / quickest["unaligned"], 4),
        binary_overhead_ms=round(quickest["binary"] - quickest[reference], 3),
        ratio_of_medians=round(middle[reference] / middle["handler"], 4),
        settings_ms={name: round(value, 3) for name, value in quickest.items() if name not in OURS},
        setting=reference,
        rounds=ROUNDS,
        reference_is="session.run of the same model, outside the handler, at the fastest of its settings",
    )


def main() -> None:
    """Measure, and print the line."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "bundle"
        os.environ |= settings(folder, make_bundle(folder))
        sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "functions" / "serve_model"))
        from app import handler, service  # type: ignore[import-not-found]

        picture = np.random.default_rng(0).integers(0, 256, SHAPE, np.uint8)
        model, asked, context = service().models["mobilenet"], event(picture), Context()
        floats = preprocess(picture, model.manifest.preprocessing)
        headers, data = write_request({"image": floats}, id="", parameters={}, binary=True)
        request = HttpRequest("POST", PATH, headers, data)
        data, length = body("image", floats, parameters={"binary_data_output": True})
        odd = length % 4 == 0  # one space more, and it is no multiple of a float's size
        headers = {"content-type": BINARY, "inference-header-content-length": str(length + odd)}
        unaligned = HttpRequest("POST", PATH, headers, data[:length] + b" " * odd + data[length:])
        plain = {
            name: functools.partial(session.run, None, {"image": floats})
            for name, session in sessions(folder).items()
        }
        expected = next(iter(plain.values()))()[0][0]
        for each in (request, unaligned):
            check(handler(asked, context), service().handle(each), expected)
        quickest = {name: min(rounds({name: call}, CHOOSING)[name]) for name, call in plain.items()}
        best = sorted(plain, key=quickest.__getitem__)[:2]
        calls: dict[str, Callable[[], Any]] = {
            "handler": lambda: handler(asked, context),
            "binary": lambda: service().handle(request),
            "unaligned": lambda: service().handle(unaligned),
        }
        tell(rounds(calls | {name: plain[name] for name in best}, ROUNDS))


if __name__ == "__main__":
    main()
