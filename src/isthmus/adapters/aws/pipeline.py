"""Executions of the state machine ``train_and_deploy``, by job key."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator
from typing import Any

import msgspec
from botocore.exceptions import ClientError

from isthmus.adapters.aws.errors import code_of, message_of
from isthmus.adapters.aws.executions import events, run_of
from isthmus.adapters.aws.session import client
from isthmus.errors import NotRedrivable, Refused
from isthmus.model.execution import Run
from isthmus.workflows.read_history import ending, visits


class StepFunctionsPipeline:
    """``follow_job.Pipeline`` on Step Functions.

    A job's first execution has the job key as its name, a retry ``<job key>-1`` and so on.
    """

    def __init__(self, machine_arn: str) -> None:
        self._machine = machine_arn
        self._execution = machine_arn.replace(":stateMachine:", ":execution:")

    def run(self, job_key: str) -> Run | None:
        newest = self._newest(job_key)
        return None if newest is None else self.nested(newest[1]["executionArn"])

    def nested(self, arn: str) -> Run:
        described = client("stepfunctions").describe_execution(executionArn=arn)
        return msgspec.structs.replace(run_of(described), visits=visits(events(arn)))

    def recent(self) -> Iterator[Run]:
        pages = client("stepfunctions").get_paginator("list_executions")
        for page in pages.paginate(stateMachineArn=self._machine):
            yield from (run_of(entry) for entry in page["executions"])

    def state(self, arn: str) -> str:
        return ending(events(arn, newest_first=True)).state

    def arn(self, job_key: str) -> str:
        """Return the newest execution's ARN. Raises Refused when there is none."""
        return str(self._existing(job_key)[1]["executionArn"])

    def retry(self, job_key: str) -> None:
        number, described = self._existing(job_key)
        if described["status"] == "RUNNING":
            raise Refused(f"job {job_key} runs; stop it first")
        client("stepfunctions").start_execution(
            stateMachineArn=self._machine, name=f"{job_key}-{number + 1}", input=described["input"]
        )

    def redrive(self, job_key: str) -> None:
        arn = self.arn(job_key)
        try:
            # A token of one's own lets the library repeat a call whose answer got lost.
            client("stepfunctions").redrive_execution(executionArn=arn, clientToken=uuid.uuid4().hex)
        except ClientError as error:
            if code_of(error) == "ExecutionNotRedrivable":
                raise NotRedrivable(message_of(error)) from error
            raise

    def stop(self, job_key: str, cause: str) -> None:
        _, described = self._existing(job_key)
        if described["status"] != "RUNNING":
            raise Refused(f"job {job_key} does not run: it ended {described['status']}")
        client("stepfunctions").stop_execution(executionArn=described["executionArn"], cause=cause)

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
