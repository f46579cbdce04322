"""api_concurrency: 10,000 requests by 32 clients at once through the local API Gateway, each with its own answer.

Signed, authorized, routed and served as on AWS, half of them with tensors as bytes. The model multiplies
small whole numbers, so that every answer is known to the last bit without a model; each request has
numbers and an id that no other has. Nothing is asked twice: an error is counted, not repeated. ``ours`` is
what went wrong, ``errors`` and ``mixed_up`` together; the reference is the number of requests.
"""

from __future__ import annotations

import collections
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import isthmus
from benchmarks.report import report
from demo.system import System, wait_until
from isthmus import bootstrap
from isthmus.client import wire
from isthmus.errors import IsthmusError

MODEL = "scores"
REQUESTS = 10_000
CLIENTS = 32
LIMIT_SECONDS = 240
ENDED = ("DEPLOYED", "REJECTED", "FAILED", "ABORTED")
WEIGHTS = ((0, 1), (2, 3), (4, 5))


@dataclass
class Counted:
    """What became of the requests. ``mixed_up``: answers that belong to another request, or to none."""

    requests: int = 0
    errors: int = 0
    mixed_up: int = 0
    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    kinds: collections.Counter[str] = field(default_factory=collections.Counter)


def write_model(path: Path) -> None:
    """``y [n, 2] = x [n, 3] @ WEIGHTS``, in float32: exact for whole numbers below 2^21."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        MODEL,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
        [numpy_helper.from_array(np.array(WEIGHTS, np.float32), "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


def ask_all(client: Callable[[], isthmus.Client], *, requests: int, clients: int) -> Counted:
    """Let ``clients`` threads, each with a client of its own, ask ``requests`` different questions."""
    counted, lock, numbers = Counted(), threading.Lock(), iter(range(requests))
    barrier = threading.Barrier(clients)

    def one() -> None:
        with client() as own:
            barrier.wait()
            while True:
                with lock:
                    number = next(numbers, None)
                if number is None:
                    return
                seconds, wrong = _ask(own, number)
                with lock:
                    counted.requests += 1
                    counted.latencies.append(seconds)
                    counted.errors += wrong not in ("", "mixed up")
                    counted.mixed_up += wrong == "mixed up"
                    counted.kinds.update([wrong] if wrong else [])

    threads = [threading.Thread(target=one) for _ in range(clients)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counted.seconds = time.perf_counter() - started
    return counted


def _ask(client: isthmus.Client, number: int) -> tuple[float, str]:
    """Return how long a question took, and what was wrong with its answer; empty when it was right."""
    import numpy as np

    rows = [[number, number % 251, row] for row in range(1 + number % 3)]
    arrays, name = {"x": np.array(rows, np.float32)}, f"request-{number}"
    headers, body = wire.write_request(arrays, id=name, parameters={}, binary=number % 2 == 1)
    started = time.perf_counter()
    try:
        response, _ = client.send("POST", f"/v2/models/{MODEL}/infer", body, headers)
        seconds = time.perf_counter() - started
        answer, outputs = wire.read_answer(response, id=None)
    except IsthmusError as error:
        return time.perf_counter() - started, f"{type(error).__name__}: {error}"[:200]
    expected = [
        [sum(x * w for x, w in zip(row, column, strict=True)) for column in zip(*WEIGHTS, strict=True)]
        for row in rows
    ]
    right = answer.id == name and set(outputs) == {"y"} and outputs["y"].tolist() == expected
    return seconds, "" if right else "mixed up"


@contextmanager
def deployed(folder: Path) -> Iterator[System]:
    """A local cloud with the stack and the model in service; ended and left behind in its folder."""
    system = System(folder, lambda line: print(line, file=sys.stderr))
    system.end_earlier()
    try:
        system.up()
        system.build()
        system.deploy()
        print("importing the model", file=sys.stderr)
        with tempfile.TemporaryDirectory(prefix="isthmus-bench-") as scratch:
            write_model(Path(scratch) / "model.onnx")
            command = ("model", "import", Path(scratch) / "model.onnx", "--name", MODEL, "--json")
            key = json.loads(system.isthmus(*command))["job_key"]
        wait_until(lambda: system.job(key)["state"] in ENDED, "the model to be in service", LIMIT_SECONDS)
        if (job := system.job(key))["state"] != "DEPLOYED":
            raise SystemExit(f"the model did not get into service: {job}")
        os.environ.update({name: value for name, value in system.env.items() if name.startswith("AWS_")})
        yield system
    finally:
        system.close()


def percentile(values: list[float], share: float) -> float:
    """Return the smallest value that at least ``share`` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-int(share * 1000 * len(ordered)) // 1000) - 1)]


def main() -> None:
    """Measure and report."""
    with deployed(Path(".isthmus/bench-api")) as system:
        url = bootstrap.stack_outputs(system.stack)["ApiUrl"]

        def client() -> isthmus.Client:
            return isthmus.Client(api=url, attempts=1)

        # Each concurrent request needs an execution environment of its own: the cold starts are asked beforehand.
        warm = ask_all(client, requests=4 * CLIENTS, clients=CLIENTS)
        counted = ask_all(client, requests=REQUESTS, clients=CLIENTS)
    for kind, times in counted.kinds.most_common(10):
        print(f"{times:6} times {kind}", file=sys.stderr)
    report("api_concurrency", **_figures(counted), warm_up_errors=warm.errors + warm.mixed_up)


def _figures(counted: Counted) -> dict[str, Any]:
    return {
        "ours": counted.errors + counted.mixed_up,
        "reference": counted.requests,
        "unit": "answers that were wrong or missing",
        "requests": counted.requests,
        "errors": counted.errors,
        "mixed_up": counted.mixed_up,
        "clients": CLIENTS,
        "per_second": round(counted.requests / counted.seconds, 1),
        "p50_ms": round(1000 * percentile(counted.latencies, 0.5), 1),
        "p99_ms": round(1000 * percentile(counted.latencies, 0.99), 1),
        "reference_is": "the number of requests",
    }


if __name__ == "__main__":
    main()
