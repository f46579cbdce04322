"""One job that fails in each state of its pipeline in turn, is mended and redriven, and repeats nothing.

Nothing is mocked: functions lose their settings or their rights, files and aliases go, the rig hangs.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from demo.system import CommandFailed, System, wait_until
from tests.e2e import breakage, world
from tests.e2e.breakage import Mend
from tests.e2e.cleanup import client

pytestmark = pytest.mark.e2e

MODEL = "redriven"
TABLE_IS_GONE = "the environment variable ISTHMUS_TABLE is not set"


class Chain:
    """A job that is redriven again and again.

    ``failed`` counts the failures of each state, ``last`` is where it failed last, and ``broken`` mends
    what is broken at the moment when it is closed.
    """

    def __init__(self, system: System) -> None:
        self.system, self.key = system, ""
        self.failed: dict[str, int] = {}
        self.last = ""
        self.broken = contextlib.ExitStack()

    def show(self) -> dict[str, Any]:
        return dict(json.loads(self.system.isthmus("pipeline", "show", self.key, "--json")))

    def redrive(self) -> None:
        """Redrive as a user does; it says in which state it goes on."""
        answer = json.loads(self.system.isthmus("pipeline", "redrive", self.key, "--json"))
        assert answer["state"] == self.last

    def fails_at(self, state: str, said: str, ended: str = "FAILED") -> dict[str, Any]:
        """Wait for the end, which must be in ``state`` and for the reason ``said``."""
        wait_until(lambda: breakage.status(self.system, self.key) != "RUNNING", f"an end in {state}", 60)
        shown = self.show()
        job, last = shown["job"], shown["visits"][-1]
        assert (job["state"], last["state"]) == (ended, state), shown
        assert said in job["cause"], job
        assert not shown["not_redrivable"], shown
        self.failed[state] = self.failed.get(state, 0) + 1
        self.last = state
        return shown


@pytest.fixture(scope="module")
def chain(system: System, digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """A job whose first state has failed."""
    folder = tmp_path_factory.mktemp("redriven")
    source = {"queue_deadline_seconds": 6}
    job = world.write_job(folder, model=MODEL, source=source, hyperparameters={"epochs": 14})
    chain = Chain(system)
    with chain.broken:
        chain.broken.callback(breakage.without_table(system, "RegisterDatasetFunction"))
        chain.key = system.push(digits, job, "digits")
        chain.fails_at("RegisterDataset", TABLE_IS_GONE)
        chain.broken.close()
        yield chain


def test_a_job_that_fails_in_each_state_completes_without_repeating_finished_work(
    system: System, chain: Chain, with_core_device: bool
) -> None:
    function_fails(chain, "PlanTraining")
    the_rig_is_stopped_and_then_silent(chain)
    for state in ("EvaluateModel", "PackageModel", "RegisterModel"):
        function_fails(chain, state)
    the_roll_out_fails(chain, with_core_device)
    function_fails(chain, "DeployEdge")
    the_edge_check_fails(chain)
    the_end_is_not_recorded(chain)
    system.isthmus("pipeline", "watch", chain.key)
    assert chain.show()["job"]["state"] == "DEPLOYED"
    nothing_was_repeated(chain)
    the_commands_agree(chain)


def function_fails(chain: Chain, state: str) -> None:
    """Redrive with the next state's function broken, and mend it."""
    chain.broken.callback(breakage.without_table(chain.system, f"{state}Function"))
    chain.redrive()
    chain.fails_at(state, TABLE_IS_GONE)
    chain.broken.close()


def the_rig_is_stopped_and_then_silent(chain: Chain) -> None:
    """States WaitForRig and TrainOnRig: stopped by hand, not taken in time, and not given the training."""
    system = chain.system
    with breakage.frozen(system.agent_pid):
        chain.redrive()
        breakage.when_entered(
            system,
            "TrainAndDeployMachine",
            chain.key,
            "WaitForRig",
            lambda: system.isthmus("pipeline", "stop", chain.key, "--reason", "the rig is being moved"),
        )
        chain.fails_at("WaitForRig", "the rig is being moved", "ABORTED")
        chain.redrive()
        chain.fails_at("WaitForRig", "is the rig's agent running?")
    function_fails(chain, "TrainOnRig")
    # The events of the failure and of a redrive before it reached the record, whatever their order.
    wait_until(lambda: on_record(chain)["at"] == "TrainOnRig", "the failure to be on record", 60)
    assert on_record(chain)["state"] == "FAILED"
    assert on_record(chain)["redriven_at"]


def on_record(chain: Chain) -> dict[str, str]:
    """Return the texts of the job's record."""
    key = {"pk": {"S": f"JOB#{chain.key}"}, "sk": {"S": "STATE"}}
    table = world.outputs(chain.system)["Table"]
    item = client(chain.system, "dynamodb").get_item(TableName=table, Key=key)["Item"]
    return {name: value.get("S", "") for name, value in item.items()}


def the_roll_out_fails(chain: Chain, with_core_device: bool) -> None:
    """State DeployCloud, in each of the nested machine's states."""
    system = chain.system
    bundle = breakage.keys_below(system, f"bundles/{MODEL}/")[0].rsplit("/", 1)[0]
    roll_out_fails_at(chain, "StageModel", lambda: breakage.hide_object(system, f"{bundle}/layer.zip"))
    roll_out_fails_at(chain, "ProveModel", lambda: breakage.hide_object(system, f"{bundle}/bundle.zip"))
    slow = {"ISTHMUS_ROLLOUT_STEP_SECONDS": "5"}
    mend = breakage.environment(system, "DeployCloudFunction", lambda variables: {**variables, **slow})
    chain.broken.callback(mend)
    chain.redrive()
    function = f"{system.stack}-model-{MODEL}"
    breakage.when_entered(
        system,
        "DeployCloudMachine",
        chain.key,
        "WaitForTraffic",
        lambda: client(system, "lambda").delete_alias(FunctionName=function, Name="live"),
    )
    nested_failed_at(chain.fails_at("DeployCloud", "live"), "CheckHealth")
    chain.broken.close()
    if with_core_device:
        # The proof has named the release by now, and so needs no such right; the live alias is gone.
        # On AWS a change of rights takes an unknown time to arrive everywhere.
        rights = ("lambda:CreateAlias", "lambda:UpdateAlias")
        roll_out_fails_at(
            chain, "ShiftTraffic", lambda: breakage.forbid(system, "DeployCloudFunction", *rights)
        )


def roll_out_fails_at(chain: Chain, state: str, break_it: Callable[[], Mend]) -> None:
    chain.broken.callback(break_it())
    chain.redrive()
    nested_failed_at(chain.fails_at("DeployCloud", ""), state)
    chain.broken.close()


def nested_failed_at(shown: dict[str, Any], state: str) -> None:
    """The nested execution of the last visit failed in ``state``, and gave its lock back."""
    nested = shown["nested"][shown["visits"][-1]["nested"]]
    failed = [visit["state"] for visit in nested if visit["failures"] and visit["type"] == "Task"]
    assert failed == [state], nested
    assert "GiveBack" in [visit["state"] for visit in nested if visit["outcome"] == "succeeded"]


def the_edge_check_fails(chain: Chain) -> None:
    """State CheckEdge, whose function is DeployEdge's: it breaks while the pipeline waits for the edge."""
    system = chain.system
    chain.redrive()
    breakage.when_entered(
        system,
        "TrainAndDeployMachine",
        chain.key,
        "WaitForEdge",
        lambda: chain.broken.callback(breakage.without_table(system, "DeployEdgeFunction")),
    )
    chain.fails_at("CheckEdge", TABLE_IS_GONE)
    chain.broken.close()


def the_end_is_not_recorded(chain: Chain) -> None:
    """State RecordDeployed; the redrive that follows is watched to the end by the caller."""
    chain.broken.callback(breakage.without_table(chain.system, "RecordOutcomeFunction"))
    chain.redrive()
    chain.fails_at("RecordDeployed", TABLE_IS_GONE)
    chain.broken.close()
    chain.redrive()


def nothing_was_repeated(chain: Chain) -> None:
    system, shown = chain.system, chain.show()
    visits = [visit for visit in shown["visits"] if visit["type"] == "Task"]
    entered = {
        state: [v["outcome"] for v in visits if v["state"] == state] for state in {v["state"] for v in visits}
    }
    for state, outcomes in entered.items():
        if state != "CheckEdge":  # it looks again and again until the core device has answered
            assert len(outcomes) == 1 + chain.failed.get(state, 0), (state, entered)
            assert "succeeded" not in outcomes[: chain.failed.get(state, 0)], (state, outcomes)
        assert outcomes[-1] == "succeeded"
    assert set(chain.failed) == set(entered)
    assert shown["job"]["redrives"] == sum(chain.failed.values())
    attempts = {key.split("/")[3] for key in breakage.keys_below(system, f"jobs/{chain.key}/attempts/")}
    assert attempts == {"1"}
    assert shown["job"]["release"] == 1
    assert len({key.split("/")[2] for key in breakage.keys_below(system, f"bundles/{MODEL}/")}) == 1
    layers = client(system, "lambda").list_layer_versions(LayerName=f"{system.stack}-model-{MODEL}")
    assert len(layers["LayerVersions"]) == 1
    group = {"ModelPackageGroupName": world.outputs(system)["ModelGroup"]}
    packages = client(system, "sagemaker").list_model_packages(**group)["ModelPackageSummaryList"]
    assert [p["ModelPackageDescription"] for p in packages].count(f"{MODEL} release 1") == 1


def the_commands_agree(chain: Chain) -> None:
    system = chain.system
    with pytest.raises(CommandFailed, match="cannot be redriven: run it again with `isthmus job retry"):
        system.isthmus("pipeline", "redrive", chain.key)
    with pytest.raises(CommandFailed, match="does not run"):
        system.isthmus("pipeline", "stop", chain.key)
    listed = json.loads(system.isthmus("pipeline", "list", "--model", MODEL, "--json"))
    assert [(entry["job_key"], entry["state"]) for entry in listed] == [(chain.key, "DEPLOYED")]
    assert listed[0]["redrives"] == sum(chain.failed.values())
    assert listed[0]["attempt"] == 1
    text = system.isthmus("pipeline", "show", chain.key)
    for part in ("✗", "✓", f"↻ redrive {listed[0]['redrives']}"):
        assert part in text
    assert TABLE_IS_GONE in text
