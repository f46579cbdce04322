"""Updates of roles and managed policies: a deploy that changes a right has to change it."""

import json
from typing import Any

from localemu.services.cloudformation.resource_provider import OperationStatus, ProgressEvent
from localemu.services.iam.resource_providers.aws_iam_managedpolicy import IAMManagedPolicyProvider
from localemu.services.iam.resource_providers.aws_iam_role import IAMRoleProvider

VERSION = "2012-10-17"
MAX_VERSIONS = 5  # IAM user guide, "IAM and AWS STS quotas": versions of a managed policy


def with_versions(model: dict[str, Any]) -> None:
    """Inline policies of SAM name no language version, which IAM accepts; LocalEmu does so when it creates
    a role only."""
    for policy in model.get("Policies") or []:
        if isinstance(policy.get("PolicyDocument"), dict):
            policy["PolicyDocument"].setdefault("Version", VERSION)


def update_policy(iam: Any, arn: str, document: Any) -> None:
    """Make the document the policy's default version, in place of the oldest when there are five."""
    text = document if isinstance(document, str) else json.dumps(document)
    versions = iam.list_policy_versions(PolicyArn=arn)["Versions"]
    if len(versions) >= MAX_VERSIONS:
        oldest = min(
            (version for version in versions if not version["IsDefaultVersion"]),
            key=lambda version: int(version["VersionId"].removeprefix("v")),
        )
        iam.delete_policy_version(PolicyArn=arn, VersionId=oldest["VersionId"])
    iam.create_policy_version(PolicyArn=arn, PolicyDocument=text, SetAsDefault=True)


def update_managed_policy(_provider: Any, request: Any) -> Any:
    model = {**(request.previous_state or {}), **request.desired_state}
    update_policy(request.aws_client_factory.iam, model["Id"], model["PolicyDocument"])
    return ProgressEvent(status=OperationStatus.SUCCESS, resource_model=model)


def delete_managed_policy(provider: Any, request: Any) -> Any:
    """IAM refuses to delete a policy that has other versions than the default one."""
    iam, arn = request.aws_client_factory.iam, request.previous_state["Id"]
    for version in iam.list_policy_versions(PolicyArn=arn)["Versions"]:
        if not version["IsDefaultVersion"]:
            iam.delete_policy_version(PolicyArn=arn, VersionId=version["VersionId"])
    return _delete(provider, request)


_delete = IAMManagedPolicyProvider.delete


def apply() -> None:
    original = IAMRoleProvider.update

    def update(self: Any, request: Any) -> Any:
        with_versions(request.desired_state)
        return original(self, request)

    IAMRoleProvider.update = update
    IAMManagedPolicyProvider.update = update_managed_policy
    IAMManagedPolicyProvider.delete = delete_managed_policy
