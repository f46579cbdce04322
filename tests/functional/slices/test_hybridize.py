"""A script's own loop with one line added, in MXNet's environment: the same losses and weights, to the bit."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from isthmus.rig.environments import Environments, find_uv, source_folder
from tests.functional.slices.sliced_workers import free_ports, lend
from tests.functional.slices.test_sliced_training import CACHE, HERE, environment

pytestmark = pytest.mark.slow


class Scripts:
    """Programs of this folder in MXNet's environment, and workers that compute for them."""

    def __init__(self, folder: Path) -> None:
        find_uv()
        self._python = str(Environments(CACHE).ensure("mxnet", "1.9.1"))
        self._source = source_folder(CACHE)
        self._environment = environment(os.pathsep.join([str(self._source), str(lend(folder / "lent"))]))
        self.workers: list[subprocess.Popen[str]] = []

    def worker(self) -> str:
        """Start one; return its address."""
        address = f"127.0.0.1:{free_ports(1)[0]}"
        command = [self._python, "-P", "-m", "isthmus.bootstrap_hybrid", address]
        process = subprocess.Popen(command, env=self._environment, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        assert address in process.stderr.readline()
        self.workers.append(process)
        return address

    def run(self, script: str, *arguments: str) -> list[str]:
        """Return what a program prints, by lines."""
        launch = [f"{self._source}/isthmus/frameworks/launch.py", "--framework", "mxnet", "--"]
        command = [self._python, "-P", *launch, str(HERE / script), *arguments]
        done = subprocess.run(
            command, env=self._environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    def end(self) -> None:
        """Ask the workers to end, and wait."""
        for process in self.workers:
            process.terminate()
        for process in self.workers:
            process.communicate(timeout=20)


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scripts]:
    found = Scripts(tmp_path_factory.mktemp("scripts"))
    yield found
    found.end()


def test_a_gluon_loop_comes_to_the_same_bits_wherever_its_slices_run(scripts: Scripts) -> None:
    lines = [
        json.loads(line)
        for line in scripts.run("looping_mxnet.py", scripts.worker(), scripts.worker(), "mixed")
    ]
    assert {line["kind"] for line in lines} == {"plain", "hybridized", "accumulated"}
    assert len(lines) == 12
    assert [line for line in lines if line["unequal"]] == []


def test_unequal_replicas_come_to_the_bits_of_one_process_with_a_micro_batch_for_each_and_share_again_as_before(
    scripts: Scripts, tmp_path: Path
) -> None:
    *found, thinned, again = [
        json.loads(line) for line in scripts.run("sharing_mxnet.py", scripts.worker(), str(tmp_path))
    ]
    assert [line["network"] for line in found] == ["skips", "normalised", "joined"]
    assert all(rows == [15, 5] for line in found for rows in line["shares"])
    assert [line for line in [*found, again] if line["unequal"]] == []
    assert again["steps"] == list(range(8))
    assert thinned["off"] < 1e-4


def test_what_cannot_be_cut_is_refused_with_a_reason_and_a_plan_prints(scripts: Scripts) -> None:
    said = scripts.run("looping_mxnet.py", "refused", f"127.0.0.1:{free_ports(1)[0]}")
    expected = [
        "InvalidModel: plain0 is a Plain, which is no HybridBlock: it has no symbol that could be cut",
        "InvalidInput: a network must be of mxnet or torch; this is a builtins.list",
        "InvalidModel: the network cannot be trained in slices: ",
        "InvalidModel: no operator or layer of the network is called 'there'; there are: net_dense0_fwd, ",
        "InvalidInput: a network in slices takes arrays; it got int",
        "DeadlineExceeded: ",
        "InvalidInput: 1 cuts make 2 slices; places has 1",
        "the network is planned when it is first called",
        "slice 0 | here | operators [0,1) net_dense0_fwd … net_dense0_fwd | 64 bytes of parameters | gives net_dense0",
        "slice 1 | here | operators [1,2) net_dense1_fwd … net_dense1_fwd | 40 bytes of parameters",
    ]
    assert len(said) == len(expected)
    for line, beginning in zip(said, expected, strict=True):
        assert line.startswith(beginning)
    assert "draws random numbers of its own" in said[2]
