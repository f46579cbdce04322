"""quant_cut: int8 on the cut, over a link that tc paces to 100 Mbit/s, against 32-bit floating point on the same link.

The network is the repository's Fashion-MNIST example, trained here as a rig trains it (``examples/fashion_mnist``), and
cut after its first block: 32 x 14 x 14 numbers leave for each image, eight times the raw one, after a twentieth of the
work. Nobody would send them to save time; they are sent where the policy lets activations leave and raw images not. So
the cut is large compared with what is computed, and the link decides the rate, which is what a cast is for.

Two slices are served by `isthmus slice serve` in two network namespaces, under mutual TLS, and asked for the full test
set of 10,000 images in batches, several under way. Both variants take turns. ``ours`` and ``reference`` are images a
second of int8 and of fp32; ``top1_agreement`` is the share of the 10,000 images for which both name the same class. It
needs root, ip and tc; without them it says so and ends.

``python -m benchmarks.quant_cut [MODEL]``: a model that was trained before is taken instead.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from benchmarks.plan_pays import POLICY, devices, profiled
from benchmarks.report import report
from benchmarks.slicing import fashion, namespaces
from benchmarks.slicing.plans import make_slices, plan_at
from benchmarks.slicing.processes import ANSWER_SECONDS, Host, chain
from isthmus.frameworks.onnx.cut import Cutter
from isthmus.inference.engine import OnnxEngine
from isthmus.model.sliced import Cast
from isthmus.planning.slicing.request import Request
from isthmus.transport.pipelined import Pipelined
from isthmus.transport.ports import within
from isthmus.transport.wires import Tls
from tests.certificates import Authority

BITS_PER_SECOND = 100e6
CUT_SHAPE = (32, 14, 14)
BATCH, UNDER_WAY, WARM_UP = 50, 6, 4
ROUNDS = 3
CASTS: tuple[Cast, ...] = ("", "int8")


def cut_index(cutter: Cutter) -> int:
    """Return the last cut over which nothing goes but the first block's output.

    Raises:
        SystemExit: the network has none.
    """
    found = []
    for cut in range(1, len(cutter.groups)):
        names = [entry.name for entry in cutter.slice(cut, len(cutter.groups), 1).graph.input]
        if [cutter.graph.shapes[name].one[1:] for name in names] == [CUT_SHAPE]:
            found.append(cut)
    if not found:
        raise SystemExit(f"needs a network with a cut of {CUT_SHAPE}; this one has none")
    return found[-1]


def tls_of(folder: Path) -> dict[str, Tls]:
    """Return the settings of who asks, of the head, and of the tail, each with those that it speaks to."""
    authority, peers = Authority(folder), {"asker": {"head"}, "head": {"asker", "tail"}, "tail": {"head"}}
    return {
        name: dataclasses.replace(authority.tls(name, "none"), peers=frozenset(others))
        for name, others in peers.items()
    }


def options(tls: Tls) -> list[str]:
    """Return the same as options of `isthmus slice serve`."""
    files = ["--certificate", str(tls.certificate), "--key", str(tls.key), "--authority", str(tls.authority)]
    return [*files, *(word for name in sorted(tls.peers) for word in ("--peer", name))]


def run_all(asker: Pipelined, name: str, images: Any) -> tuple[float, Any]:
    """Ask for every image; return images a second, those that warm up left out, and the scores ``[N, 10]``."""
    ended: list[float] = []
    batches = [images[start : start + BATCH] for start in range(0, len(images), BATCH)]
    warm = [asker.ask({name: batch}, deadline=within(ANSWER_SECONDS)) for batch in batches[:WARM_UP]]
    for answer in warm:
        answer.result()
    begun, answers = time.perf_counter(), []
    for batch in batches:
        answers.append(asker.ask({name: batch}, deadline=within(ANSWER_SECONDS)))
        answers[-1].add_done_callback(lambda _: ended.append(time.perf_counter()))
    scores = np.concatenate([next(iter(answer.result().values())) for answer in answers])
    return len(images) / (max(ended) - begun), scores


def measured(folders: Sequence[Path], name: str, images: Any, keys: Path) -> tuple[list[float], list[Any]]:
    """Serve each slicing over the paced link and ask for everything in turns; return the best rates and the scores."""
    tls, cores = tls_of(keys), sorted(os.sched_getaffinity(0))
    rates, scores = [0.0] * len(folders), [None] * len(folders)
    with namespaces.shaped_pair(BITS_PER_SECOND) as pair, ExitStack() as stack:
        head = Host(pair.within(pair.near), cores[0], "127.0.0.1", options(tls["head"]))
        tail = Host(pair.within(pair.far), cores[-1], pair.far_address, options(tls["tail"]))
        stack.enter_context(namespaces.inside(pair.near))
        askers = []
        for folder in folders:
            served = stack.enter_context(chain(folder, [head, tail]))
            askers.append(served.asker(most=UNDER_WAY, tls=tls["asker"]))
            stack.callback(askers[-1].close)
        for _ in range(ROUNDS):
            for k, asker in enumerate(askers):
                rate, scores[k] = run_all(asker, name, images)
                rates[k] = max(rates[k], rate)
                print(CASTS[k] or "fp32", round(rate, 1), "images/s", file=sys.stderr, flush=True)
    return rates, scores


def main() -> None:
    """Train, slice, serve, compare."""
    namespaces.check()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = fashion.dataset(folder / "data")
        model = Path(sys.argv[1]) if sys.argv[1:] else fashion.train(data, folder)
        images, labels = fashion.test_set(data)
        cutter = Cutter(model)
        link, cut = (BITS_PER_SECOND / 8, 1e-4), cut_index(cutter)
        profile = profiled(cutter, "fashion-mnist")
        folders = [folder / f"slices-{cast or 'fp32'}" for cast in CASTS]
        for cast, place in zip(CASTS, folders, strict=True):
            request = Request(objective="throughput", policy=POLICY, cast=cast)
            plan = plan_at(profile, devices(link), request, [cut])
            document = make_slices(model, plan, place, cast)
        rates, scores = measured(folders, document.inputs[0].name, images, folder)
        whole = next(iter(OnnxEngine(model).run({document.inputs[0].name: images}).values()))
    classes = [found.argmax(axis=1) for found in (*scores, whole)]
    report(
        "quant_cut",
        ours=rates[1],
        reference=rates[0],
        unit="images/s",
        top1_agreement=float((classes[0] == classes[1]).mean()),
        accuracy={
            key: float((found == labels).mean())
            for key, found in zip(("fp32", "int8", "whole"), classes, strict=True)
        },
        fp32_equals_whole=float((classes[0] == classes[2]).mean()),
        images=len(images),
        cut={"after_operator": cut, "shape": CUT_SHAPE, "fp32_bytes": int(4 * np.prod(CUT_SHAPE))},
        link_used=round(rates[0] * 4 * float(np.prod(CUT_SHAPE)) * 8 / BITS_PER_SECOND, 3),
        batch=BATCH,
        rounds=ROUNDS,
        proof=msgspec.to_builtins(document.proof),
        reference_is="the same slices, cut and link with fp32; of each the quickest of the rounds, taken in turns",
    )


if __name__ == "__main__":
    main()
