"""Certificates of rigs: given out, listed, taken back, on the fake that ships and on IoT's interface."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from isthmus.adapters.aws.operator.certificates import IotCertificates, RigCertificates
from isthmus.adapters.aws.operator.home import Home
from isthmus.adapters.aws.session import client
from isthmus.adapters.local.certificates import MemoryCertificates
from isthmus.adapters.local.queue import ManualClock
from isthmus.device_keys import new_key
from isthmus.model import layout
from isthmus.ports import Certificates


def of_stack(stack: str) -> IotCertificates:
    """A stack's registry, with its policy as the template makes it."""
    policy = layout.certificate_policy(stack)
    if policy not in {entry["policyName"] for entry in client("iot").list_policies()["policies"]}:
        client("iot").create_policy(policyName=policy, policyDocument="{}")
    return IotCertificates(stack, policy, ManualClock())


@pytest.fixture(params=["memory", "iot"])
def registry(request: pytest.FixtureRequest) -> Certificates:
    if request.param == "memory":
        return MemoryCertificates()
    request.getfixturevalue("aws")
    return of_stack("shop")


def request_of(rig: str) -> str:
    return new_key(rig)[1]


def test_where_credentials_are_given_is_a_host(registry: Certificates) -> None:
    assert "/" not in registry.endpoint()
    assert registry.endpoint()


def test_a_certificate_is_active_and_the_rigs_alone(registry: Certificates) -> None:
    made, pem = registry.issue("lab-1", request_of("lab-1"))
    assert made.active
    assert made.since < made.until, "it says when it ends"
    assert pem.startswith("-----BEGIN CERTIFICATE-----")
    assert registry.of("lab-1") == [made]
    assert registry.of("lab-2") == []
    other, _ = registry.issue("lab-1", request_of("lab-1"))
    assert [entry.id for entry in registry.of("lab-1")] == sorted([made.id, other.id])


def test_a_certificate_that_is_taken_back_is_still_known_and_a_removed_one_is_not(
    registry: Certificates,
) -> None:
    made, _ = registry.issue("lab-1", request_of("lab-1"))
    registry.deactivate(made)
    (known,) = registry.of("lab-1")
    assert (known.id, known.active) == (made.id, False)
    registry.remove(made, "lab-1")
    registry.remove(made, "lab-1")
    registry.deactivate(made)
    assert registry.of("lab-1") == []


def test_a_thing_is_made_once_and_one_that_is_there_is_left_as_it_is(aws: None) -> None:
    client("iot").create_thing(thingName="robot", attributePayload={"attributes": {"floor": "2"}})
    registry = of_stack("shop")
    registry.issue("robot", request_of("robot"))
    registry.issue("lab-1", request_of("lab-1"))
    registry.issue("lab-1", request_of("lab-1"))
    things = {entry["thingName"]: entry["attributes"] for entry in client("iot").list_things()["things"]}
    assert things == {"robot": {"floor": "2"}, "lab-1": {layout.STACK_TAG: "shop"}}


def test_two_stacks_share_a_thing_and_not_its_certificates(aws: None) -> None:
    made, _ = of_stack("shop").issue("lab-1", request_of("lab-1"))
    other, _ = of_stack("shop-b").issue("lab-1", request_of("lab-1"))
    assert of_stack("shop").of("lab-1") == [made]
    assert of_stack("shop-b").of("lab-1") == [other]


def removed(stack: str) -> list[str]:
    """Remove what a stack has; return what it was."""
    belongings = RigCertificates(Home(stack), ManualClock())
    found = belongings.find()
    for thing in found:
        belongings.remove(thing, lambda line: None)
    assert belongings.find() == []
    return [thing.name.split(" of ")[1] for thing in found]


def test_a_stacks_certificates_go_with_it_revoked_ones_too_and_no_others(aws: None) -> None:
    client("iot").create_thing(thingName="robot")
    for stack in ("shop", "shop-b"):
        registry = of_stack(stack)
        registry.deactivate(registry.issue("lab-1", request_of("lab-1"))[0])
        registry.issue("lab-1", request_of("lab-1"))
        registry.issue("robot", request_of("robot"))
    names: Callable[[], list[str]] = lambda: [t["thingName"] for t in client("iot").list_things()["things"]]  # noqa: E731
    assert sorted(removed("shop")) == ["lab-1", "lab-1", "robot"]
    assert names() == ["robot", "lab-1"], "the other stack's rig has that name too"
    assert len(client("iot").list_certificates()["certificates"]) == 3
    client("iot").delete_policy(policyName="shop-rig")
    assert len(removed("shop-b")) == 3
    assert names() == ["robot"], "somebody else made it"
    assert removed("shop-b") == []
    assert removed("shop") == [], "its policy is gone"
