"""What LocalEmu's stores hold and a decision needs: resources' policies, and the keys that encrypt them."""

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

from .policies import Statement, parse, parse_text


def bucket_of(account: str, name: str) -> Any | None:
    from localemu.constants import AWS_REGION_US_EAST_1
    from localemu.services.s3.models import s3_stores

    return s3_stores[account][AWS_REGION_US_EAST_1].buckets.get(name)


def object_of(account: str, bucket: str, key: str, version: str | None = None) -> Any | None:
    """The stored object; None when there is none, also where a delete marker stands for it."""
    found = bucket_of(account, bucket)
    if found is None:
        return None
    entry = found.objects.get(key, version) if version else found.objects.get(key)
    return entry if hasattr(entry, "kms_key_id") else None


def bucket_key(account: str, region: str, name: str) -> str | None:
    """The ARN of the customer's key that encrypts new objects of a bucket."""
    bucket = bucket_of(account, name)
    rule = (getattr(bucket, "encryption_rule", None) or {}).get("ApplyServerSideEncryptionByDefault", {})
    if rule.get("SSEAlgorithm") not in ("aws:kms", "aws:kms:dsse"):
        return None
    return customer_key(account, region, rule.get("KMSMasterKeyID"))


def queue_of(account: str, region: str, name: str) -> Any | None:
    from localemu.services.sqs.models import sqs_stores

    return sqs_stores[account][region].queues.get(name)


def queue_key(account: str, region: str, name: str) -> str | None:
    queue = queue_of(account, region, name)
    return customer_key(account, region, queue.attributes.get("KmsMasterKeyId")) if queue else None


def table_of(account: str, region: str, name: str) -> dict[str, Any]:
    """The definition with which a table was made; empty when there is none."""
    from localemu.services.dynamodb.models import dynamodb_stores

    return dict(dynamodb_stores[account][region].table_definitions.get(name) or {})


def table_key(account: str, region: str, name: str) -> str | None:
    described = table_of(account, region, name).get("SSEDescription") or {}
    return customer_key(account, region, described.get("KMSMasterKeyArn"))


def kms_key(account: str, region: str, name: str | None) -> Any | None:
    """LocalEmu's key by its id, its ARN, or its alias' name or ARN."""
    from localemu.services.kms.models import kms_stores

    tail = (name or "").rpartition(":")[2]
    store = kms_stores[account][region]
    if tail.startswith("alias/"):
        alias = store.aliases.get(tail)
        tail = alias.metadata["TargetKeyId"] if alias else tail
    return store.keys.get(tail.removeprefix("key/"))


def customer_key(account: str, region: str, name: str | None) -> str | None:
    """The key's ARN; None for AWS's own keys, whose policies let everybody of the account use them."""
    key = kms_key(account, region, name) if name else None
    if key is None or key.metadata.get("KeyManager") == "AWS":
        return None
    return str(key.metadata["Arn"])


def stack_arn(account: str, region: str, name: str) -> str | None:
    from localemu.services.cloudformation.stores import get_cloudformation_store

    store = get_cloudformation_store(account, region)
    stacks = [*store.stacks_v2.values(), *store.stacks.values()]
    found = [s for s in stacks if s.stack_name == name and str(s.status) != "DELETE_COMPLETE"]
    return str(found[-1].stack_id) if found else None


def machine_of_token(account: str, region: str, token: str) -> str | None:
    """The state machine whose task waits, or waited, for the token."""
    from localemu.services.stepfunctions.backend.models import sfn_stores

    for execution in reversed(list(sfn_stores[account][region].executions.values())):
        worker = execution.exec_worker
        env = worker.env if worker is not None else None
        if env is not None and env.callback_pool_manager.get(token) is not None:
            return str(execution.state_machine_arn)
    return None


def function_of(account: str, region: str, name: str) -> Any | None:
    from localemu.services.lambda_.invocation.models import lambda_stores

    return lambda_stores[account][region].functions.get(name)


def role_of(account: str, arn: str) -> Any | None:
    return next((role for role in _iam(account).roles.values() if role.arn == arn), None)


def users(account: str) -> list[Any]:
    return list(_iam(account).users.values())


def user_of(account: str, name: str) -> Any | None:
    return _iam(account).users.get(name)


def _iam(account: str) -> Any:
    from moto.iam.models import iam_backends

    return iam_backends[account]["aws"]


# ------------------------------------------------------------------- policies of resources


def resource_policy(arn: str, account: str) -> tuple[Statement, ...]:
    """The statements of the policy that stands on the resource itself; none when it has none."""
    parts = arn.split(":", 5)
    if len(parts) < 6:
        return ()
    service, region, resource = parts[2], parts[3], parts[5]
    match service:
        case "s3":
            text = getattr(bucket_of(account, resource.partition("/")[0]), "policy", None)
        case "sqs":
            queue = queue_of(account, region, resource)
            text = queue.attributes.get("Policy") if queue else None
        case "kms":
            text = getattr(kms_key(account, region, resource), "policy", None)
        case "iam" if resource.startswith("role/"):
            text = getattr(role_of(account, arn), "assume_role_policy_document", None)
        case "lambda" if resource.startswith("function:"):
            return _function_policy(account, region, resource)
        case "events" if resource.startswith("event-bus/"):
            return _bus_policy(account, region, resource.partition("/")[2])
        case "sns":
            text = _topic_policy(account, region, arn)
        case _:
            return ()
    return parse_text(text) if text else ()


def _function_policy(account: str, region: str, resource: str) -> tuple[Statement, ...]:
    _, name, *qualifier = resource.split(":")
    function = function_of(account, region, name)
    held = function.permissions.get(qualifier[0] if qualifier else "$LATEST") if function else None
    return parse(dataclasses.asdict(held.policy)) if held else ()


def _bus_policy(account: str, region: str, name: str) -> tuple[Statement, ...]:
    from localemu.services.events.models import events_stores

    bus = events_stores[account][region].event_buses.get(name)
    return parse(bus.policy) if bus and bus.policy else ()


def _topic_policy(account: str, region: str, arn: str) -> str | None:
    from localemu.services.sns.models import sns_stores

    topic = sns_stores[account][region].topics.get(arn)
    policy = (topic.get("attributes") or {}).get("Policy") if topic else None
    return json.dumps(policy) if isinstance(policy, dict) else policy


# ------------------------------------------------------------------- policies of identities


def role_policies(account: str, arn: str) -> Iterator[tuple[str, str]]:
    """Name and text of every policy of a role; a managed one goes by its ARN."""
    role = role_of(account, arn)
    if role is not None:
        yield from role.policies.items()
        yield from _managed(account, role.managed_policies)


def user_policies(account: str, name: str) -> Iterator[tuple[str, str]]:
    """Also those of the user's groups."""
    user = user_of(account, name)
    if user is None:
        return
    groups = [group for group in _iam(account).groups.values() if user in group.users]
    for holder in (user, *groups):
        yield from holder.policies.items()
        yield from _managed(account, holder.managed_policies)


def boundary(account: str, holder: Any) -> tuple[Statement, ...] | None:
    """The permissions boundary of a role or user."""
    arn = getattr(holder, "permissions_boundary_arn", None)
    return parse_text(managed_text(account, arn)) if arn else None


def _managed(account: str, arns: Any) -> Iterator[tuple[str, str]]:
    for arn in list(arns):
        yield arn, managed_text(account, arn)


def managed_text(account: str, arn: str) -> str:
    """The default version of a managed policy; an unknown one allows nothing."""
    policy = _iam(account).managed_policies.get(arn)
    for version in getattr(policy, "versions", ()):
        if version.version_id == policy.default_version_id:
            return as_text(version.document)
    return aws_policy(arn)


def aws_policy(arn: str) -> str:
    """One of AWS's own policies, which moto brings along but does not load."""
    from moto.iam.aws_managed_policies import aws_managed_policies_data

    global _aws_policies
    if _aws_policies is None:
        _aws_policies = {
            f"arn:aws:iam::aws:policy{entry.get('Path', '/')}{name}": json.dumps(entry["Document"])
            for name, entry in json.loads(aws_managed_policies_data).items()
        }
    return _aws_policies.get(arn, '{"Statement": []}')


_aws_policies: dict[str, str] | None = None


def as_text(document: Any) -> str:
    return document if isinstance(document, str) else json.dumps(document)
