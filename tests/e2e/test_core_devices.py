"""Core devices from their join to their end: this stack's own has its models, and one more comes and goes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from demo.system import CORE, CommandFailed, System, wait_until
from tests.e2e import world
from tests.e2e.cleanup import client, listed
from tests.e2e.permissions import failures

pytestmark = pytest.mark.e2e


def fleet(system: System) -> dict[str, dict[str, Any]]:
    return {entry["name"]: entry for entry in json.loads(system.isthmus("fleet", "list", "--json"))}


def test_a_device_that_joined_serves_what_is_wanted_and_another_one_is_waited_for(
    system: System, with_core_device: bool, tmp_path: Path
) -> None:
    if not with_core_device:
        pytest.skip("the core device is the local cloud's")
    ended = world.wait_for_end(system, failures.import_model(system, tmp_path, "at-the-edge"))
    assert ended["state"] == "DEPLOYED", ended
    (tmp_path / "at-the-edge.onnx").unlink()
    options = ("--name", "cam-2", "--folder", tmp_path, "--nucleus", "lite", "--force", "--json")
    joined = json.loads(system.isthmus("edge", "join", *options))
    again = json.loads(system.isthmus("edge", "join", *options))
    assert again == {**joined, "new": False}
    found = fleet(system)
    assert set(found) == {CORE, "cam-2"}
    assert found["cam-2"]["status"] == "NEVER SEEN"
    assert found[CORE]["status"] == "HEALTHY"
    shown = json.loads(system.isthmus("fleet", "show", CORE, "--json"))
    assert shown["serves"]["at-the-edge"] == 1
    assert shown["notes"] == []
    parts = {entry["name"]: entry for entry in shown["device"]["components"]}
    for model, release in shown["serves"].items():
        assert parts[f"{system.stack}.{model}.model"]["version"] == f"{release}.0.0"
        assert parts[f"{system.stack}.{model}.infer"]["state"] == "RUNNING"
    left = json.loads(system.isthmus("edge", "leave", "cam-2", "--folder", tmp_path, "--json"))
    assert left["certificates"] == [joined["certificate_id"]]
    assert set(fleet(system)) == {CORE}
    assert list(tmp_path.iterdir()) == []
    things = {entry["thingName"] for entry in listed(system, "iot", "list_things", "things")}
    assert CORE in things
    assert "cam-2" not in things
    names = {entry["policyName"] for entry in listed(system, "iot", "list_policies", "policies")}
    assert f"{system.stack}.core.{CORE}" in names
    assert f"{system.stack}.core.cam-2" not in names
    with pytest.raises(CommandFailed, match="there is no core device cam-2"):
        system.isthmus("fleet", "show", "cam-2")


def test_a_device_whose_certificate_is_taken_back_gets_no_credentials(
    system: System, with_core_device: bool
) -> None:
    if not with_core_device:
        pytest.skip("the core device is the local cloud's")
    iot, name = client(system, "iot"), f"{system.stack}.core.{CORE}"
    (arn,) = iot.list_targets_for_policy(policyName=name)["targets"]
    policy = json.loads(iot.get_policy(policyName=name)["policyDocument"])
    rights = [entry for entry in policy["Statement"] if entry["Action"] == ["iot:AssumeRoleWithCertificate"]]
    assert rights == [
        {
            "Effect": "Allow",
            "Action": ["iot:AssumeRoleWithCertificate"],
            "Resource": [
                iot.describe_role_alias(roleAlias=f"{system.stack}-core")["roleAliasDescription"][
                    "roleAliasArn"
                ]
            ],
        }
    ]
    assert (
        iot.describe_certificate(certificateId=arn.rpartition("/")[2])["certificateDescription"]["status"]
        == "ACTIVE"
    )


def test_a_release_comes_to_the_canaries_first_and_then_to_the_others(
    system: System, with_core_device: bool, tmp_path: Path
) -> None:
    """This machine can run one core device, which is the canary for a while: nobody else is there to have it then."""
    if not with_core_device:
        pytest.skip("the core device is the local cloud's")
    system.join_core("--canary")
    try:
        assert fleet(system)[CORE]["canary"]
        ended = world.wait_for_end(system, failures.import_model(system, tmp_path, "first-here"))
        assert ended["state"] == "DEPLOYED", ended
        shown = json.loads(system.isthmus("fleet", "show", CORE, "--json"))
        assert shown["serves"]["first-here"] == shown["should"]["first-here"] == 1
        groups = {
            kind: deployed(system, f"{system.stack}-{kind}", f"{system.stack}.first-here.model")
            for kind in ("canaries", "cores")
        }
        assert groups == {"canaries": "1.0.0", "cores": "1.0.0"}
        with pytest.raises(
            CommandFailed, match="no core device has a release of first-here that another one"
        ):
            system.isthmus("fleet", "rollback", "first-here", "--reason", "there is none before it")
    finally:
        system.join_core("--no-canary")
    assert not fleet(system)[CORE]["canary"]
    wait_until(lambda: fleet(system)[CORE]["notes"] == [], "the device to have what its group has again", 120)


def deployed(system: System, group: str, component: str) -> str | None:
    """Return the version of a component that the group's latest deployment asks for."""
    greengrass = client(system, "greengrassv2")
    arn = client(system, "iot").describe_thing_group(thingGroupName=group)["thingGroupArn"]
    for entry in greengrass.list_deployments(targetArn=arn, historyFilter="LATEST_ONLY")["deployments"]:
        found = greengrass.get_deployment(deploymentId=entry["deploymentId"])["components"]
        return str(found[component]["componentVersion"]) if component in found else None
    return None
