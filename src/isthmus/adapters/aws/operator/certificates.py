"""``Certificates`` on AWS IoT, with the operator's rights, and what of them ``isthmus destroy`` removes.

A certificate is its stack's by the stack's IoT policy, which is attached to it. A thing has the rig's name
alone, so that a policy's variable can name the rig's own resources; stacks that have a rig of the same name
share it. A thing that a join made says so by an attribute, since things have no tags, and goes with its
last certificate.
"""

from __future__ import annotations

from collections.abc import Callable

from botocore.exceptions import ClientError

from isthmus.adapters.aws.errors import code_of, passing_trouble
from isthmus.adapters.aws.operator.home import Home, call, listed
from isthmus.adapters.aws.session import client
from isthmus.model import layout
from isthmus.model.inventory import Thing
from isthmus.model.rig_identity import Certificate
from isthmus.model.units import utc_of
from isthmus.ports import Clock

MAX_TRIES, WAIT_SECONDS = 15, 1.0
"""Detaching "is asynchronous. It might take several seconds ... to propagate" (API reference,
DetachThingPrincipal), and what is attached cannot be deleted until then."""
BUSY_CODES = frozenset({"DeleteConflictException", "InvalidRequestException"})


class IotCertificates:
    """Of one stack, whose IoT policy ``policy`` is."""

    def __init__(self, stack: str, policy: str, clock: Clock) -> None:
        self._stack, self._policy, self._clock = stack, policy, clock

    @passing_trouble("IoT")
    def endpoint(self) -> str:
        answer = client("iot").describe_endpoint(endpointType="iot:CredentialProvider")
        return str(answer["endpointAddress"])

    @passing_trouble("IoT")
    def issue(self, rig: str, request: str) -> tuple[Certificate, str]:
        """It becomes active last, when a removal of the stack would find it."""
        self._make_thing(rig)
        made = client("iot").create_certificate_from_csr(certificateSigningRequest=request, setAsActive=False)
        identity, arn = str(made["certificateId"]), str(made["certificateArn"])
        client("iot").attach_policy(policyName=self._policy, target=arn)
        client("iot").attach_thing_principal(thingName=rig, principal=arn)
        client("iot").update_certificate(certificateId=identity, newStatus="ACTIVE")
        return _described(arn), str(made["certificatePem"])

    @passing_trouble("IoT")
    def of(self, rig: str) -> list[Certificate]:
        ours = set(listed("iot", "list_targets_for_policy", "targets", policyName=self._policy))
        things = listed("iot", "list_thing_principals", "principals", thingName=rig)
        return sorted((_described(arn) for arn in set(things) & ours), key=lambda entry: entry.id)

    @passing_trouble("IoT")
    def deactivate(self, certificate: Certificate) -> None:
        call("iot", "update_certificate", certificateId=certificate.id, newStatus="INACTIVE")

    @passing_trouble("IoT")
    def remove(self, certificate: Certificate, rig: str) -> None:
        remove(certificate.arn, self._policy, self._clock)

    def _make_thing(self, rig: str) -> None:
        if not call("iot", "describe_thing", thingName=rig):
            mark = {"attributes": {layout.STACK_TAG: self._stack}}
            client("iot").create_thing(thingName=rig, attributePayload=mark)


def _described(arn: str) -> Certificate:
    identity = arn.rpartition("/")[2]
    found = client("iot").describe_certificate(certificateId=identity)["certificateDescription"]
    active, since = found["status"] == "ACTIVE", found["creationDate"].timestamp()
    ends = found.get("validity", {}).get("notAfter")
    until = utc_of(ends.timestamp()) if ends else ""
    return Certificate(id=identity, arn=arn, active=active, since=utc_of(since), until=until)


def remove(arn: str, policy: str, clock: Clock) -> list[str]:
    """Take a certificate from the registry; return the things that it was attached to."""
    identity = arn.rpartition("/")[2]
    things = [str(name) for name in listed("iot", "list_principal_things", "things", principal=arn)]
    call("iot", "update_certificate", certificateId=identity, newStatus="INACTIVE")
    for name in things:
        call("iot", "detach_thing_principal", thingName=name, principal=arn)
    call("iot", "detach_policy", policyName=policy, target=arn)
    patiently(lambda: call("iot", "delete_certificate", certificateId=identity), clock)
    return things


def patiently(delete: Callable[[], object], clock: Clock) -> None:
    """Delete what is attached to nothing any more, as soon as IoT knows that."""
    for _ in range(MAX_TRIES):
        try:
            delete()
            return
        except ClientError as error:
            if code_of(error) not in BUSY_CODES:
                raise
        clock.sleep(WAIT_SECONDS)
    delete()


class RigCertificates:
    """Every certificate that has the stack's IoT policy, revoked ones too: a policy in use cannot be deleted."""

    kind = "rig certificate"

    def __init__(self, home: Home, clock: Clock) -> None:
        self._home, self._clock = home, clock

    @passing_trouble("IoT")
    def find(self) -> list[Thing]:
        found = []
        policy = layout.certificate_policy(self._home.stack)
        for arn in listed("iot", "list_targets_for_policy", "targets", policyName=policy):
            things = list(listed("iot", "list_principal_things", "things", principal=arn))
            name = f"{str(arn).rpartition('/')[2][:12]} of {', '.join(things) or 'nobody'}"
            found.append(Thing(id=str(arn), name=name))
        return found

    @passing_trouble("IoT")
    def remove(self, thing: Thing, report: Callable[[str], None]) -> None:
        for name in remove(thing.id, layout.certificate_policy(self._home.stack), self._clock):
            self._remove_thing(name)

    def _remove_thing(self, name: str) -> None:
        """Unless somebody else made it, or another stack's rig has that name."""
        marked = call("iot", "describe_thing", thingName=name).get("attributes", {})
        if layout.STACK_TAG not in marked:
            return
        if any(listed("iot", "list_thing_principals", "principals", thingName=name)):
            return
        patiently(lambda: call("iot", "delete_thing", thingName=name), self._clock)
