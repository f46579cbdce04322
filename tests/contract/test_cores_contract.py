"""Core devices of a stack: their policies, their group and their end, on the fake that ships and on IoT's interface.

moto knows no Greengrass: its one call, which forgets a core device, is answered here; the local cloud's answer is
seen end to end.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse

from isthmus.adapters.aws.operator.cores import CoreDevices, IotCores, root_authorities
from isthmus.adapters.aws.operator.home import Home
from isthmus.adapters.aws.session import client
from isthmus.adapters.local.cores import MemoryCores
from isthmus.adapters.local.queue import ManualClock
from isthmus.device_keys import new_key
from isthmus.errors import Refused
from isthmus.model import layout
from isthmus.ports import CoreRegistry

STACKS = ("shop", "shop-core")
POLICY = json.dumps({"Version": "2012-10-17", "Statement": []})


@pytest.fixture
def forgotten(aws: None) -> list[str]:
    """The devices that Greengrass was told to forget."""
    found: list[str] = []

    def answer(model: Any, params: Any, **_: Any) -> tuple[AWSResponse, dict[str, Any]]:
        found.append(params["url_path"].rpartition("/")[2])
        return AWSResponse("", 204, {}, None), {}

    client("greengrassv2").meta.events.register("before-call.greengrassv2.DeleteCoreDevice", answer)
    for stack in STACKS:
        for group in (layout.core_group(stack), layout.canary_group(stack)):
            client("iot").create_thing_group(thingGroupName=group)
    return found


@pytest.fixture(params=["memory", "iot"])
def registry(request: pytest.FixtureRequest) -> CoreRegistry:
    if request.param == "memory":
        return MemoryCores()
    request.getfixturevalue("forgotten")
    return IotCores("shop", ManualClock())


def joined(registry: CoreRegistry, device: str) -> None:
    registry.grant(device, POLICY)
    registry.certificates(device).issue(device, new_key(device)[1])
    registry.admit(device)


def test_a_place_has_two_hosts(registry: CoreRegistry) -> None:
    place = registry.place()
    assert place.partition == "aws"
    assert place.region == "eu-west-1"
    assert place.data
    assert place.credentials
    assert place.data != place.credentials


def test_members_are_those_that_were_admitted_and_not_expelled(registry: CoreRegistry) -> None:
    assert registry.members() == {}
    for device in ("shop-2", "shop-1"):
        joined(registry, device)
    joined(registry, "shop-1")
    assert registry.members() == {"shop-1": False, "shop-2": False}
    for entry in registry.certificates("shop-1").of("shop-1"):
        registry.certificates("shop-1").remove(entry, "shop-1")
    registry.expel("shop-1")
    registry.expel("shop-1")
    assert registry.members() == {"shop-2": False}
    assert registry.certificates("shop-1").of("shop-1") == []


def test_a_canary_is_in_one_group_and_stays_there_until_it_is_told_otherwise(registry: CoreRegistry) -> None:
    joined(registry, "cam")
    for told, found in ((True, True), (None, True), (True, True), (False, False), (None, False)):
        registry.admit("cam", canary=told)
        assert registry.members() == {"cam": found}
    registry.admit("cam", canary=True)
    for entry in registry.certificates("cam").of("cam"):
        registry.certificates("cam").remove(entry, "cam")
    registry.expel("cam")
    assert registry.members() == {}


def test_who_has_no_thing_is_not_admitted(registry: CoreRegistry) -> None:
    with pytest.raises(Refused, match="there is no"):
        registry.admit("nobody")


def policies() -> set[str]:
    return {entry["policyName"] for entry in client("iot").list_policies()["policies"]}


def things() -> set[str]:
    return {entry["thingName"] for entry in client("iot").list_things()["things"]}


def test_a_new_policy_takes_the_place_of_the_old_one_however_often(forgotten: list[str]) -> None:
    registry, name = IotCores("shop", ManualClock()), layout.core_policy("shop", "cam")
    for number in range(7):
        registry.grant("cam", json.dumps({"Version": "2012-10-17", "Statement": [{"Sid": f"s{number}"}]}))
        registry.grant("cam", json.dumps({"Statement": [{"Sid": f"s{number}"}], "Version": "2012-10-17"}))
        found = json.loads(client("iot").get_policy(policyName=name)["policyDocument"])
        assert found["Statement"] == [{"Sid": f"s{number}"}]
        assert len(client("iot").list_policy_versions(policyName=name)["policyVersions"]) == 1


def test_what_is_expelled_leaves_nothing_but_what_others_made(forgotten: list[str]) -> None:
    client("iot").create_thing(thingName="robot", attributePayload={"attributes": {"floor": "2"}})
    registry = IotCores("shop", ManualClock())
    for device in ("cam", "robot"):
        joined(registry, device)
        (certificate,) = registry.certificates(device).of(device)
        registry.certificates(device).remove(certificate, device)
        registry.expel(device)
    assert policies() == set()
    assert things() == {"robot"}
    assert forgotten == ["cam", "robot"]


def test_destroy_finds_the_devices_of_this_stack_alone(forgotten: list[str]) -> None:
    """The stack shop-core has a device x, and shop has a device core-x."""
    for stack, device in (("shop", "core-x"), ("shop-core", "x")):
        joined(IotCores(stack, ManualClock()), device)
    client("iot").create_thing(thingName="by-hand")
    client("iot").add_thing_to_thing_group(thingName="by-hand", thingGroupName=layout.core_group("shop"))
    kind = CoreDevices(Home("shop"), ManualClock())
    (found,) = kind.find()
    assert found.name == "core-x"
    kind.remove(found, lambda line: None)
    kind.remove(found, lambda line: None)
    assert kind.find() == []
    assert policies() == {"shop-core.core.x"}
    assert things() == {"by-hand", "x"}


def test_a_stack_that_is_gone_has_no_devices(aws: None) -> None:
    assert CoreDevices(Home("shop"), ManualClock()).find() == []


def test_the_authorities_are_amazons_unless_a_bundle_is_named(tmp_path: Path) -> None:
    from cryptography import x509
    from cryptography.x509 import NameOID

    found = x509.load_pem_x509_certificates(root_authorities().encode())
    names = {str(e.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value) for e in found}
    assert names == {f"Amazon Root CA {number}" for number in (1, 2, 3, 4)}
    (tmp_path / "ours.pem").write_text("-----BEGIN CERTIFICATE-----")
    assert root_authorities(tmp_path / "ours.pem") == "-----BEGIN CERTIFICATE-----"
