"""What a deployed stack is called and holds, read from its outputs."""

from __future__ import annotations

from botocore.exceptions import BotoCoreError, ClientError

from isthmus.adapters.aws.errors import message_of, raise_if_denied
from isthmus.adapters.aws.session import client
from isthmus.errors import EnvironmentProblem


def outputs(stack: str) -> dict[str, str]:
    """Return the outputs of a CloudFormation stack.

    Raises:
        EnvironmentProblem: there is no such stack in this account and region, or no credentials.
        PermissionMissing: the caller may not look at it.
    """
    try:
        answer = client("cloudformation").describe_stacks(StackName=stack)
    except ClientError as error:
        raise_if_denied(error)
        raise EnvironmentProblem(
            f"the stack {stack} was not found in this account and region ({message_of(error)}); "
            "deploy it with `sam deploy`, or name another with --stack or ISTHMUS_STACK"
        ) from error
    except BotoCoreError as error:
        raise EnvironmentProblem(f"AWS could not be reached: {error}") from error
    return {entry["OutputKey"]: entry["OutputValue"] for entry in answer["Stacks"][0].get("Outputs", [])}
