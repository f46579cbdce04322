"""``CoreRegistry`` on AWS IoT and Greengrass, with the operator's rights; ``isthmus destroy`` removes what is in it."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from isthmus.adapters.aws.errors import code_of, passing_trouble
from isthmus.adapters.aws.operator.certificates import IotCertificates, patiently, remove
from isthmus.adapters.aws.operator.home import Home, call, listed
from isthmus.adapters.aws.session import client
from isthmus.errors import EnvironmentProblem, Refused
from isthmus.model import layout
from isthmus.model.core_device import CorePlace
from isthmus.model.inventory import Thing
from isthmus.ports import Clock


class IotCores:
    """Of one stack, in the account and region of the caller."""

    def __init__(self, stack: str, clock: Clock) -> None:
        self._stack, self._clock = stack, clock
        self._groups = layout.core_group(stack), layout.canary_group(stack)

    @passing_trouble("IoT")
    def place(self) -> CorePlace:
        data, credentials = (
            str(client("iot").describe_endpoint(endpointType=kind)["endpointAddress"])
            for kind in ("iot:Data-ATS", "iot:CredentialProvider")
        )
        partition, account = _caller()
        region = str(client("iot").meta.region_name)
        return CorePlace(
            partition=partition, region=region, account=account, data=data, credentials=credentials
        )

    @passing_trouble("IoT")
    def grant(self, device: str, policy: str) -> None:
        name = layout.core_policy(self._stack, device)
        there = call("iot", "get_policy", policyName=name)
        if not there:
            client("iot").create_policy(
                policyName=name, policyDocument=policy, tags=[{"Key": layout.STACK_TAG, "Value": self._stack}]
            )
        elif json.loads(there["policyDocument"]) != json.loads(policy):
            _drop_versions(name)
            client("iot").create_policy_version(policyName=name, policyDocument=policy, setAsDefault=True)
            _drop_versions(name)

    def certificates(self, device: str) -> IotCertificates:
        return IotCertificates(self._stack, layout.core_policy(self._stack, device), self._clock)

    @passing_trouble("IoT")
    def admit(self, device: str, *, canary: bool | None = None) -> None:
        members = self.members()
        if canary is None and device in members:
            return
        group, other = self._groups if not canary else reversed(self._groups)
        try:
            client("iot").add_thing_to_thing_group(thingName=device, thingGroupName=group)
        except ClientError as error:
            if code_of(error) == "ResourceNotFoundException":
                raise Refused(
                    f"there is no thing group {group}: deploy the stack {self._stack} first"
                ) from error
            raise
        # Also where an earlier try broke off in between, and the device is in both.
        call("iot", "remove_thing_from_thing_group", thingName=device, thingGroupName=other)

    @passing_trouble("IoT")
    def members(self) -> dict[str, bool]:
        found = {
            str(name): canary
            for canary, group in enumerate(self._groups)
            for name in listed("iot", "list_things_in_thing_group", "things", thingGroupName=group)
        }
        return {name: bool(found[name]) for name in sorted(found)}

    @passing_trouble("IoT")
    def expel(self, device: str) -> None:
        call("greengrassv2", "delete_core_device", coreDeviceThingName=device)
        name = layout.core_policy(self._stack, device)
        if call("iot", "get_policy", policyName=name):
            _drop_versions(name)
            patiently(lambda: call("iot", "delete_policy", policyName=name), self._clock)
        # Last but the thing: what broke off before is still found by the groups.
        for group in self._groups:
            call("iot", "remove_thing_from_thing_group", thingName=device, thingGroupName=group)
        self._remove_thing(device)

    def _remove_thing(self, device: str) -> None:
        """Unless somebody else made it, or it has certificates of something else."""
        marked = call("iot", "describe_thing", thingName=device).get("attributes", {})
        if marked.get(layout.STACK_TAG) != self._stack:
            return
        if not any(listed("iot", "list_thing_principals", "principals", thingName=device)):
            patiently(lambda: call("iot", "delete_thing", thingName=device), self._clock)


def _caller() -> tuple[str, str]:
    """Return partition and account."""
    _, partition, _, _, account, _ = client("sts").get_caller_identity()["Arn"].split(":", 5)
    return partition, account


def _drop_versions(policy: str) -> None:
    """All but the default one: a policy has five at most."""
    for entry in call("iot", "list_policy_versions", policyName=policy).get("policyVersions", []):
        if not entry["isDefaultVersion"]:
            call("iot", "delete_policy_version", policyName=policy, policyVersionId=entry["versionId"])


def root_authorities(bundle: Path | None = None) -> str:
    """Return Amazon's root certificates (PEM), by which a device knows AWS' endpoints, from what botocore ships.

    ``bundle``: what this machine trusts instead, for a network whose proxy signs for others.

    Raises:
        EnvironmentProblem: the bundle cannot be read.
    """
    if bundle is not None:
        try:
            return bundle.read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError) as error:
            raise EnvironmentProblem(
                f"AWS_CA_BUNDLE names {bundle}, which cannot be read: {error}"
            ) from error
    import botocore

    trusted = ssl.create_default_context(cafile=Path(botocore.__file__).parent / "cacert.pem")
    known = zip(trusted.get_ca_certs(), trusted.get_ca_certs(binary_form=True), strict=True)
    return "".join(ssl.DER_cert_to_PEM_cert(raw) for about, raw in known if _is_amazons(about))


def _is_amazons(about: Mapping[str, Any]) -> bool:
    """The four roots of Amazon Trust Services (IoT Core developer guide, "Server authentication")."""
    return ("organizationName", "Amazon") in [pair for names in about["subject"] for pair in names]


class CoreDevices:
    """Things of the stack's group that a join made, each with its certificates and its policy."""

    kind = "core device"

    def __init__(self, home: Home, clock: Clock) -> None:
        self._home, self._clock = home, clock

    @passing_trouble("IoT")
    def find(self) -> list[Thing]:
        found = IotCores(self._home.stack, self._clock).members()
        return [Thing(id=name, name=name) for name in found if self._joined(name)]

    @passing_trouble("IoT")
    def remove(self, thing: Thing, report: Callable[[str], None]) -> None:
        policy = layout.core_policy(self._home.stack, thing.id)
        for arn in list(listed("iot", "list_targets_for_policy", "targets", policyName=policy)):
            remove(arn, policy, self._clock)
        IotCores(self._home.stack, self._clock).expel(thing.id)

    def _joined(self, name: str) -> bool:
        return bool(call("iot", "get_policy", policyName=layout.core_policy(self._home.stack, name)))
