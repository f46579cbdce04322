"""Executions of the state machine ``train_and_deploy``, by job key."""

from __future__ import annotations

import itertools
from typing import Any

from botocore.exceptions import ClientError

from isthmus.adapters.aws.errors import code_of
from isthmus.adapters.aws.session import client
from isthmus.errors import Refused

# States that only move values around are no news to who follows a job.
SHOWN_TYPES = ("TaskStateEntered", "SucceedStateEntered", "FailStateEntered")


class StepFunctionsPipeline:
    """``follow_job.Pipeline`` on Step Functions.

    A job's first execution has the job key as its name, a retry ``<job key>-1`` and so on.
    """

    def __init__(self, machine_arn: str) -> None:
        self._machine = machine_arn
        self._execution = machine_arn.replace(":stateMachine:", ":execution:")

    def state(self, job_key: str) -> tuple[str, list[tuple[str, float]]]:
        newest = self._newest(job_key)
        if newest is None:
            return "", []
        _, described = newest
        steps = []
        arn = described["executionArn"]
        pages = client("stepfunctions").get_paginator("get_execution_history").paginate(executionArn=arn)
        for event in (event for page in pages for event in page["events"]):
            if event["type"] in SHOWN_TYPES:
                seconds = (event["timestamp"] - described["startDate"]).total_seconds()
                steps.append((str(event["stateEnteredEventDetails"]["name"]), seconds))
        return str(described["status"]), steps

    def arn(self, job_key: str) -> str:
        """Return the newest execution's ARN. Raises Refused when there is none."""
        return str(self._existing(job_key)[1]["executionArn"])

    def retry(self, job_key: str) -> None:
        """Start the job again. A redrive would not do: every failure is caught, recorded, and ends in
        a Fail state, which is where a redrive would begin.

        Raises:
            Refused: there is no such job, or it runs.
        """
        number, described = self._existing(job_key)
        if described["status"] == "RUNNING":
            raise Refused(f"job {job_key} runs; stop it first")
        client("stepfunctions").start_execution(
            stateMachineArn=self._machine, name=f"{job_key}-{number + 1}", input=described["input"]
        )

    def stop(self, job_key: str) -> None:
        """Stop the execution. Raises Refused when there is none that runs."""
        _, described = self._existing(job_key)
        if described["status"] != "RUNNING":
            raise Refused(f"job {job_key} does not run: it ended {described['status']}")
        client("stepfunctions").stop_execution(
            executionArn=described["executionArn"], cause="stopped by isthmus job stop"
        )

    def _existing(self, job_key: str) -> tuple[int, dict[str, Any]]:
        newest = self._newest(job_key)
        if newest is None:
            raise Refused(f"there is no job {job_key}")
        return newest

    def _newest(self, job_key: str) -> tuple[int, dict[str, Any]] | None:
        newest = None
        for number in itertools.count():
            name = f"{job_key}-{number}" if number else job_key
            try:
                described = client("stepfunctions").describe_execution(
                    executionArn=f"{self._execution}:{name}"
                )
            except ClientError as error:
                if code_of(error) == "ExecutionDoesNotExist":
                    return newest
                raise
            newest = (number, described)
        return newest
