"""Measuring on this machine: operators by onnxruntime's profiler, slices by the clock."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from isthmus.frameworks.onnx import runtime
from isthmus.frameworks.onnx.cut import Cutter
from isthmus.model.network import NetworkProfile, Operator

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

LOW = 0.1
"""The quantile of repeated measurements that is kept: what the machine does when nothing else disturbs it."""
WARM_UP = 3
NODE = "_kernel_time"


class Timed(msgspec.Struct, frozen=True):
    """A kernel that ran: its node, its operator as onnxruntime names it, and its seconds."""

    node: str
    kind: str
    seconds: float


def kernels(model: Path | bytes, feeds: Mapping[str, Any], rounds: int, *, threads: int = 1) -> list[Timed]:
    """Run a model ``rounds`` times under onnxruntime's profiler; return each kernel in the order of execution.

    Raises:
        InvalidModel: onnxruntime refuses the model or the inputs.
    """
    import numpy as np

    with tempfile.TemporaryDirectory() as folder:
        chosen = runtime.options(threads=threads)
        chosen.enable_profiling = True
        chosen.profile_file_prefix = str(Path(folder) / "profile")
        session = runtime.session(model, chosen)
        for _ in range(WARM_UP + rounds):
            runtime.run(session, feeds)
        events = json.loads(Path(session.end_profiling()).read_bytes())
    found: dict[tuple[str, str], list[float]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(NODE):
            key = (event["name"].removesuffix(NODE), event["args"]["op_name"])
            found.setdefault(key, []).append(event["dur"] * 1e-6)
    return [
        Timed(node, kind, float(np.quantile(seconds[WARM_UP:], LOW)))
        for (node, kind), seconds in found.items()
    ]


class Slice:
    """A model that is run again and again, its memory bound once, as a stage serves request after request.

    On one thread, its own processor time is taken: a run that waits while another program has the core counts as one
    that did not. On several, it is the time on the wall.
    """

    def __init__(self, model: bytes, *, threads: int = 1) -> None:
        self._clock = time.thread_time if threads == 1 else time.perf_counter
        self.session: InferenceSession = runtime.session(model, runtime.options(threads=threads))
        self._feeds = runtime.random_feeds(self.session)
        self._binding = self.session.io_binding()
        for name, array in self._feeds.items():
            self._binding.bind_cpu_input(name, array)
        for entry in self.session.get_outputs():
            self._binding.bind_output(entry.name)

    def seconds(self, rounds: int) -> list[float]:
        """Return the seconds of each of ``rounds`` runs, after a few that warm up."""
        found = []
        for _ in range(WARM_UP + rounds):
            begin = self._clock()
            self.session.run_with_iobinding(self._binding)
            found.append(self._clock() - begin)
        return found[WARM_UP:]


def measure(
    cutter: Cutter, profile: NetworkProfile, device: str, *, rounds: int = 30, threads: int = 1
) -> NetworkProfile:
    """Run the whole network for the profile's batch; return the profile with each operator's seconds on ``device``.

    What onnxruntime adds when it loads the model (changes of layout) counts for the operator that it runs before.

    Raises:
        InvalidModel: onnxruntime refuses the model or made-up inputs.
    """
    raw = cutter.slice(0, len(cutter.groups), profile.batch).SerializeToString()
    session = runtime.session(raw, runtime.options(level="ORT_DISABLE_ALL"))
    timed = kernels(raw, runtime.random_feeds(session), rounds, threads=threads)
    seconds = _by_operator(cutter, timed)
    return msgspec.structs.replace(
        profile,
        operators=tuple(_with(operator, device, seconds[v]) for v, operator in enumerate(profile.operators)),
    )


def _with(operator: Operator, device: str, seconds: float) -> Operator:
    return msgspec.structs.replace(operator, seconds={**operator.seconds, device: seconds})


def _by_operator(cutter: Cutter, timed: Sequence[Timed]) -> list[float]:
    """Sum kernels by the operator that they belong to: by a node's name, or by the tensor that it makes."""
    owner: dict[str, int] = {}
    for v, group in enumerate(cutter.groups):
        for index in group.nodes:
            node = cutter.graph.model.graph.node[index]
            owner |= dict.fromkeys((*node.output, node.name), v)
    found = [0.0] * len(cutter.groups)
    last, waiting = 0, 0.0
    for entry in timed:
        v = owner.get(entry.node.removesuffix("_nchwc"), -1)
        waiting += entry.seconds
        if v >= 0:
            found[v] += waiting
            last, waiting = v, 0.0
    found[last] += waiting
    return found
