"""One decision: the caller's policies, the resource's policy and the request's context, put on record."""

import time
from datetime import UTC, datetime

from . import attached
from .callers import Anonymous, Caller, Service
from .calls import Check
from .identities import Identity, session_keys
from .policies import Decision, Question
from .record import Recorder


class Decider:
    """Decides in one account and region; ``recorder`` gets every decision."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def decide(self, caller: Caller, check: Check, account: str, region: str, operation: str) -> Decision:
        """``operation``: the call that takes the permission, for the record."""
        if isinstance(caller, Identity) and (told := session_keys(caller.account, caller.access_key)):
            check = Check(check.action, check.resource, {**check.keys, **told}, check.implied)
        resource = attached.resource_policy(check.resource, account)
        policies = caller.policies(resource, needs_consent=needs_consent(check))
        context = {
            name.lower(): value for name, value in self._context(caller, check, account, region).items()
        }
        question = Question(check.action, check.resource, context)
        decision = policies.decide(caller.principal, question)
        if isinstance(caller, Service):
            # Which resource the service delivers from matters to the resource's policy.
            check = Check(check.action, check.resource, {**check.keys, **caller.keys}, check.implied)
        who = {"kind": caller.kind, "identity": caller.name, "arn": caller.arn}
        self._recorder.add(who, check, decision, operation)
        return decision

    def is_denied_to_all(self, check: Check, account: str, region: str) -> bool:
        """Whether the resource's own policy refuses it to everybody; that is not put on record."""
        nobody = Anonymous()
        resource = attached.resource_policy(check.resource, account)
        context = {
            name.lower(): value for name, value in self._context(nobody, check, account, region).items()
        }
        policies = nobody.policies(resource, needs_consent=False)
        decision = policies.decide(nobody.principal, Question(check.action, check.resource, context))
        return decision is Decision.DENIED

    def _context(self, caller: Caller, check: Check, account: str, region: str) -> dict[str, str | list[str]]:
        now = datetime.now(UTC)
        return {
            # The endpoint is plain HTTP on loopback and never leaves the machine: it stands for AWS's own
            # endpoints, which are asked over TLS. Otherwise every policy that wants TLS would refuse all.
            "aws:SecureTransport": "true",
            "aws:SourceIp": "127.0.0.1",
            "aws:CurrentTime": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "aws:EpochTime": str(int(time.time())),
            "aws:RequestedRegion": region,
            "aws:ResourceAccount": account,
            **_of(caller),
            **{name: value if isinstance(value, str) else list(value) for name, value in check.keys.items()},
        }


def needs_consent(check: Check) -> bool:
    """Whether the resource's own policy has to name the caller or hand the decision to the account.

    "IAM role trust policies and KMS key policies are exceptions to this logic, because they must explicitly
    allow access for principals" (IAM user guide, "Policy evaluation logic"). ``*`` stands for no key, as in
    CreateKey, ListAliases and ListKeys (KMS developer guide, "Specifying KMS keys in IAM policy statements").
    """
    if check.action.startswith("kms:"):
        return check.resource != "*"
    return check.action == "sts:AssumeRole"


def _of(caller: Caller) -> dict[str, str]:
    """The context keys that say who calls."""
    if isinstance(caller, Service):
        return {**caller.keys, "aws:PrincipalIsAWSService": "true"}
    found = {"aws:PrincipalIsAWSService": "false", "aws:PrincipalType": "Anonymous"}
    if not isinstance(caller, Identity):
        return found
    found["aws:PrincipalArn"] = caller.role_arn or caller.arn
    found["aws:PrincipalAccount"] = caller.account
    found["aws:PrincipalType"] = "User" if caller.kind == "user" else "AssumedRole"
    return {**found, "aws:username": caller.name} if caller.kind == "user" else found
