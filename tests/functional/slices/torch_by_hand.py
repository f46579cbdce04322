"""What the tests show with MXNet, shown with PyTorch: ``python -m tests.functional.slices.torch_by_hand PYTHON``.

PYTHON has torch, numpy, msgspec and xxhash. It is run by hand: PyTorch is not installed where the tests run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from isthmus.rig.environments import source_folder
from tests.functional.slices.sliced_workers import Workers, free_ports

SCRIPT = Path(__file__).with_name("learning_torch.py")
LOOPS = Path(__file__).with_name("looping_torch.py")
STEPS = 20
REFUSED = """
import torch
from isthmus.errors import IsthmusError
from isthmus.frameworks.torch.cut import Cuttable

class Branches(torch.nn.Module):
    def forward(self, x):
        return torch.cond(x.sum() > 0, lambda x: x.sin().sum(), lambda x: x.cos().sum(), (x,))

class Noisy(torch.nn.Module):
    def forward(self, x):
        return (x * torch.rand_like(x)).sum()

class Overwritten(torch.nn.Module):
    def forward(self, x):
        y = x * 2
        z = y.view(-1)
        y.add_(1)
        return z.sum() * y.sum()

class Tied(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = torch.nn.Linear(3, 3, bias=False), torch.nn.Linear(3, 3, bias=False)
        self.b.weight = self.a.weight

    def forward(self, x):
        return self.b(torch.relu(self.a(x))).sum()

for net in (Branches(), Noisy(), Overwritten(), Tied()):
    program = torch.export.export(net.train(), (torch.ones(2, 3),))
    try:
        Cuttable.of(program).divide([1])
        print(type(net).__name__, "was not refused")
    except IsthmusError as error:
        print(type(net).__name__, "refused:", error)
"""


TOGETHER = """
import sys, numpy as np
from pathlib import Path
from isthmus.frameworks.torch.trainable import _program
found, expected = _program(Path(sys.argv[1])).state_dict, np.load(sys.argv[2])
names = [name for name in expected.files if name != "losses"]
wrong = [n for n in names if found[n.removeprefix("net.")].detach().numpy().tobytes() != expected[n].tobytes()]
print("put together:", len(names), "arrays,", f"UNEQUAL {wrong}" if wrong else "equal")
"""


def compare(workers: Workers, model: Path) -> str:
    found = workers.result()
    if workers.committed()["step"] != STEPS:
        return f"ended at step {workers.committed()['step']}"
    with np.load(model / "reference.npz") as expected:
        held = {name.partition(":")[2]: array for name, array in found.items() if name[0] in "ps"}
        held.pop("", None)
        (losses,) = (array for name, array in found.items() if name.startswith("loss:"))
        names = set(expected.files) - {"losses"}
        wrong = [name for name in names if held[name].tobytes() != expected[name].tobytes()]
        wrong += [] if losses.tobytes() == expected["losses"].tobytes() else ["losses"]
    return f"{len(names)} arrays of weights, and losses: " + (f"UNEQUAL {wrong}" if wrong else "equal")


def looped(python: str, environment: dict[str, str], run: Callable[..., str]) -> None:
    """Show the imperative face, with two workers."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(2)]
    serve = [python, "-P", "-m", "isthmus.bootstrap_hybrid"]
    workers = [
        subprocess.Popen([*serve, address], env=environment, stderr=subprocess.DEVNULL)
        for address in addresses
    ]
    try:
        lines = [json.loads(line) for line in run(str(LOOPS), *addresses).splitlines()]
    finally:
        for worker in workers:
            worker.terminate()
            worker.wait()
    unequal = [line for line in lines if line["unequal"]]
    print(f"hybridize: {len(lines)} loops, {len(unequal)} unequal {unequal or ''}")


def main(python: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = str(source_folder(folder))
        environment = {"PATH": os.defpath, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}

        def run(*arguments: str) -> str:
            command = [python, "-P", *arguments]
            return subprocess.run(
                command, env=environment, check=True, stdout=subprocess.PIPE, text=True
            ).stdout

        for optimizer in ("sgd", "adam"):
            lines = [json.loads(line) for line in run(str(SCRIPT), "check", optimizer, "3").splitlines()]
            unequal = [line for line in lines if line["unequal"]]
            print(
                f"{optimizer}: {len(lines)} divisions of 6 networks, {len(unequal)} unequal {unequal or ''}"
            )
        print(run("-c", REFUSED), end="")
        looped(python, environment, run)
        model = folder / "mixed"
        run(str(SCRIPT), "write", str(model), "mixed")
        for slices, shape, killed in ((2, "straight", ()), (3, "straight", (1, 0, 2)), (4, "u", (2,))):
            common = {
                "framework": "torch",
                "model": str(model),
                "cuts": json.loads((model / "cuts.json").read_text())[str(slices)],
                "rows": 120,
                "samples": 12,
                "microbatches": 3,
                "steps": STEPS,
                "every": 1,
                "options": {"lr": 0.05, "momentum": 0.9, "weight_decay": 1e-3},
                "seed": 5,
                "shape": shape,
            }
            workers = Workers(
                Path(python), path, folder / f"{slices}-{shape}", common, slices - (shape == "u")
            )
            workers.jobs[0]["inputs"] = {"data": str(model / "data.npy")}
            last = 0 if shape == "u" else -1
            workers.jobs[last].setdefault("inputs", {})["label"] = str(model / "label.npy")
            workers.start_all()
            for k, worker in enumerate(killed):
                workers.wait_for(2 * k + 2, (worker + 1) % len(workers.jobs))
                workers.kill(worker)
                workers.start(worker)
            workers.wait()
            folders = [str(workers.folder / f"worker-{k}") for k in range(len(workers.jobs))]
            whole = workers.folder / "whole"
            words = ["--framework", "torch", "--served", str(model / "served"), "--target", str(whole)]
            run("-m", "isthmus.bootstrap_training", "put-together", *words, "--prefix", "net.", *folders)
            print(run("-c", TOGETHER, str(whole), str(model / "reference.npz")), end="")
            print(f"{slices} slices, {shape}, killed {list(killed)}: {compare(workers, model)}")


if __name__ == "__main__":
    main(sys.argv[1])
