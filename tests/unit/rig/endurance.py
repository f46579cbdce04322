"""An agent that works through a day of jobs in a process of its own, and says what it held after each hundred.

Called by ``test_endurance``: the folder, then how many jobs. What the control plane remembers is dropped between
them: the agent is what is measured.
"""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path

from rig_world import World

from isthmus.adapters.local.records import MemoryRecords
from isthmus.model.job import Training
from isthmus.ports import TrainingRun
from isthmus.rig.agent import Agent
from isthmus.rig.contract import Layout
from isthmus.rig.runner import TrainingRequest

LINES = 200


class PlainRunner:
    """Prints what a training prints, and leaves a model."""

    def check(self, training: Training) -> None:
        """It runs everything."""

    def warm(self) -> None:
        """It has nothing to prepare."""

    def close(self) -> None:
        """It holds nothing."""

    def end(self, run_id: str) -> int:
        return 0

    def run(self, request: TrainingRequest, stop: threading.Event) -> TrainingRun:
        folders = Layout(request.work)
        for step in range(LINES):
            request.on_line(f"step={step} loss={1 / (step + 1)}")
        (folders.model / "model.onnx").write_bytes(b"model")
        folders.log.write_text("epoch=1\n")
        return TrainingRun(0, "last line", {"loss": 0.5}, folders.root, 1.5)


def resident_bytes() -> int:
    """What this process holds in memory (proc(5), ``VmRSS``)."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS"))


def forget(world: World) -> None:
    """Drop what the control plane keeps of jobs that have ended."""
    world.tasks.answers.clear()
    world.tasks.heartbeats.clear()
    world.tasks.handed_out.clear()
    world.reporter.delivered.clear()
    MemoryRecords.__init__(world.records)


def main(folder: Path, jobs: int) -> None:
    """Run the jobs, and print a line of JSON for each hundred."""
    world = World(folder)
    world.put_job({"train.py": ""})
    agent = Agent(world.settings, world.services, PlainRunner(), lambda event, **fields: None)
    ended = 0
    for number in range(1, jobs + 1):
        world.send(number)
        outcome = agent.step()
        ended += outcome is not None and outcome.state.value == "SUCCEEDED"
        forget(world)
        if number % 100 == 0:
            print(
                json.dumps(
                    {"ended": ended, "resident_bytes": resident_bytes(), "threads": threading.active_count()}
                )
            )


main(Path(sys.argv[1]), int(sys.argv[2]))
