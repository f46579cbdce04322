"""Whether splitting pays is measured, and so is that the balancer knows: ``python -m benchmarks.balancing.pays``.

The core device is a process that a cgroup holds to a quarter of a core; the cloud's side is another, on a core of its
own, behind a link between two network namespaces that tc shapes. A network is cut in two. Each way (all here, split,
all there) is asked for by name, in turns with requests that leave the choice to the balancer. Printed are the median
milliseconds of each, and where the balancer's own requests ran. On the first link a split beats both others; on the
second one the balancer refuses to split. Needs root, ip, tc and a cgroup with a CPU quota; without them it says so and
ends.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.networks import write
from benchmarks.plan_pays import POLICY, devices, profiled
from benchmarks.slicing import namespaces
from benchmarks.slicing.plans import make_slices, plan_at
from isthmus import bootstrap_slicing
from isthmus.client.part import CloudPart
from isthmus.edge.server import EdgeServer
from isthmus.edge.split_settings import SplitSettings, split_engine
from isthmus.edge.splitting import SplitEngine
from isthmus.frameworks.onnx.cut import Cutter
from isthmus.inference.bundle import describe_files, open_bundle, seal_bundle
from isthmus.inference.engine import OnnxEngine
from isthmus.inference.http import HttpRequest, HttpResponse
from isthmus.inference.onnx_model import describe_onnx
from isthmus.inference.service import ModelService, served
from isthmus.model.bundle import BundleManifest, Lineage
from isthmus.model.sliced import Cast
from isthmus.planning.slicing.request import Request
from isthmus.workflows.sliced_folder import key_file, load_sliced

NETWORK, CUT, CAST = "resnet_18", 9, "int8"
SHARE, REQUESTS, WARM_UP = 0.25, 25, 5
LINKS = ((30e6, "a split is quickest"), (2e6, "no split"))
"""Bits a second, and what is to be seen."""
WAYS = ("local", "split:1", "cloud", None)
MOST_BYTES = 1 << 26


class Peer(EdgeServer):
    """As a core device serves, but on all addresses of its namespace, as the cloud would."""

    def server_bind(self) -> None:
        """Listen on every address."""
        self.server_address = ("0.0.0.0", 0)
        super().server_bind()

    def answer(self, request: HttpRequest) -> HttpResponse:
        """Answer under any name."""
        return self.service.handle(request)


def prepare(folder: Path, cast: Cast) -> None:
    """Write the whole model's bundle and its slices."""
    (folder / "whole").mkdir()
    model = write(NETWORK, folder).rename(folder / "whole/model.onnx")
    inputs, outputs, opset = describe_onnx(model)
    manifest = BundleManifest(
        model=NETWORK.replace("_", "-"),
        release=1,
        files=describe_files(folder / "whole"),
        opset=opset,
        inputs=inputs,
        outputs=outputs,
        lineage=Lineage(job_key=""),
        created_at="2026-01-01T00:00:00Z",
    )
    seal_bundle(folder / "whole", manifest, bootstrap_slicing.own_signer())
    profile = profiled(Cutter(model), NETWORK)
    plan = plan_at(
        profile, devices((LINKS[0][0] / 8, 1e-3)), Request(objective="latency", policy=POLICY), [CUT]
    )
    make_slices(model, plan, folder / "slices", cast)


def serve(folder: Path) -> None:
    """Be the cloud's side, until the input ends."""
    places = [folder / "whole", *(path.parent for path in (folder / "slices").glob("*/manifest.json"))]
    models = [served(open_bundle(place, None), threads=1) for place in places]
    service = ModelService(models, max_request_bytes=MOST_BYTES, max_response_bytes=MOST_BYTES)
    server = Peer(service, 0, max_request_bytes=MOST_BYTES)
    print(server.port, flush=True)
    server.start()
    sys.stdin.read()


def ask(folder: Path, address: str) -> None:
    """Be the core device: ask in turns, and print what was seen as JSON."""
    key = key_file(folder / "slices", load_sliced(folder / "slices")[0]).read_bytes()
    bundle = open_bundle(folder / "whole", None)
    settings = SplitSettings(folder / "slices", POLICY, cloud=address)
    whole = OnnxEngine(bundle.model_path, threads=1)
    engine = split_engine(settings, bundle, whole, key, CloudPart(address), threads=1)
    (spec,) = bundle.manifest.inputs
    x = {spec.name: np.random.default_rng(0).random([1, *spec.shape[1:]]).astype(np.float32)}
    print(json.dumps(measured(engine, x)), flush=True)


def measured(engine: SplitEngine, x: dict[str, Any]) -> dict[str, Any]:
    """Return the median seconds of each way, and where requests ran that named none."""
    seconds: dict[str, list[float]] = {str(way): [] for way in WAYS}
    ran: Counter[str] = Counter()
    for turn in range(WARM_UP + REQUESTS):
        for way in WAYS:
            begun = time.perf_counter()
            answer = engine.run_placed(x, {"isthmus_placement": way} if way else {})
            took = time.perf_counter() - begun
            if turn >= WARM_UP:
                seconds[str(way)].append(took)
                if way is None:
                    ran[str(answer.parameters["isthmus_placement"])] += 1
                    reason = answer.parameters["isthmus_reason"]
    medians = {way: statistics.median(found) * 1e3 for way, found in seconds.items()}
    return {"medians": medians, "ran": dict(ran), "reason": reason}


def over(folder: Path, bits_per_second: float) -> dict[str, Any]:
    """Measure on a link of that rate."""
    command = [sys.executable, "-m", "benchmarks.balancing.pays"]
    cores = sorted(os.sched_getaffinity(0))

    def start(within: Sequence[str], core: int, *words: str) -> subprocess.Popen[str]:
        pinned = ["taskset", "-c", str(core), *command, *words]
        return subprocess.Popen([*within, *pinned], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    with namespaces.shaped_pair(bits_per_second) as pair, ExitStack() as stack:
        peer = stack.enter_context(start(pair.within(pair.far), cores[-1], "serve", str(folder)))
        stack.callback(peer.kill)
        port = peer.stdout.readline().strip()
        address = f"http://{pair.far_address}:{port}"
        edge = stack.enter_context(start(pair.within(pair.near), cores[0], "ask", str(folder), address))
        stack.callback(edge.kill)
        stack.enter_context(namespaces.share_of_a_core(SHARE, edge.pid))
        said = edge.stdout.read()
    return json.loads(said)


def main() -> None:
    """Prepare, and measure on both links."""
    namespaces.check()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, CAST)
        for rate, expected in LINKS:
            found = over(folder, rate)
            told = ", ".join(
                f"{'balancer' if way == 'None' else way} {ms:.0f} ms" for way, ms in found["medians"].items()
            )
            print(
                f"{rate / 1e6:g} Mbit/s ({expected}): {told}; it ran {found['ran']}: {found['reason']}",
                flush=True,
            )


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve", folder]:
            serve(Path(folder))
        case ["ask", folder, address]:
            ask(Path(folder), address)
        case _:
            main()
