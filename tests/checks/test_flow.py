"""What each state is certain to find in the document, on small definitions and on faults in ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from checks import flow
from checks.machines import Machine, load_machines
from checks.task_parameters import check_machine
from tests.checks.planting import ROOT

State = dict[str, Any]


def entered(states: dict[str, State], *start: str) -> dict[str, set[str] | None]:
    """Return the fields that each state is certain to find, from A on."""
    definition = {"StartAt": "A", "States": states}
    found = flow.entered(definition, frozenset((name,) for name in start))
    return {
        name: None if held is None else {".".join(field) for field in held} for name, held in found.items()
    }


def sets(path: str | None, to: str, **fields: Any) -> State:
    return {"Type": "Task", "ResultPath": path, "Next": to, **fields}


END: State = {"Type": "Succeed"}


def test_a_result_is_there_for_those_after_it() -> None:
    assert entered({"A": sets("$.a", "B"), "B": sets("$.b.c", "C"), "C": END}, "given") == {
        "A": {"given"},
        "B": {"given", "a"},
        "C": {"given", "a", "b", "b.c"},
    }


def test_what_only_one_branch_sets_is_not_certain_and_what_both_set_is() -> None:
    choice = {"Type": "Choice", "Choices": [{"Next": "B"}], "Default": "C"}
    states = {
        "A": choice,
        "B": sets("$.b", "D"),
        "C": sets("$.c", "D"),
        "D": sets("$.d", "E"),
        "E": END,
    }
    assert entered(states)["D"] == set()
    states["C"] = sets("$.b", "D")
    assert entered(states)["D"] == {"b"}


def test_what_a_loop_sets_is_not_certain_the_first_time() -> None:
    again = {"Type": "Choice", "Choices": [{"Next": "A"}], "Default": "C"}
    found = entered({"A": sets("$.a", "B"), "B": again, "C": END})
    assert found == {"A": set(), "B": {"a"}, "C": {"a"}}


def test_a_failure_leaves_its_own_result_and_not_the_states() -> None:
    caught = [{"Next": "C", "ResultPath": "$.failure"}, {"Next": "D"}]
    states = {"A": sets("$.a", "B", Catch=caught), "B": END, "C": END, "D": END}
    assert entered(states, "given") == {
        "A": {"given"},
        "B": {"given", "a"},
        "C": {"given", "failure"},
        "D": {"Error", "Cause"},
    }


@pytest.mark.parametrize(
    ("state", "held"),
    [
        ({"Type": "Pass", "Parameters": {"a.$": "$.x", "b": 1}}, {"a", "b"}),
        ({"Type": "Pass", "Result": {"a": 1}}, {"a"}),
        ({"Type": "Pass"}, {"given"}),
        ({"Type": "Pass", "ResultPath": "$.a"}, {"given", "a"}),
        ({"Type": "Pass", "InputPath": "$.x"}, None),
        ({"Type": "Wait", "Seconds": 1}, {"given"}),
        ({"Type": "Task", "ResultSelector": {"a.$": "$.Payload"}}, {"a"}),
        ({"Type": "Task", "Parameters": {"a": 1}}, None),
        ({"Type": "Task", "ResultPath": None}, {"given"}),
        ({"Type": "Task", "ResultPath": "$['a']"}, {"given", "a"}),
        ({"Type": "Task", "ResultPath": "$.a", "OutputPath": "$.a"}, None),
    ],
)
def test_a_state_makes_of_the_document_what_the_language_says(state: State, held: set[str] | None) -> None:
    assert entered({"A": {**state, "Next": "B"}, "B": END}, "given")["B"] == held


def test_a_field_inside_another_can_be_missing_alone() -> None:
    document = {"a": {"b": 1, "c": 2}, "d": 3}
    assert flow.without(document, [("a", "b"), ("d",)]) == {"a": {"c": 2}}


# ------------------------------------------------------------------------------ planted in ours


def pipeline() -> Machine:
    return next(machine for machine in load_machines(ROOT) if machine.name == "train_and_deploy")


def reads(state: str, path: str) -> Callable[[dict[str, State]], object]:
    return lambda states: states[state]["Parameters"]["Payload"].update({"planted.$": path})


PLANTED: list[tuple[Callable[[dict[str, State]], object], str]] = [
    # An imported model was trained by nobody.
    (reads("EvaluateModel", "$.trained.fencing"), "EvaluateModel: reads $.trained.fencing"),
    (reads("RecordRejected", "$.plan.value.rig"), "RecordRejected: reads $.plan.value.rig"),
    (lambda states: states["UseImportedModel"].update(ResultPath="$.other"), "EvaluateModel: reads $.fencing"),
    # Set only later, or only by a failure.
    (reads("PlanTraining", "$.lost.value"), "PlanTraining: reads $.lost.value"),
    (reads("DeployEdge", "$.edge_progress.value.done"), "DeployEdge: reads $.edge_progress.value.done"),
    (lambda states: states["Begin"]["Parameters"].pop("failure"), "PlanTraining: reads $.failure"),
    (lambda states: states["Begin"]["Parameters"].pop("job_key.$"), "RegisterDataset: reads $.job_key"),
    (lambda states: states["Begin"]["Parameters"].update({"round.$": "$.round"}), "Begin: reads $.round"),
    # Read by a Choice and a Wait, which have no parameters.
    (lambda states: states["Gate"]["Choices"][0].update(Variable="$.packaged.value.model"), "Gate: reads $.packaged"),
    (lambda states: states["WaitForEdge"].update(SecondsPath="$.waited.value"), "WaitForEdge: reads $.waited.value"),
]  # fmt: skip


@pytest.mark.parametrize(("plant", "expected"), PLANTED, ids=[name for _, name in PLANTED])
def test_a_path_that_may_select_nothing_is_found(
    plant: Callable[[dict[str, State]], object], expected: str
) -> None:
    machine = pipeline()
    assert check_machine(machine) == []
    plant(machine.definition["States"])
    found = [str(finding) for finding in check_machine(machine)]
    assert any(finding.startswith(f"train_and_deploy.{expected}") for finding in found), found
    assert all(finding.endswith("on every way from StartAt: a state that sets it is not always before this one")
               for finding in found), found  # fmt: skip


def test_a_choice_may_ask_first_whether_the_field_is_there() -> None:
    machine = pipeline()
    absent = "$.packaged.value.model"
    asked = {"Variable": absent, "IsPresent": True}
    compared = {"Variable": absent, "StringEquals": "digits"}
    machine.definition["States"]["Gate"]["Choices"][0] = {"And": [asked, compared], "Next": "PackageModel"}
    assert check_machine(machine) == []
