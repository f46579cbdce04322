"""A second stack beside the first, in one account and region: it is removed, and the first is not."""

from __future__ import annotations

import copy
import io
import json
import subprocess
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from demo.system import System, wait_until
from isthmus.model import layout
from isthmus.workflows.destroy_stack import RUNNING
from tests.e2e.cleanup import client, left, listed
from tests.e2e.world import call, outputs

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

MODEL, RELEASES = "pear", 5


Found = dict[str, set[tuple[str, str]]]
"""What a plan would remove: each kind's things, by id and name."""


@dataclass
class Second:
    """The second stack's system; what was there before it; and what the first's removal would have taken then."""

    system: System
    before: set[str]
    firsts: Found


def beside(system: System, stack: str) -> System:
    """Return the same cloud and folder, with another stack."""
    other = copy.copy(system)
    other.stack, other.env, other.edge_port = stack, {**system.env, "ISTHMUS_STACK": stack}, 0
    return other


def inventory(system: System) -> set[str]:
    """Return what a removal of another stack must not touch, by what the services call it: all there is.

    Keys that wait for their deletion are not there any more.
    """
    lists = (
        ("stepfunctions", "list_state_machines", "stateMachines", "stateMachineArn"),
        ("sagemaker", "list_model_package_groups", "ModelPackageGroupSummaryList", "ModelPackageGroupArn"),
        ("lambda", "list_functions", "Functions", "FunctionArn"),
        ("lambda", "list_layers", "Layers", "LayerArn"),
        ("greengrassv2", "list_components", "components", "arn"),
        ("greengrassv2", "list_deployments", "deployments", "deploymentId"),
        ("s3", "list_buckets", "Buckets", "Name"),
        ("dynamodb", "list_tables", "TableNames", ""),
        ("sqs", "list_queues", "QueueUrls", ""),
        ("logs", "describe_log_groups", "logGroups", "logGroupName"),
    )
    found = {
        f"{operation} {entry[member] if member else entry}"
        for service, operation, key, member in lists
        for entry in listed(system, service, operation, key)
    }
    policies = listed(system, "iam", "list_policies", "Policies", Scope="Local")
    found |= {f"policy {entry['Arn']}" for entry in policies}
    stacks = listed(system, "cloudformation", "list_stacks", "StackSummaries")
    found |= {f"stack {entry['StackId']}" for entry in stacks if entry["StackStatus"] != "DELETE_COMPLETE"}
    return found | {f"key {identity}" for identity in enabled_keys(system)}


def enabled_keys(system: System) -> Iterator[str]:
    for entry in listed(system, "kms", "list_keys", "Keys"):
        if client(system, "kms").describe_key(KeyId=entry["KeyId"])["KeyMetadata"]["KeyState"] == "Enabled":
            yield entry["KeyId"]


def an_archive() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as out:
        out.writestr("app.py", "def handler(event, context):\n    return event\n")
    return stream.getvalue()


def make_what_a_pipeline_makes(system: System) -> None:
    """Things of each kind that no template knows, without the minutes that trainings take."""
    found = outputs(system)
    for body in (b"old", b"new"):
        client(system, "s3").put_object(Bucket=found["Bucket"], Key=f"bundles/{MODEL}/d/layer.zip", Body=body)
    for number in range(RELEASES):
        key = f"bundles/{MODEL}/{number}/layer.zip"
        client(system, "s3").put_object(Bucket=found["Bucket"], Key=key, Body=b"layer")
    client(system, "s3").put_object(Bucket=found["Bucket"], Key="datasets/d/blobs/x", Body=b"x")
    make_versions(system)
    make_components(system, found["CoreDevices"])
    client(system, "sagemaker").create_model_package(
        ModelPackageGroupName=found["ModelGroup"], ModelPackageDescription=f"{MODEL} release 1"
    )
    system.isthmus(
        "rig", "join", "--name", "rig-b", "--zone", "onprem-here", "--folder", system.folder / "rig-b",
        "--no-rates",
    )  # fmt: skip


def make_versions(system: System) -> None:
    """Five releases of a model's function, each with its own layer version; the first is in service."""
    functions, name = client(system, "lambda"), layout.function_name(system.stack, MODEL)
    roles = client(system, "iam").list_roles()["Roles"]
    role = next(entry["Arn"] for entry in roles if "lambda" in str(entry["AssumeRolePolicyDocument"]))
    functions.create_function(
        FunctionName=name,
        Runtime="python3.13",
        Handler="app.handler",
        Role=role,
        Code={"ZipFile": an_archive()},
        Tags={layout.STACK_TAG: system.stack},
    )
    functions.get_waiter("function_active_v2").wait(FunctionName=name)
    for number in range(RELEASES):
        layer = functions.publish_layer_version(
            LayerName=name, Description=f"bundle {number}", Content={"ZipFile": an_archive()}
        )
        functions.update_function_configuration(FunctionName=name, Layers=[layer["LayerVersionArn"]])
        functions.get_waiter("function_updated_v2").wait(FunctionName=name)
        functions.publish_version(FunctionName=name, Description=str(number))
    functions.create_alias(FunctionName=name, Name="live", FunctionVersion="1")


def make_components(system: System, core_devices: str) -> None:
    """As many versions of a component; the first is deployed."""
    greengrass, name = client(system, "greengrassv2"), layout.component_name(system.stack, MODEL, "model")
    arns = []
    for number in range(1, RELEASES + 1):
        recipe = {
            "RecipeFormatVersion": "2020-01-25",
            "ComponentName": name,
            "ComponentVersion": f"{number}.0.0",
            "Manifests": [{"Platform": {"os": "linux"}, "Lifecycle": {}}],
        }
        made = greengrass.create_component_version(inlineRecipe=json.dumps(recipe).encode())
        arns.append(made["arn"])
    wait_until(
        lambda: greengrass.describe_component(arn=arns[0])["status"]["componentState"] == "DEPLOYABLE",
        "the component",
        60,
    )
    group = client(system, "iot").describe_thing_group(thingGroupName=core_devices)
    greengrass.create_deployment(
        targetArn=group["thingGroupArn"], components={name: {"componentVersion": "1.0.0"}}
    )


@pytest.fixture(scope="module")
def second(system: System) -> Iterator[Second]:
    """A stack whose name the first's is a prefix of."""
    other = beside(system, f"{system.stack}-b")
    before, firsts = inventory(system), things(planned(system)["remove"])
    try:
        other.deploy()
        make_what_a_pipeline_makes(other)
        yield Second(other, before, firsts)
    finally:
        other.isthmus("destroy", "--yes", "--force")


def planned(system: System, *arguments: str) -> dict[str, Any]:
    """Return the plan of a dry run."""
    answer = json.loads(system.isthmus("destroy", *arguments, "--json"))
    assert answer["done"] is False
    return dict(answer["plan"])


def names(groups: list[dict[str, Any]]) -> dict[str, list[str]]:
    return {group["kind"]: [thing["name"] for thing in group["things"]] for group in groups}


def things(groups: list[dict[str, Any]]) -> Found:
    """Return the ids and names of each kind; what runs is left out, for it ends by itself."""
    return {
        group["kind"]: {(thing["id"], thing["name"]) for thing in group["things"]}
        for group in groups
        if group["kind"] != RUNNING
    }


def test_a_dry_run_names_everything_and_removes_nothing(second: Second) -> None:
    stack, there = second.system.stack, inventory(second.system)
    found = names(planned(second.system)["remove"])
    assert inventory(second.system) == there
    assert found["model function"] == [f"{stack}-model-{MODEL}"]
    assert found["rig queue"] == [f"{stack}-rig-rig-b"]
    assert found["edge component"] == [f"{stack}.{MODEL}.model"]
    assert len(found["edge deployment"]) == 1
    assert set(found["layer"]) == {
        f"{stack}-model-{MODEL}",
        *(f"{stack}-{name}" for name in layout.TEMPLATE_LAYERS),
    }
    kinds = {"stack", "model registry", "log group", "bucket", "bucket folder", "table", "KMS key"}
    assert kinds <= set(found)
    assert len(found["KMS key"]) == 2


def test_what_is_kept_keeps_its_key(second: Second) -> None:
    plan = planned(second.system, "--keep", "models,records")
    kept, gone = names(plan["keep"]), names(plan["remove"])
    assert [name.rsplit("/", 2)[1] for name in kept["bucket folder"]] == ["bundles"]
    assert [name.rsplit("/", 2)[1] for name in gone["bucket folder"]] == ["datasets", "probes"]
    assert {"bucket", "table", "model registry", "KMS key"} <= set(kept)
    assert len(kept["KMS key"]) == 2
    assert plan["kept_usd_per_month"] >= 2


def test_a_collection_takes_what_nothing_refers_to(second: Second) -> None:
    """Of five, the first is in service and the last two are kept to go back to."""
    planned = json.loads(second.system.isthmus("collect", "--keep", "2", "--json"))
    done = json.loads(second.system.isthmus("collect", "--keep", "2", "--yes", "--json"))
    assert (planned["done"], done["done"]) == (False, True)
    for kind in ("components", "functions", "layers"):
        assert done[kind] == planned[kind]
    name = layout.function_name(second.system.stack, MODEL)
    assert [(entry["function"], entry["number"]) for entry in done["functions"]] == [(name, 2), (name, 3)]
    assert [(entry["layer"], entry["number"]) for entry in done["layers"]] == [(name, 2), (name, 3)]
    assert [entry["version"] for entry in done["components"]] == ["2.0.0", "3.0.0"]
    assert done["storage"]["used_bytes"] < planned["storage"]["used_bytes"]
    versions = listed(second.system, "lambda", "list_versions_by_function", "Versions", FunctionName=name)
    assert [entry["Version"] for entry in versions] == ["$LATEST", "1", "4", "5"]
    assert json.loads(second.system.isthmus("collect", "--keep", "2", "--json"))["functions"] == []


def test_neither_stack_finds_the_others_things(system: System, second: Second) -> None:
    """By ids: keys and deployments have no name that could tell whose they are."""
    firsts, seconds = things(planned(system)["remove"]), things(planned(second.system)["remove"])
    assert firsts == second.firsts, "as before the second was there"
    assert {"KMS key", "stack", "table", "bucket", "model registry"} <= set(firsts) & set(seconds)
    for kind in seconds:
        assert not firsts.get(kind, set()) & seconds[kind], kind


def test_a_removal_that_is_killed_is_continued_and_leaves_the_first_alone(
    system: System, second: Second, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [second.system.bin / "isthmus", "destroy", "--yes", "--keep", "logs"]
    with subprocess.Popen(command, env=second.system.env, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.strip().startswith("stack "):
                break
        process.kill()
    assert process.returncode < 0, "it had not ended by itself"
    second.system.isthmus("destroy", "--yes", "--keep", "logs")
    log_group = f"log group {layout.log_group(second.system.stack)}"
    assert left(system, second.system.stack) == [log_group], "what was to be kept, and nothing else"
    second.system.isthmus("destroy", "--yes")
    assert left(system, second.system.stack) == []
    assert inventory(system) >= second.before
    assert things(planned(system)["remove"]) == second.firsts
    for champion in json.loads(system.isthmus("model", "list", "--json")):
        ready = call(system, monkeypatch, "GET", f"/v2/models/{champion['model']}/ready")
        assert ready.status == 200, ready


def test_removing_what_is_not_there_is_no_error(second: Second) -> None:
    answer = json.loads(second.system.isthmus("destroy", "--yes", "--json"))
    assert (answer["done"], answer["removed"]) == (True, 0)


def test_collecting_spares_what_is_in_service(system: System) -> None:
    answer = json.loads(system.isthmus("collect", "--json"))
    assert answer["done"] is False
    champions = json.loads(system.isthmus("model", "list", "--json"))
    in_service = {(layout.function_name(system.stack, c["model"]), int(c["version"])) for c in champions}
    assert not in_service & {(entry["function"], entry["number"]) for entry in answer["functions"]}
    assert 0 < answer["storage"]["used_bytes"] < answer["storage"]["limit_bytes"]


def test_the_doctor_finds_the_stack_well(system: System) -> None:
    """Service quotas and the policy simulator are beyond a local cloud: it says so, and goes on."""
    findings = {entry["check"]: entry for entry in json.loads(system.isthmus("doctor", "--json"))}
    assert findings["stack"]["level"] == "ok"
    assert findings["credentials"]["level"] == "ok"
    assert "is CREATE_COMPLETE" in findings["stack"]["says"] or "UPDATE" in findings["stack"]["says"]
