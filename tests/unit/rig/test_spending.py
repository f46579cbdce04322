"""A training that has used up what was set aside for it ends, keeps its checkpoints, and says so."""

from __future__ import annotations

import json
import threading

import msgspec
import pytest
from rig_world import KEY, LEAVES_A_MODEL, World
from test_agent import agent, answer

from isthmus.errors import AttemptLost
from isthmus.model import layout
from isthmus.model.messages import AttemptState, Work
from isthmus.rig.agent import Agent
from isthmus.rig.checkpoints import checkpoints_of
from isthmus.rig.runner import TrainingRequest


def send(world: World, max_seconds: float, fencing: int = 1) -> Work:
    """Send an attempt with a limit; a fraction of a second, so that no test waits."""
    work = world.send(fencing)
    world.queue.delete(next(iter(world.queue.receive(wait_seconds=0))).receipt)
    limited = msgspec.structs.replace(work, max_seconds=max_seconds)
    world.queue.send(limited)
    return limited


def until_stopped(request: TrainingRequest, stop: threading.Event) -> int:
    assert stop.wait(20)
    return 143


def test_a_training_over_its_limit_is_stopped_and_its_state_fails_by_that_name(world: World) -> None:
    world.put_job({"train.py": ""})
    send(world, 0.05)
    outcome = agent(world, until_stopped)[0].step()
    assert outcome is not None
    assert outcome.state is AttemptState.ABORTED
    assert outcome.cause.startswith("BudgetExceeded: needs more than the 50 ms of training")
    assert "raise the budget or the job's --max-cost, and redrive the pipeline" in outcome.cause
    assert outcome.seconds >= 0.05
    kind, (error, cause) = answer(world)
    assert (kind, error) == ("failed", "BudgetExceeded")
    assert json.loads(cause)["state"] == "ABORTED"


def test_one_that_ends_before_is_as_ever(world: World) -> None:
    world.put_job({"train.py": ""})
    send(world, 20)
    outcome = agent(world)[0].step()
    assert outcome is not None
    assert outcome.state is AttemptState.SUCCEEDED
    assert outcome.output_bytes == len(b"model") + len(b"epoch=1\n")
    assert outcome.fetched_bytes == len(b"1,2\n") + len(b"3,4\n")


def test_what_is_in_the_cache_is_not_fetched_again(world: World) -> None:
    world.put_job({"train.py": ""})
    rig, _ = agent(world)
    world.send(1)
    rig.step()
    world.send(2)
    outcome = rig.step()
    assert outcome is not None
    assert outcome.fetched_bytes == 0


def test_an_environment_that_takes_all_of_it_is_no_lost_attempt(world: World) -> None:
    def never_ready(request: TrainingRequest, stop: threading.Event) -> int:
        assert stop.wait(20)
        raise AttemptLost("stopped before the script began")

    world.put_job({"train.py": ""})
    send(world, 0.05)
    outcome = agent(world, never_ready)[0].step()
    assert outcome is not None
    assert (outcome.state, outcome.cause[:14]) == (AttemptState.ABORTED, "BudgetExceeded")


def test_a_stop_of_the_rig_is_no_budgets(world: World) -> None:
    world.put_job({"train.py": ""})
    send(world, 60)
    stopped: list[Agent] = []

    def stop_the_rig(request: TrainingRequest, stop: threading.Event) -> int:
        stopped[0].stop()
        return 143

    rig, _ = agent(world, stop_the_rig)
    stopped.append(rig)
    outcome = rig.step()
    assert outcome is not None
    assert (outcome.state, outcome.cause) == (AttemptState.LOST, "AttemptLost: the rig was stopped")


@pytest.mark.slow
def test_a_real_script_is_stopped_and_the_next_attempt_goes_on_from_its_checkpoint(world: World) -> None:
    script = """
import os, pathlib, time
folder = pathlib.Path(os.environ["SM_CHECKPOINT_DIR"])
seen = folder / "epoch"
if not seen.exists():
    seen.write_text("7")
    print("waits", flush=True)
    time.sleep(60)
print(f"went_on={seen.read_text()}", flush=True)
"""
    world.put_job({"train.py": script + LEAVES_A_MODEL})
    send(world, 3)
    rig = Agent(world.settings, world.services, world.runner(), world.report)
    first = rig.step()
    assert first is not None
    assert first.state is AttemptState.ABORTED
    assert world.records.get(layout.job_pk(KEY), layout.CHECKPOINT) is not None
    work = send(world, 60, fencing=2)
    second = rig.step()
    assert second is not None
    assert second.state is AttemptState.SUCCEEDED, second.cause
    assert second.metrics == {"went_on": 7.0}
    assert checkpoints_of(work, world.services, world.settings.folder, world.report) is not None
