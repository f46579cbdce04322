"""Events, Executions, Pipeline, Registry, Signer and EdgeFleet."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest

from isthmus.adapters.aws.events import EventBridgeEvents
from isthmus.adapters.aws.fleet import GreengrassFleet
from isthmus.adapters.aws.machines import StepFunctionsExecutions
from isthmus.adapters.aws.pipeline import StepFunctionsPipeline
from isthmus.adapters.aws.registry import SageMakerRegistry
from isthmus.adapters.aws.session import client
from isthmus.adapters.aws.signer import KmsSigner
from isthmus.adapters.local.events import MemoryEvents, MemoryExecutions
from isthmus.adapters.local.fleet import MemoryFleet
from isthmus.adapters.local.pipeline import MemoryPipeline, run_of
from isthmus.adapters.local.registry import MemoryRegistry
from isthmus.adapters.local.signer import MemorySigner
from isthmus.errors import LimitExceeded, Refused, SignatureInvalid
from isthmus.inference.bundle import verify_signature
from isthmus.ports import EdgeComponent, EdgeFleet, Events, Executions, Registry, Signer
from isthmus.workflows.follow_job import Pipeline

# ------------------------------------------------------------------------------------------ events


@pytest.fixture(params=["memory", "eventbridge"])
def bus(request: pytest.FixtureRequest) -> tuple[Events, Callable[[], list[tuple[str, Any]]]]:
    """The bus, and a look at what arrived at who listens to it."""
    if request.param == "memory":
        memory = MemoryEvents()
        return memory, lambda: memory.published
    request.getfixturevalue("aws")
    events, sent = client("events"), []
    events.create_event_bus(Name="shop")
    # What moto's bus takes cannot be read back without a further package: look at what is sent to it.
    events.meta.events.register(
        "provide-client-params.events.PutEvents", lambda params, **_: sent.extend(params["Entries"])
    )

    def arrived() -> list[tuple[str, Any]]:
        assert {(entry["EventBusName"], entry["Source"]) for entry in sent} == {("shop", "isthmus")}
        return [(entry["DetailType"], json.loads(entry["Detail"])) for entry in sent]

    return EventBridgeEvents("shop"), arrived


def test_an_event_arrives_with_its_detail(bus: Any) -> None:
    events, arrived = bus
    detail = {"job_key": "k", "evaluation": {"candidate": 0.5, "champion": None}, "release": 3}
    events.publish("isthmus job deployed", detail)
    assert arrived() == [("isthmus job deployed", detail)]


# -------------------------------------------------------------------------- executions and pipeline


def machine() -> str:
    definition = {"StartAt": "End", "States": {"End": {"Type": "Succeed"}}}
    answer = client("stepfunctions").create_state_machine(
        name="shop-train-and-deploy",
        definition=json.dumps(definition),
        roleArn="arn:aws:iam::123456789012:role/r",
    )
    return str(answer["stateMachineArn"])


@pytest.fixture(params=["memory", "stepfunctions"])
def executions(request: pytest.FixtureRequest) -> tuple[Executions, str]:
    if request.param == "memory":
        return MemoryExecutions(), "arn:machine"
    request.getfixturevalue("aws")
    return StepFunctionsExecutions(), machine()


def test_a_name_starts_once(executions: tuple[Executions, str]) -> None:
    starter, arn = executions
    assert starter.start(arn, "job-1", {"a": 1})
    assert not starter.start(arn, "job-1", {"a": 2})
    assert starter.start(arn, "job-2", {"a": 1})


@pytest.fixture(params=["memory", "stepfunctions"])
def pipeline(request: pytest.FixtureRequest) -> Pipeline:
    """With ``job-1`` running."""
    if request.param == "memory":
        memory = MemoryPipeline()
        memory.script["job-1"] = [run_of("job-1", "RUNNING")]
        return memory
    request.getfixturevalue("aws")
    arn = machine()
    StepFunctionsExecutions().start(arn, "job-1", {})
    return StepFunctionsPipeline(arn)


def test_a_running_and_an_unknown_job(pipeline: Pipeline) -> None:
    found = pipeline.run("job-1")
    assert found is not None
    assert (found.name, found.status, found.redrives) == ("job-1", "RUNNING", 0)
    assert [run.name for run in pipeline.recent()] == ["job-1"]
    assert pipeline.run("job-2") is None
    for call in (pipeline.retry, pipeline.redrive):
        with pytest.raises(Refused, match="there is no job job-2"):
            call("job-2")
    with pytest.raises(Refused, match="there is no job job-2"):
        pipeline.stop("job-2", "enough")


# ---------------------------------------------------------------------------------------- registry


@pytest.fixture(params=["memory", "sagemaker"])
def registry(request: pytest.FixtureRequest) -> Registry:
    if request.param == "memory":
        return MemoryRegistry()
    request.getfixturevalue("aws")
    client("sagemaker").create_model_package_group(ModelPackageGroupName="shop-models")
    return SageMakerRegistry("shop-models")


def test_a_release_registers_once(registry: Registry) -> None:
    metadata = {"bundle": "b" * 64, "accuracy": "0.98"}
    first = registry.register("digits", 1, "s3://data/bundle.zip", metadata)
    assert registry.register("digits", 1, "s3://data/bundle.zip", metadata) == first
    others = {
        registry.register("digits", 11, "s3://d/b.zip", {}),
        registry.register("fashion", 1, "s3://d/b.zip", {}),
    }
    assert first not in others
    assert len(others) == 2


def approval(registry: Registry, package: str) -> tuple[str, str]:
    if isinstance(registry, MemoryRegistry):
        return registry.judged[package]
    found = client("sagemaker").describe_model_package(ModelPackageName=package)
    return found["ModelApprovalStatus"], found.get("ApprovalDescription") or ""


def test_a_package_waits_for_approval_and_is_told_what_came_of_it(registry: Registry) -> None:
    known = registry.register("digits", 1, "s3://d/b.zip", {})
    waits = registry.register("digits", 2, "s3://d/b.zip", {}, approved=False)
    assert [approval(registry, entry)[0] for entry in (known, waits)] == ["Approved", "PendingManualApproval"]
    registry.judge(waits, "Rejected", "rejected by ada: too dear")
    assert registry.register("digits", 2, "s3://d/b.zip", {}, approved=False) == waits
    assert approval(registry, waits) == ("Rejected", "rejected by ada: too dear")


# ------------------------------------------------------------------------------------------ signer


@pytest.fixture(params=["memory", "kms"])
def signer(request: pytest.FixtureRequest) -> Signer:
    if request.param == "memory":
        return MemorySigner()
    request.getfixturevalue("aws")
    key = client("kms").create_key(KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY")
    return KmsSigner(key["KeyMetadata"]["KeyId"])


def test_a_signature_verifies_and_only_what_was_signed(signer: Signer) -> None:
    digest = hashlib.sha256(b"manifest").digest()
    signature = signer.sign(digest)
    # moto hashes a digest once more, as if MessageType were RAW; KMS does not.
    signed = digest if isinstance(signer, KmsSigner) else b"manifest"
    verify_signature(signed, signature, signer.public_key())
    with pytest.raises(SignatureInvalid):
        verify_signature(signed + b"!", signature, signer.public_key())
    with pytest.raises(SignatureInvalid):
        verify_signature(signed, signature, MemorySigner().public_key())


def test_the_public_key_stays_the_same(signer: Signer) -> None:
    assert signer.public_key() == signer.public_key()


# ------------------------------------------------------------------------------------------- fleet


# Deployments are of the fake alone: moto has none. The requests of the real adapter are in
# tests/unit/adapters, and the local cloud answers them end to end.
def test_deploying_keeps_what_others_deployed() -> None:
    fleet: EdgeFleet = MemoryFleet()
    first = fleet.deploy("target", (EdgeComponent("a", "1.0.0"),), "token-1")
    assert fleet.deploy("target", (EdgeComponent("a", "1.0.0"),), "token-1") == first
    assert fleet.deploy("target", (EdgeComponent("b", "1.0.0"),), "token-2") != first
    assert fleet.status("target", first) == []


def test_a_recipe_is_bounded_before_it_is_sent() -> None:
    recipe = {"ComponentName": "a", "ComponentVersion": "1.0.0", "ComponentDescription": "x" * 16_000}
    for adapter in (MemoryFleet(), GreengrassFleet()):
        with pytest.raises(LimitExceeded, match="16000"):
            adapter.publish_recipe(recipe)
