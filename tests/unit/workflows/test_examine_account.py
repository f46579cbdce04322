"""Each check of the doctor: what is well, what is not, and the command that mends it."""

from __future__ import annotations

from typing import Any

import botocore.loaders
import pytest

from isthmus.adapters.local.account import MemoryAccount, MemoryMachine
from isthmus.model.finding import Finding
from isthmus.model.units import GIB
from isthmus.workflows.examine_account import LambdaLimits, examine, stack_finding
from isthmus.workflows.stack_states import NEXT_STEPS

FORMATION = "aws cloudformation"
DELETE = f"{FORMATION} delete-stack --stack-name shop"
PLAN = "isthmus destroy --stack shop --keep data,models,records,logs"


def findings(
    machine: MemoryMachine | None = None, account: MemoryAccount | None = None
) -> dict[str, Finding]:
    found = examine("shop", machine or MemoryMachine(), account or MemoryAccount())
    assert len({entry.check for entry in found}) == len(found)
    return {entry.check: entry for entry in found}


def test_a_machine_and_an_account_that_have_everything() -> None:
    assert {entry.level for entry in findings().values()} == {"ok"}


@pytest.mark.parametrize(
    ("machine", "check", "level", "mend"),
    [
        ({"version": (3, 10, 2)}, "Python", "missing", "uv python install 3.13"),
        ({"version": (3, 14, 0)}, "Python", "missing", "uv python install 3.13"),
        ({"lacks": {"msgspec"}}, "packages", "missing", "pip install msgspec"),
        ({"lacks": {"sam"}}, "sam", "missing", "pip install aws-sam-cli"),
        ({"lacks": {"aws"}}, "aws", "warn", "pip install awscli"),
        ({"lacks": {"libgomp.so.1"}}, "libraries of a rig", "warn", "sudo apt install libgomp1"),
        ({"free_bytes": GIB}, "disk", "missing", "du"),
        ({"free_bytes": 5 * GIB}, "disk", "warn", "du"),
    ],
)
def test_what_a_machine_lacks(machine: dict[str, Any], check: str, level: str, mend: str) -> None:
    found = findings(MemoryMachine(**machine))
    assert found[check].level == level
    assert found[check].mend.startswith(mend)
    assert {entry.level for name, entry in found.items() if name != check} == {"ok"}


@pytest.mark.parametrize(
    ("account", "check", "level", "mend"),
    [
        ({"absent": ["greengrassv2"]}, "region", "missing", "pip install --upgrade boto3"),
        ({"skew_seconds": -90.0}, "clock", "warn", "sudo timedatectl"),
        ({"skew_seconds": 400.0}, "clock", "missing", "sudo timedatectl"),
        ({"limits": LambdaLimits(10, 0, 75 * GIB)}, "Lambda's concurrency", "warn", "aws service-quotas"),
        ({"limits": LambdaLimits(1000, 61 * GIB, 75 * GIB)}, "Lambda's storage", "warn", "isthmus collect"),
        (
            {"limits": LambdaLimits(1000, 74 * GIB, 75 * GIB)},
            "Lambda's storage",
            "missing",
            "isthmus collect",
        ),
        ({"quotas": {"ml.m5.large": 4.0, "ml.g5.xlarge": 0.0}}, "SageMaker training", "warn", "aws"),
        (
            {"refused": ["kms:CreateKey"]},
            "permissions",
            "missing",
            "aws iam attach-user-policy --user-name ada",
        ),
        ({"status": "ROLLBACK_COMPLETE"}, "stack", "missing", DELETE),
    ],
)
def test_what_an_account_lacks(account: dict[str, Any], check: str, level: str, mend: str) -> None:
    found = findings(account=MemoryAccount(**account))
    assert found[check].level == level
    assert found[check].mend.startswith(mend)
    assert {entry.level for name, entry in found.items() if name != check} == {"ok"}


@pytest.mark.parametrize(
    ("question", "checks"),
    [
        ("lambda_limits", {"Lambda's concurrency", "Lambda's storage"}),
        ("training_quotas", {"SageMaker training"}),
        ("refused_actions", {"permissions"}),
        ("stack_status", {"stack"}),
    ],
)
def test_a_question_that_is_not_answered_says_why_and_the_others_go_on(
    question: str, checks: set[str]
) -> None:
    found = findings(account=MemoryAccount(fails={question: "you may not ask"}))
    unknown = {name: entry.says for name, entry in found.items() if entry.level == "unknown"}
    assert unknown == dict.fromkeys(checks, "cannot be checked: you may not ask")
    assert {entry.level for name, entry in found.items() if name not in checks} == {"ok"}


def test_without_credentials_the_rest_of_the_account_is_unknown() -> None:
    found = findings(account=MemoryAccount(fails={"caller": "no credentials"}))
    assert found["credentials"] == Finding("credentials", "missing", "no credentials", "aws configure")
    assert [name for name, entry in found.items() if entry.level == "unknown"] == [
        "clock",
        "Lambda's concurrency",
        "Lambda's storage",
        "SageMaker training",
        "permissions",
        "stack",
    ]
    assert found["region"].level == "ok"


def test_without_a_region() -> None:
    found = findings(account=MemoryAccount(region_name=""))
    assert (found["region"].level, found["region"].mend) == ("missing", "export AWS_DEFAULT_REGION=eu-west-1")


@pytest.mark.parametrize(
    ("status", "level", "mend"),
    [
        ("", "ok", "sam build && sam deploy"),
        ("CREATE_COMPLETE", "ok", ""),
        ("UPDATE_ROLLBACK_COMPLETE", "ok", ""),
        ("UPDATE_IN_PROGRESS", "warn", "isthmus doctor --stack shop"),
        ("DELETE_IN_PROGRESS", "warn", "isthmus doctor --stack shop"),
        ("UPDATE_COMPLETE", "ok", ""),
        ("IMPORT_COMPLETE", "ok", ""),
        ("IMPORT_ROLLBACK_COMPLETE", "ok", ""),
        ("DELETE_COMPLETE", "ok", "sam build && sam deploy"),
        ("REVIEW_IN_PROGRESS", "missing", DELETE),
        ("ROLLBACK_COMPLETE", "missing", DELETE),
        ("CREATE_FAILED", "missing", PLAN),
        ("ROLLBACK_FAILED", "missing", PLAN),
        ("DELETE_FAILED", "missing", PLAN),
        (
            "UPDATE_FAILED",
            "missing",
            f"sam build && sam deploy, or {FORMATION} rollback-stack --stack-name shop",
        ),
        (
            "IMPORT_ROLLBACK_FAILED",
            "missing",
            f"{FORMATION} describe-stack-events --stack-name shop --max-items 20",
        ),
        (
            "A_STATUS_OF_TOMORROW",
            "missing",
            f"{FORMATION} describe-stack-events --stack-name shop --max-items 20",
        ),
        (
            "UPDATE_ROLLBACK_FAILED",
            "missing",
            "aws cloudformation continue-update-rollback --stack-name shop",
        ),
    ],
)
def test_every_state_of_a_stack_has_its_next_step(status: str, level: str, mend: str) -> None:
    found = stack_finding("shop", status)
    assert (found.level, found.mend) == (level, mend)


def every_status() -> list[str]:
    """Return the statuses that CloudFormation has, by botocore's model of it."""
    model = botocore.loaders.Loader().load_service_model("cloudformation", "service-2")
    return [str(status) for status in model["shapes"]["StackStatus"]["enum"]]


def test_every_failed_state_has_a_step_of_its_own() -> None:
    ended = {status for status in every_status() if not status.endswith("_IN_PROGRESS")}
    assert "UPDATE_FAILED" in ended
    assert ended - set(NEXT_STEPS) == {"DELETE_COMPLETE", "IMPORT_ROLLBACK_FAILED"}


@pytest.mark.parametrize("status", every_status())
def test_no_state_of_a_stack_is_mended_by_removing_data(status: str) -> None:
    mend = stack_finding("shop", status).mend
    assert "--yes" not in mend
    assert "delete-stack" not in mend or status in ("REVIEW_IN_PROGRESS", "ROLLBACK_COMPLETE")
    assert "destroy" not in mend or mend.endswith("--keep data,models,records,logs")
