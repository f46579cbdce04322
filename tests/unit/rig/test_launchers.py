"""Several GPUs: what a training sees of them, and the framework's own launcher."""

from __future__ import annotations

import dataclasses
import json
import os
import threading
from typing import Any

import msgspec
import pytest
from rig_world import KEY, LEAVES_A_MODEL, World, training, zip_of

from isthmus.errors import EnvironmentProblem, InvalidJob
from isthmus.frameworks.launch import command
from isthmus.model.job import Framework, Launcher, Resources
from isthmus.model.messages import AttemptState
from isthmus.ports import TrainingRun
from isthmus.rig.agent import Agent
from isthmus.rig.gpus import share
from isthmus.rig.runner import TrainingRequest

TORCH = Framework(name="torch", version="2.13.0")
DISTRIBUTED = {"torch_distributed": Launcher(enabled=True)}
RUN = """
import argparse, os, subprocess, sys
parser = argparse.ArgumentParser()
parser.add_argument("--standalone", action="store_true", required=True)
parser.add_argument("--nproc-per-node", type=int)
parser.add_argument("--no-python", action="store_true", required=True)
parser.add_argument("program")
parser.add_argument("arguments", nargs=argparse.REMAINDER)
o = parser.parse_args()
ranks = [os.environ | {"LOCAL_RANK": str(n), "WORLD_SIZE": str(o.nproc_per_node)} for n in range(o.nproc_per_node)]
started = [subprocess.Popen([o.program, *o.arguments], env=rank) for rank in ranks]
sys.exit(max([process.wait() for process in started]))
"""
"""``torch.distributed.run`` as far as it is asked."""
SHOWS_ITS_RANK = """
import json, os, sys
names = ("LOCAL_RANK", "WORLD_SIZE", "SM_NUM_GPUS", "CUDA_VISIBLE_DEVICES", "NCCL_SOCKET_IFNAME")
here = {name: os.environ.get(name) for name in names} | {"argv": sys.argv, "name": __name__}
with open(os.path.join(os.environ["SM_OUTPUT_DATA_DIR"], os.environ.get("LOCAL_RANK", "alone")), "w") as file:
    json.dump(here, file)
"""


def run(world: World, script: str, *, there: int, given: list[int] | None, **changes: Any) -> TrainingRun:
    source = world.folder / "source/torch/distributed"
    runner = world.runner(share=share(there, given))
    source.mkdir(parents=True, exist_ok=True)
    (source / "run.py").write_text(RUN)
    code = zip_of({"train.py": script}, world.folder / "code.zip")
    wanted = training(code, **changes)
    run_id = f"launch-{world.folder.name}-{os.getpid()}"
    return runner.run(
        TrainingRequest("n", run_id, wanted, code, {}, world.folder / "work"), threading.Event()
    )


def seen(done: TrainingRun) -> dict[str, Any]:
    return {path.name: json.loads(path.read_text()) for path in (done.output / "output/data").iterdir()}


def test_torchs_own_launcher_runs_a_process_for_each_gpu(world: World) -> None:
    script = (
        SHOWS_ITS_RANK
        + 'if os.environ["LOCAL_RANK"] == "0":\n    '
        + LEAVES_A_MODEL.strip().replace("\n", "\n    ")
    )
    done = run(
        world,
        script,
        there=4,
        given=[1, 3],
        framework=TORCH,
        distribution=DISTRIBUTED,
        hyperparameters={"epochs": 2},
    )
    assert done.exit_code == 0, done.tail
    ranks = seen(done)
    assert set(ranks) == {"0", "1"}
    assert ranks["1"] == {
        "LOCAL_RANK": "1",
        "WORLD_SIZE": "2",
        "SM_NUM_GPUS": "2",
        "CUDA_VISIBLE_DEVICES": "1,3",
        "NCCL_SOCKET_IFNAME": "lo",
        "argv": ["train.py", "--epochs", "2"],
        "name": "__main__",
    }
    assert (done.output / "model/export.json").is_file()


@pytest.mark.parametrize(("given", "count"), [(None, 1), ([], 1)], ids=["all of one", "none"])
def test_without_a_second_gpu_the_launcher_runs_one_process(
    world: World, given: list[int] | None, count: int
) -> None:
    script = SHOWS_ITS_RANK + "raise SystemExit(3)\n"
    done = run(world, script, there=1, given=given, framework=TORCH, distribution=DISTRIBUTED)
    assert done.exit_code == 3
    assert len(seen(done)) == count


def test_without_a_launcher_one_process_has_all_gpus(world: World) -> None:
    disabled = {"torch_distributed": Launcher(enabled=False)}
    done = run(world, SHOWS_ITS_RANK + "raise SystemExit(3)\n", there=2, given=None, distribution=disabled)
    assert seen(done)["alone"]["SM_NUM_GPUS"] == "2"
    assert seen(done)["alone"]["NCCL_SOCKET_IFNAME"] is None


def test_the_command_is_torchruns() -> None:
    script = ["train.py", "--x", "1"]
    made = command(
        "/env/bin/python", "/opt/isthmus", "torch", script, launcher="torch_distributed", processes=8
    )
    launcher = "/env/bin/python -P -m torch.distributed.run --standalone --nproc-per-node=8 --no-python"
    program = (
        "/env/bin/python -P /opt/isthmus/isthmus/frameworks/launch.py --framework torch -- train.py --x 1"
    )
    assert " ".join(made) == f"{launcher} {program}"


def test_a_launcher_that_a_framework_does_not_have_is_refused(world: World) -> None:
    with pytest.raises(InvalidJob, match="needs the launcher torch_distributed; mxnet has none"):
        run(world, "", there=2, given=None, distribution=DISTRIBUTED)
    with pytest.raises(InvalidJob, match="needs the launcher mpi; torch has torch_distributed"):
        run(world, "", there=2, given=None, framework=TORCH, distribution={"mpi": Launcher()})


def test_two_launchers_are_one_too_many(world: World) -> None:
    code = zip_of({"train.py": ""}, world.folder / "code.zip")
    with pytest.raises(ValueError, match="needs one launcher, and enables torch_distributed, mpi"):
        training(code, distribution=DISTRIBUTED | {"mpi": Launcher()})


def test_a_job_that_needs_more_gpus_is_refused_with_need_and_have(world: World) -> None:
    with pytest.raises(EnvironmentProblem, match="the job needs 2 GPUs; this agent has 1"):
        run(world, "", there=4, given=[3], resources=Resources(accelerators=2))


def test_what_does_not_fit_is_refused_before_anything_of_it_is_downloaded(world: World) -> None:
    def fits(framework: Framework, accelerators: int) -> None:
        raise EnvironmentProblem(f"{framework.name} needs an NVIDIA driver 580 or newer; the device has 550")

    world.put_job({"train.py": ""})
    world.send()
    outcome = Agent(world.settings, world.services, world.runner(fits=fits), world.report).step()
    assert outcome is not None
    assert outcome.state is AttemptState.LOST, "another rig may have it"
    assert "needs an NVIDIA driver 580 or newer; the device has 550" in outcome.cause
    assert not [path for path in (world.folder / "rig/cache").rglob("*") if path.is_file()]


def test_an_agent_leaves_what_needs_more_gpus_to_another_one(world: World) -> None:
    world.put_job({"train.py": ""})
    work = msgspec.structs.replace(world.send(), accelerators=2)
    world.queue = type(world.queue)()
    world.queue.send(work)
    world.settings = dataclasses.replace(world.settings, accelerators=1)
    small = Agent(world.settings, world.services, world.runner(), world.report)
    assert small.step() is None
    assert small.step() is None
    left = [fields for event, fields in world.events if event == "work left to another agent"]
    assert left == [{"job_key": KEY, "needs": 2, "has": 1}]
    assert world.lease() == {}
