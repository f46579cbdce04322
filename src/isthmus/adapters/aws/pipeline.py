"""Executions of the state machine ``train_and_deploy``, by job key."""

from __future__ import annotations

from botocore.exceptions import ClientError

from isthmus.adapters.aws.errors import code_of, message_of
from isthmus.adapters.aws.session import client
from isthmus.errors import Refused

# States that only move values around are no news to who follows a job.
SHOWN_TYPES = ("TaskStateEntered", "SucceedStateEntered", "FailStateEntered")


class StepFunctionsPipeline:
    """``follow_job.Pipeline`` on Step Functions."""

    def __init__(self, machine_arn: str) -> None:
        self._execution = machine_arn.replace(":stateMachine:", ":execution:")

    def state(self, job_key: str) -> tuple[str, list[tuple[str, float]]]:
        arn = f"{self._execution}:{job_key}"
        try:
            described = client("stepfunctions").describe_execution(executionArn=arn)
        except ClientError as error:
            if code_of(error) == "ExecutionDoesNotExist":
                return "", []
            raise
        steps = []
        pages = client("stepfunctions").get_paginator("get_execution_history").paginate(executionArn=arn)
        for event in (event for page in pages for event in page["events"]):
            if event["type"] in SHOWN_TYPES:
                seconds = (event["timestamp"] - described["startDate"]).total_seconds()
                steps.append((str(event["stateEnteredEventDetails"]["name"]), seconds))
        return str(described["status"]), steps

    def redrive(self, job_key: str) -> None:
        """Run again from the failed step. Raises Refused with Step Functions' own reason."""
        try:
            client("stepfunctions").redrive_execution(executionArn=f"{self._execution}:{job_key}")
        except ClientError as error:
            raise Refused(f"job {job_key} cannot be run again: {message_of(error)}") from error

    def stop(self, job_key: str) -> None:
        """Stop the execution. Raises Refused with Step Functions' own reason."""
        try:
            client("stepfunctions").stop_execution(
                executionArn=f"{self._execution}:{job_key}", cause="stopped by isthmus"
            )
        except ClientError as error:
            raise Refused(f"job {job_key} cannot be stopped: {message_of(error)}") from error
