"""A machine becomes a core device: what it may do, what is on its disk, and what a second join changes."""

from __future__ import annotations

import grp
import json
import os
import pwd
import stat
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from cryptography import x509

from isthmus.adapters.local.cores import PLACE, MemoryCores
from isthmus.edge.provisioning import CERTIFICATES, CONFIG, core_policy, join, leave, read
from isthmus.errors import InvalidDocument, Refused
from isthmus.model.core_device import Flavour
from isthmus.model.rig_identity import Certificate

OPTIONS: dict[str, Any] = {
    "alias": "shop-core",
    "authority": "-----BEGIN CERTIFICATE-----",
    "flavour": "classic",
    "root": "/greengrass/v2",
    "user": "ggc_user:ggc_group",
}


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_device_may_use_its_own_topics_and_no_other_devices() -> None:
    policy = json.loads(core_policy("shop-1", PLACE, "shop-core"))
    named = [
        resource
        for statement in policy["Statement"]
        for resource in statement["Resource"]
        if statement["Action"][0].startswith("iot:") and "rolealias" not in resource
    ]
    assert len(named) == 8
    for resource in named:
        rest = resource.partition("shop-1")[2]
        assert not rest or rest[0] in "/#", f"{resource} would be shop-12's as well"
    actions = {action for statement in policy["Statement"] for action in statement["Action"]}
    assert not [action for action in actions if "*" in action]


def test_a_policy_that_iot_would_not_take_is_refused() -> None:
    with pytest.raises(Refused, match=r"would have 2\d* characters; IoT takes 2048"):
        core_policy("n" * 128, msgspec.structs.replace(PLACE, partition="aws-us-gov"), "a" * 300)


@pytest.mark.parametrize(
    ("flavour", "service", "root"),
    [("classic", "aws.greengrass.Nucleus", "rootpath"), ("lite", "aws.greengrass.NucleusLite", "rootPath")],
)
def test_the_file_is_what_each_nucleus_reads(
    tmp_path: Path, flavour: Flavour, service: str, root: str
) -> None:
    joined = join(tmp_path, "cam", MemoryCores(), **{**OPTIONS, "flavour": flavour})
    config = yaml.safe_load(Path(joined.config).read_text())
    assert list(config["services"]) == [service]
    told = config["services"][service]["configuration"]
    assert told["iotRoleAlias"] == "shop-core"
    assert told["iotDataEndpoint"] == "data.example"
    assert told["iotCredEndpoint"] == "credentials.example"
    assert told["awsRegion"] == "eu-west-1"
    system = config["system"]
    assert system["thingName"] == "cam"
    assert system[root] == "/greengrass/v2"
    certificate = x509.load_pem_x509_certificate(Path(system["certificateFilePath"]).read_bytes())
    assert certificate.subject.rfc4514_string() == "CN=cam"
    assert stat.S_IMODE(Path(system["privateKeyPath"]).stat().st_mode) == 0o600
    assert Path(system["rootCaPath"]).read_text() == OPTIONS["authority"]


def test_joining_again_changes_nothing_but_what_changed(tmp_path: Path) -> None:
    registry = MemoryCores()
    first = join(tmp_path, "cam", registry, **OPTIONS)
    before = files(tmp_path)
    again = join(tmp_path, "cam", registry, **OPTIONS)
    assert (first.new, again.new) == (True, False)
    assert files(tmp_path) == before
    moved = join(tmp_path, "cam", registry, **{**OPTIONS, "root": "/data/greengrass"})
    assert moved.certificate_id == first.certificate_id
    assert read(tmp_path)["system"]["rootpath"] == "/data/greengrass"  # type: ignore[index]


def test_a_certificate_that_was_revoked_or_lost_is_replaced_and_the_old_one_removed(tmp_path: Path) -> None:
    registry = MemoryCores()
    first = join(tmp_path, "cam", registry, **OPTIONS)
    registry.given.deactivate(registry.given.of("cam")[0])
    second = join(tmp_path, "cam", registry, **OPTIONS)
    assert second.new
    assert [entry.id for entry in registry.given.of("cam")] == [second.certificate_id]
    (tmp_path / CERTIFICATES / second.certificate_id / "private.key").unlink()
    third = join(tmp_path, "cam", registry, **OPTIONS)
    assert len({first.certificate_id, second.certificate_id, third.certificate_id}) == 3
    assert [entry.id for entry in registry.given.of("cam")] == [third.certificate_id]
    assert [path.name for path in (tmp_path / CERTIFICATES).iterdir()] == [third.certificate_id]


def test_whom_the_nucleus_runs_as_gets_the_files_and_has_to_be_there(tmp_path: Path) -> None:
    registry, folder = MemoryCores(), tmp_path / "core"
    with pytest.raises(Refused, match="runs as nobody-of-this-name, whom this machine does not have"):
        join(folder, "cam", registry, **OPTIONS, owner="nobody-of-this-name")
    assert registry.policies == {}
    mine = pwd.getpwuid(os.geteuid()).pw_name
    join(folder, "cam", registry, **OPTIONS, owner=f"{mine}:{grp.getgrgid(os.getegid()).gr_name}")
    assert {path.owner() for path in folder.rglob("*")} == {mine}


class Failing(MemoryCores):
    """Breaks off after a certificate was given."""

    broken = True

    def admit(self, device: str, *, canary: bool | None = None) -> None:
        if self.broken:
            raise Refused("the connection broke")
        super().admit(device, canary=canary)


def test_what_broke_off_is_done_again_and_leaves_one_certificate(tmp_path: Path) -> None:
    registry = Failing()
    with pytest.raises(Refused, match="broke"):
        join(tmp_path, "cam", registry, **OPTIONS)
    assert not (tmp_path / CONFIG).exists()
    registry.broken = False
    joined = join(tmp_path, "cam", registry, **OPTIONS)
    assert [entry.id for entry in registry.given.of("cam")] == [joined.certificate_id]
    assert registry.members() == {"cam": False}


def test_a_folder_is_one_devices(tmp_path: Path) -> None:
    join(tmp_path, "cam", MemoryCores(), **OPTIONS)
    with pytest.raises(Refused, match="holds the core device cam"):
        join(tmp_path, "robot", MemoryCores(), **OPTIONS)
    with pytest.raises(Refused, match="holds the core device cam, not robot"):
        leave("robot", MemoryCores(), tmp_path)


def test_leaving_takes_all_and_a_second_time_says_so(tmp_path: Path) -> None:
    registry = MemoryCores()
    joined = join(tmp_path, "cam", registry, **OPTIONS)
    join(tmp_path / "other", "robot", registry, **OPTIONS)
    assert leave("cam", registry, tmp_path) == [joined.certificate_id]
    assert [name for name in files(tmp_path) if not name.startswith("other/")] == []
    assert (registry.members(), list(registry.policies)) == ({"robot": False}, ["robot"])
    with pytest.raises(Refused, match="there is no core device cam; there are: robot"):
        leave("cam", registry, tmp_path)


def test_a_thing_that_was_admitted_by_hand_can_leave_too() -> None:
    registry = MemoryCores()
    registry.given.things["x"] = "cam"
    registry.given.known["x"] = Certificate(id="x", arn="arn:cert/x", active=True, since="")
    registry.group["cam"] = True
    assert leave("cam", registry) == ["x"]


@pytest.mark.parametrize(("text", "said"), [("a: [", "is not YAML"), ("{}", "needs system.thingName")])
def test_another_file_is_named(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / CONFIG).write_text(text)
    with pytest.raises(InvalidDocument, match=said):
        read(tmp_path)
