"""The identity on AWS of a rig that has no certificate: an IAM user (or role) with RigPolicy and no more.

A rig gets its certificate by `isthmus rig join`; one that an earlier version joined works so.
"""

from __future__ import annotations

import contextlib
from typing import Any

import boto3
from botocore.exceptions import ClientError


def answers(keys: dict[str, str], endpoint_url: str | None) -> bool:
    """Whether AWS knows an access key already."""
    session = boto3.Session(keys["AWS_ACCESS_KEY_ID"], keys["AWS_SECRET_ACCESS_KEY"])
    try:
        session.client("sts", endpoint_url=endpoint_url, region_name="us-east-1").get_caller_identity()
    except ClientError:
        return False
    return True


class Identities:
    """Of one stack; everything here may be called again."""

    def __init__(self, stack: str, session: boto3.Session, endpoint_url: str | None) -> None:
        self._iam = session.client("iam", endpoint_url=endpoint_url)
        self._formation = session.client("cloudformation", endpoint_url=endpoint_url)
        self._stack = stack
        self._user = f"{stack}-rig"

    def rig(self) -> dict[str, str]:
        """Return new credentials of a user that has RigPolicy, as variables of an environment."""
        self._made(self._iam.create_user, UserName=self._user)
        self._iam.attach_user_policy(UserName=self._user, PolicyArn=self._policy("RigPolicy"))
        self._forget_keys()
        made = self._iam.create_access_key(UserName=self._user)["AccessKey"]
        return {"AWS_ACCESS_KEY_ID": made["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": made["SecretAccessKey"]}

    def remove(self) -> None:
        """Remove it, which must be done before the stack can delete its policy."""
        missing = self._iam.exceptions.NoSuchEntityException
        with contextlib.suppress(missing):  # no rig had joined
            self._forget_keys()
            self._detach("user", UserName=self._user)
            self._iam.delete_user(UserName=self._user)

    def _made(self, create: Any, **arguments: str) -> None:
        try:
            create(**arguments)
        except ClientError as error:
            if error.response["Error"]["Code"] != "EntityAlreadyExists":
                raise

    def _forget_keys(self) -> None:
        for key in self._iam.list_access_keys(UserName=self._user)["AccessKeyMetadata"]:
            self._iam.delete_access_key(UserName=self._user, AccessKeyId=key["AccessKeyId"])

    def _detach(self, kind: str, **holder: str) -> None:
        attached = getattr(self._iam, f"list_attached_{kind}_policies")(**holder)["AttachedPolicies"]
        for policy in attached:
            getattr(self._iam, f"detach_{kind}_policy")(**holder, PolicyArn=policy["PolicyArn"])

    def _policy(self, output: str) -> str:
        stack = self._formation.describe_stacks(StackName=self._stack)["Stacks"][0]
        return str(next(entry["OutputValue"] for entry in stack["Outputs"] if entry["OutputKey"] == output))
