"""``examine_account.Account``: what AWS says of the caller, the region and the quotas."""

from __future__ import annotations

import contextlib
import email.utils
import time
from collections.abc import Iterator, Mapping

import boto3
from botocore.exceptions import ClientError

from isthmus.adapters.aws.errors import message_of, passing_trouble
from isthmus.adapters.aws.operator.actions import ACTIONS, ANYTHING
from isthmus.adapters.aws.operator.home import call
from isthmus.adapters.aws.session import client
from isthmus.errors import NotChecked
from isthmus.workflows.examine_account import Caller, LambdaLimits

SERVICES = (
    "apigateway",
    "cloudformation",
    "cloudwatch",
    "dynamodb",
    "events",
    "greengrassv2",
    "iot",
    "kms",
    "lambda",
    "logs",
    "s3",
    "sagemaker",
    "sqs",
    "stepfunctions",
)
TRAINING_QUOTA = " for training job usage"


@contextlib.contextmanager
def asked(service: str) -> Iterator[None]:
    """Turn every refusal into NotChecked: a check that may not be made says so, and the others go on."""
    try:
        with passing_trouble(service):
            yield
    except ClientError as error:
        raise NotChecked(f"{service} refused: {message_of(error)}") from error


class AwsAccount:
    """Of the credentials and the region that boto3 finds."""

    def region(self) -> str:
        return str(boto3.Session().region_name or "")

    def absent_services(self, region: str) -> list[str]:
        """Read off the endpoints that botocore ships with: no call."""
        session = boto3.Session()
        partition = session.get_partition_for_region(region)
        return [
            name
            for name in SERVICES
            if region not in session.get_available_regions(name, partition_name=partition)
        ]

    def caller(self) -> Caller:
        with asked("STS"):
            answer = client("sts").get_caller_identity()
        date = answer["ResponseMetadata"].get("HTTPHeaders", {}).get("date")
        there = email.utils.parsedate_to_datetime(date).timestamp() if date else time.time()
        return Caller(str(answer["Account"]), str(answer["Arn"]), time.time() - there)

    def lambda_limits(self) -> LambdaLimits:
        with asked("Lambda"):
            answer = client("lambda").get_account_settings()
        limit = answer["AccountLimit"]
        used = int(answer["AccountUsage"]["TotalCodeSize"])
        return LambdaLimits(int(limit["ConcurrentExecutions"]), used, int(limit["TotalCodeSize"]))

    def training_quotas(self) -> Mapping[str, float]:
        with asked("Service Quotas"):
            pages = client("service-quotas").get_paginator("list_service_quotas")
            quotas = [entry for page in pages.paginate(ServiceCode="sagemaker") for entry in page["Quotas"]]
        names = {entry["QuotaName"]: float(entry["Value"]) for entry in quotas}
        return {
            name.removesuffix(TRAINING_QUOTA): value
            for name, value in names.items()
            if name.endswith(TRAINING_QUOTA) and " spot " not in name
        }

    def refused_actions(self, caller: Caller, stack: str) -> list[str]:
        if caller.arn.endswith(":root"):
            return []
        refused: set[str] = set()
        partition, region = caller.arn.split(":")[1], self.region()
        with asked("IAM"):
            source = _policy_source(caller.arn)
            pages = client("iam").get_paginator("simulate_principal_policy")
            for resource, actions in ACTIONS.items():
                place = resource.format(region=region, account=caller.account, stack=stack)
                arn = place if resource == ANYTHING else f"arn:{partition}:{place}"
                answers = pages.paginate(
                    PolicySourceArn=source, ActionNames=list(actions), ResourceArns=[arn]
                )
                refused |= {
                    str(entry["EvalActionName"])
                    for answer in answers
                    for entry in answer["EvaluationResults"]
                    if entry["EvalDecision"] != "allowed"
                }
        return sorted(refused)

    def stack_status(self, stack: str) -> str:
        with asked("CloudFormation"):
            found = call("cloudformation", "describe_stacks", StackName=stack).get("Stacks", [])
        return str(found[0]["StackStatus"]) if found else ""


def _policy_source(arn: str) -> str:
    """Return the user or role whose policies count: the simulator takes no session of a role."""
    kind, _, name = arn.split(":")[5].partition("/")
    if kind == "user":
        return arn
    if kind != "assumed-role":
        raise NotChecked(f"IAM simulates no {kind}; look at the policies of {arn}")
    # The session's ARN leaves out the role's path.
    return str(client("iam").get_role(RoleName=name.split("/")[0])["Role"]["Arn"])
