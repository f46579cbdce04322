"""What stands in LocalEmu's chain of handlers: lets a request pass, or raises the refusal."""

from typing import Any
from urllib.parse import parse_qs, urlparse

from localemu.aws.api import RequestContext
from localemu.config import INTERNAL_RESOURCE_ACCOUNT
from localemu.constants import ANONYMOUS_ACCESS_KEY_ID, INTERNAL_AWS_ACCESS_KEY_ID
from localemu.services.iam_enforcement.enforcer import _EXEMPT_ACTIONS, IAMEnforcementHandler

from . import refusals
from .callers import Anonymous, Caller, Service
from .calls import Call
from .checks import checks_of
from .decisions import Decider
from .delegated import demands
from .identities import OPERATOR_KEYS, Identity, identify
from .policies import Decision

DELIVERIES = {
    ("lambda", "Invoke"),
    ("sns", "Publish"),
    ("sqs", "SendMessage"),
    ("sqs", "SendMessageBatch"),
}
"""What AWS services do to a resource on the strength of the resource's policy alone."""
OPERATOR = "arn:aws:iam::000000000000:root"
MENDING = ("GetBucketPolicy", "PutBucketPolicy", "DeleteBucketPolicy")
"""What the owner's root user may do whatever a bucket's policy says (S3 API reference, "PutBucketPolicy")."""


def install(decider: Decider) -> None:
    """LocalEmu's handler is in the chain already; here it gets another mind."""
    handler = Handler(decider)

    def handle(_: Any, chain: Any, context: RequestContext, response: Any) -> None:
        handler(context)

    IAMEnforcementHandler.__call__ = handle


class Handler:
    def __init__(self, decider: Decider) -> None:
        self._decider = decider

    def __call__(self, context: RequestContext) -> None:
        """Raises CommonServiceException for a request that AWS would refuse."""
        if not context.service or not context.operation:
            return
        call = call_of(context)
        if f"{call.service}:{call.operation}" in _EXEMPT_ACTIONS:
            return
        self._check_delegates(call)
        caller = caller_of(context, call)
        if caller is not None:
            self._check(caller, call, context.service.protocol)
        elif call.service == "s3" and access_key(context) in OPERATOR_KEYS:
            self._check_bucket(call, context.service.protocol)

    def _check(self, caller: Caller, call: Call, protocol: str) -> None:
        for check in checks_of(call):
            decision = self._decider.decide(
                caller, check, call.account, call.region, f"{call.service}:{call.operation}"
            )
            if decision.allows:
                continue
            if isinstance(caller, Anonymous):
                raise refusals.unsigned(call.service)
            message = refusals.sentence(caller.arn, check, decision)
            raise refusals.refused(call.service, protocol, message, check)

    def _check_bucket(self, call: Call, protocol: str) -> None:
        """The operator may do everything but what a bucket's policy explicitly denies to everybody, as an
        account's root user (S3 user guide, "Bucket policies"; IAM user guide, "Policy evaluation logic")."""
        for check in checks_of(call):
            if call.operation not in MENDING and self._decider.is_denied_to_all(
                check, call.account, call.region
            ):
                raise refusals.refused(
                    call.service, protocol, refusals.sentence(OPERATOR, check, Decision.DENIED)
                )

    def _check_delegates(self, call: Call) -> None:
        for demand in demands(call):
            name = demand.role_arn.rpartition("/")[2]
            role = Identity("role", name, demand.role_arn, call.account, role_arn=demand.role_arn)
            operation = f"{call.service}:{call.operation}"
            if not self._decider.decide(role, demand.check, call.account, call.region, operation).allows:
                raise demand.error


def call_of(context: RequestContext) -> Call:
    return Call(
        service=str(context.service.service_name),
        operation=str(context.operation.name),
        params=context.service_request or {},
        account=str(context.account_id or "000000000000"),
        region=str(context.region or "us-east-1"),
    )


def caller_of(context: RequestContext, call: Call) -> Caller | None:
    """None for whoever may do everything: the operator, and LocalEmu's own parts.

    A call inside LocalEmu with a role's credentials is made for that role: a state machine's tasks, a
    function's log lines and dead letters. One that names a service is that service's delivery.
    """
    key = access_key(context)
    inside = context.internal_request_params
    if inside is not None or key in (INTERNAL_AWS_ACCESS_KEY_ID, INTERNAL_RESOURCE_ACCOUNT):
        session = identify(key, call.account) if key else None
        if session is not None:
            return session
        service = (inside or {}).get("service_principal")
        if service and (call.service, call.operation) in DELIVERIES:
            return Service(f"{service}.amazonaws.com", str(inside.get("source_arn") or ""), call.account)
        return None
    if key in OPERATOR_KEYS:
        return None
    if key in ("", ANONYMOUS_ACCESS_KEY_ID):
        return Anonymous()
    found = identify(key, call.account)
    if found is None:
        raise refusals.unknown_key(call.service, context.service.protocol)
    return found


def access_key(context: RequestContext) -> str:
    """Of the Authorization header, or of a presigned URL."""
    header = context.request.headers.get("Authorization", "")
    if "Credential=" in header:
        return str(header.partition("Credential=")[2].partition("/")[0])
    query = parse_qs(urlparse(context.request.url).query)
    found = query.get("X-Amz-Credential") or query.get("AWSAccessKeyId") or [""]
    return str(found[0]).partition("/")[0]
