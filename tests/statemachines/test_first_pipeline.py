"""What a model's first pipeline is taken to use is what the machines do on the way of one that deploys."""

from __future__ import annotations

import json
from collections.abc import Iterator

from cloudformation import ROOT, load_template

from isthmus.planning.ledger import FIRST, FIRST_IMPORT

WAYS: dict[str, list[str]] = {
    "TrainOrImport": ["PlanTraining"],
    "RigOrSageMaker": ["WaitForRig"],
    "Gate": ["PackageModel"],
    "NeedsApproval": ["DeployCloud"],
    "InService": ["DeployEdge"],
    "EdgeArrived": ["RecordDeployed"],
    "StillWanted": ["ProveModel"],
    "AllTraffic": ["ShiftTraffic", "ShiftTraffic", "Bake"],
}
"""Of each choice, where it leads, one time after the other: three steps of traffic, as the template has them."""


def way(machine: str, **other: list[str]) -> Iterator[dict[str, object]]:
    """Yield the states that an execution enters. ``other``: where a choice leads instead."""
    definition = json.loads((ROOT / f"statemachines/{machine}.asl.json").read_text())
    ways = {name: iter(targets) for name, targets in (WAYS | other).items()}
    name = definition["StartAt"]
    while name:
        state = definition["States"][name]
        yield state
        name = next(ways[name]) if state["Type"] == "Choice" else state.get("Next")


def test_a_first_pipeline_is_taken_for_one_that_deploys() -> None:
    weights = load_template()["Parameters"]["RolloutWeights"]["Default"].split(",")
    assert len(weights) == len(WAYS["AllTraffic"])
    states = [*way("train_and_deploy"), *way("deploy_cloud")]
    assert FIRST.state_transitions == len(states)
    calls = [state for state in states if state.get("Resource") == "arn:aws:states:::lambda:invoke"]
    assert FIRST.lambda_requests == len(calls)
    states = [*way("train_and_deploy", TrainOrImport=["UseImportedModel"]), *way("deploy_cloud")]
    assert FIRST_IMPORT.state_transitions == len(states)
    calls = [state for state in states if state.get("Resource") == "arn:aws:states:::lambda:invoke"]
    assert FIRST_IMPORT.lambda_requests == len(calls)
