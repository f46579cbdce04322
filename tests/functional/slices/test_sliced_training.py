"""Slices that learn, as processes in MXNet's own environment: what they come to is the unsliced network's, to the
bit."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

from isthmus.rig.environments import Environments, find_uv, source_folder
from tests.certificates import Authority
from tests.functional.slices.sliced_workers import Workers, lend

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent
CACHE = Path(os.environ.get("ISTHMUS_TEST_CACHE", HERE.parents[2] / ".isthmus" / "environments"))
STEPS = 20
Start = Callable[..., Workers]


@pytest.fixture(scope="module")
def python() -> Path:
    find_uv()
    return Environments(CACHE).ensure("mxnet", "1.9.1")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return os.pathsep.join(
        [str(source_folder(CACHE)), str(lend(tmp_path_factory.mktemp("lent") / "packages"))]
    )


def run(python: Path, path: str, *arguments: str) -> str:
    """Run the program of networks in MXNet's environment."""
    launch = f"{path.partition(os.pathsep)[0]}/isthmus/frameworks/launch.py"
    script = str(HERE / "learning_mxnet.py")
    return run_python(python, path, launch, "--framework", "mxnet", "--", script, *arguments)


def environment(path: str) -> dict[str, str]:
    return {
        "PATH": os.defpath,
        "PYTHONPATH": path,
        "OMP_NUM_THREADS": "1",
        "MXNET_MKLDNN_ENABLED": "0",
        "MXNET_STORAGE_FALLBACK_LOG_VERBOSE": "0",
    }


def run_python(python: Path, path: str, *arguments: str) -> str:
    command = [str(python), "-P", *arguments]
    done = subprocess.run(
        command, env=environment(path), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def model(python: Path, path: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network that has all of it: its files, its samples, and what Gluon came to."""
    folder = tmp_path_factory.mktemp("model") / "mixed"
    run(python, path, "write", str(folder), "mixed")
    return folder


@pytest.fixture
def start(python: Path, path: str, model: Path, tmp_path: Path) -> Iterator[Start]:
    made: list[Workers] = []

    def begin(
        slices: int,
        shape: str = "straight",
        every: int = 5,
        tls: bool = False,
        relayed: bool = False,
        kept_by: str = "itself",
    ) -> Workers:
        common = {
            "framework": "mxnet",
            "model": str(model),
            "cuts": json.loads((model / "cuts.json").read_text())[str(slices)],
            "rows": 120,
            "samples": 12,
            "microbatches": 3,
            "steps": STEPS,
            "every": every,
            "options": {"learning_rate": 0.05, "momentum": 0.9, "wd": 1e-3},
            "seed": 5,
            "shape": shape,
            "kept_by": kept_by,
        }
        places = slices - (shape == "u")
        workers = Workers(python, path, tmp_path / "training", common, places, relayed=relayed)
        workers.jobs[0]["inputs"] = {"data": str(model / "data.npy")}
        # In a U the labels do not leave the worker that has the data.
        workers.jobs[0 if shape == "u" else -1].setdefault("inputs", {})["label"] = str(model / "label.npy")
        if tls:
            authority = Authority(tmp_path)
            names = [f"worker-{k}" for k in range(len(workers.jobs))]
            for k, job in enumerate(workers.jobs):
                files = authority.tls(names[k], names[1 - k])
                job["tls"] = {
                    "certificate": str(files.certificate),
                    "key": str(files.key),
                    "authority": str(files.authority),
                    "peers": sorted(files.peers),
                }
        made.append(workers)
        workers.start_all()
        return workers

    yield begin
    for workers in made:
        workers.end()


def assert_unsliced(workers: Workers, model: Path) -> None:
    found = workers.result()
    assert workers.committed()["step"] == STEPS
    with np.load(model / "reference.npz") as expected:
        weights = set(expected.files) - {"losses"}
        held = {
            name.partition(":")[2]: name for name in found if name.startswith(("parameter:", "statistic:"))
        }
        assert set(held) == weights
        for name in weights:
            assert found[held[name]].tobytes() == expected[name].tobytes(), name
        (losses,) = (array for name, array in found.items() if name.startswith("loss:"))
        assert losses.tobytes() == expected["losses"].tobytes()


def test_six_networks_in_two_three_and_four_slices_are_the_unsliced_ones_to_the_bit(
    python: Path, path: str
) -> None:
    lines = [json.loads(line) for line in run(python, path, "check", "sgd", "1").splitlines()]
    assert len({line["network"] for line in lines}) == 6
    assert {line["slices"] for line in lines} == {2, 3, 4}
    assert len(lines) == 18
    assert [line for line in lines if line["unequal"]] == []


@pytest.mark.parametrize(("slices", "shape"), [(4, "straight"), (3, "u")])
def test_processes_come_to_the_weights_and_losses_of_the_unsliced_network(
    start: Start, model: Path, slices: int, shape: str
) -> None:
    workers = start(slices, shape)
    workers.wait()
    assert_unsliced(workers, model)


def test_workers_are_killed_and_all_go_on_from_the_last_common_checkpoint(start: Start, model: Path) -> None:
    workers = start(3, every=1)
    for killed, reached, heard_of in ((1, 2, 0), (0, 4, 2)):
        workers.wait_for(reached, heard_of)
        workers.kill(killed)
        assert workers.committed()["step"] < STEPS
        workers.start(killed)
    workers.wait()
    assert_unsliced(workers, model)


def test_workers_that_nobody_can_call_train_through_a_relay_though_each_is_killed(
    start: Start, model: Path
) -> None:
    workers = start(2, every=1, relayed=True, kept_by="first")
    for killed, reached, heard_of in ((1, 2, 0), (0, 4, 1)):
        workers.wait_for(reached, heard_of)
        workers.kill(killed)
        assert workers.committed()["step"] < STEPS
        if killed:  # and its disk is gone with it
            shutil.rmtree(workers.folder / "worker-1")
        workers.start(killed)
    workers.wait()
    shutil.rmtree(workers.folder / "worker-1")
    assert_unsliced(workers, model)


def test_two_under_mutual_tls_are_put_together_again_and_exported_as_any_model(
    start: Start, model: Path, python: Path, path: str, tmp_path: Path
) -> None:
    workers = start(2, tls=True)
    workers.wait()
    assert_unsliced(workers, model)
    folders = [str(workers.folder / f"worker-{k}") for k in range(2)]
    whole = ["--framework", "mxnet", "--served", str(model / "served"), "--target", str(tmp_path / "whole")]
    run_python(python, path, "-m", "isthmus.bootstrap_training", "put-together", *whole, *folders)
    assert_exported_unsliced(python, path, tmp_path / "whole", model)


def assert_exported_unsliced(python: Path, path: str, whole: Path, model: Path) -> None:
    """Export a network that was put together; its weights are the unsliced one's."""
    export = ["--framework", "mxnet", "--model-dir", str(whole), "--tolerance", "1e-4"]
    run_python(python, path, "-m", "isthmus.frameworks.export", *export)
    exported = onnx.load(str(whole / "model.onnx"))
    held = {entry.name: onnx.numpy_helper.to_array(entry) for entry in exported.graph.initializer}
    with np.load(model / "reference.npz") as expected:
        for name in set(expected.files) - {"losses"}:
            assert held[name].tobytes() == expected[name].tobytes(), name
