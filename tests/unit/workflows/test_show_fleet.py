"""The fleet as one looks at it: what each device serves, what it should, what is pending and why."""

from __future__ import annotations

import pytest

from isthmus.adapters.local.cores import MemoryCores
from isthmus.errors import Refused
from isthmus.model.core_device import CoreComponent, CoreDeployment, CoreDevice
from isthmus.workflows.show_fleet import show_device, show_fleet

WANTED = {"shop.digits.model": "3.0.0", "shop.digits.infer": "3.7.0", "aws.greengrass.Nucleus": "2.14.0"}


def component(name: str, version: str, state: str = "RUNNING", cause: str = "") -> CoreComponent:
    return CoreComponent(name=name, version=version, state=state, cause=cause)


def deployment(number: int, state: str, cause: str = "") -> CoreDeployment:
    return CoreDeployment(id=f"d{number}", state=state, cause=cause, since=f"2026-01-0{number}T00:00:00Z")


def reported(
    name: str, *components: CoreComponent, deployments: tuple[CoreDeployment, ...] = ()
) -> CoreDevice:
    return CoreDevice(
        name=name,
        status="HEALTHY",
        last_seen="2026-01-02T00:00:00Z",
        components=components,
        deployments=deployments,
    )


@pytest.fixture
def registry() -> MemoryCores:
    cores = MemoryCores()
    cores.asked = {False: dict(WANTED), True: {**WANTED, "shop.digits.model": "4.0.0"}}
    cores.group = {"fine": False, "new": False, "late": False, "broken": False, "first": True}
    both = (component("shop.digits.model", "3.0.0"), component("shop.digits.infer", "3.7.0"))
    failed = component("shop.digits.infer", "3.7.0", "BROKEN", "the model did not prove itself")
    cores.reported = {
        "fine": reported("fine", *both, deployments=(deployment(1, "FAILED"), deployment(2, "SUCCEEDED"))),
        "late": reported(
            "late",
            component("shop.digits.model", "2.0.0"),
            component("shop.faces.model", "1.0.0"),
            component("other.cats.model", "9.0.0"),
            deployments=(deployment(3, "IN_PROGRESS"),),
        ),
        "first": reported("first", both[0]),
        "broken": reported("broken", both[0], failed, deployments=(deployment(4, "FAILED", "no disk"),)),
    }
    return cores


def test_each_device_says_what_it_serves_and_what_is_pending(registry: MemoryCores) -> None:
    found = {entry.name: entry for entry in show_fleet("shop", registry, registry)}
    assert list(found) == ["broken", "fine", "first", "late", "new"]
    assert found["fine"].notes == []
    assert found["fine"].serves == found["fine"].should == {"digits": 3}
    assert found["late"].serves == {"digits": 2, "faces": 1}
    assert found["late"].notes == [
        "deployment d3 is IN_PROGRESS since 2026-01-03T00:00:00Z",
        "digits: release 2 serves, 3 is wanted",
        "faces: release 1 serves, and no deployment asks for it",
    ]
    assert found["broken"].notes == [
        "shop.digits.infer 3.7.0 is BROKEN: the model did not prove itself",
        "deployment d4 FAILED: no disk",
    ]
    assert found["first"].canary
    assert not found["fine"].canary
    assert found["first"].notes == ["digits: release 3 serves, 4 is wanted"]
    assert found["new"].status == "NEVER SEEN"
    assert "never reported: start its nucleus" in found["new"].notes[0]


def test_one_device_has_its_components_and_another_is_named(registry: MemoryCores) -> None:
    found = show_device("shop", "late", registry, registry)
    assert found.device is not None
    assert [entry.name for entry in found.device.components][-1] == "other.cats.model"
    assert show_device("shop", "new", registry, registry).device is None
    with pytest.raises(
        Refused, match="there is no core device cam in the stack shop; there are: broken, fine, "
    ):
        show_device("shop", "cam", registry, registry)
