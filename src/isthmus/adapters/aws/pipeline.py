"""Executions of the state machine ``train_and_deploy``, by job key."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator
from typing import Any

import msgspec
from botocore.exceptions import ClientError

from isthmus.adapters.aws.errors import code_of, message_of, passing_trouble
from isthmus.adapters.aws.executions import History, events, run_of
from isthmus.adapters.aws.session import client
from isthmus.errors import NotRedrivable, Refused
from isthmus.model.execution import Run
from isthmus.workflows.read_history import ending, visits


class StepFunctionsPipeline:
    """``follow_job.Pipeline`` on Step Functions.

    A job's first execution has the job key as its name, a retry ``<job key>-1`` and so on. What is read of
    a history is kept: who looks again and again reads only what is new.
    """

    def __init__(self, machine_arn: str) -> None:
        self._machine = machine_arn
        self._execution = machine_arn.replace(":stateMachine:", ":execution:")
        self._histories: dict[str, History] = {}

    @passing_trouble("Step Functions")
    def run(self, job_key: str) -> Run | None:
        found = self._executions(job_key)
        return self._with_visits(_newest(found)) if found else None

    @passing_trouble("Step Functions")
    def nested(self, arn: str) -> Run:
        return self._with_visits(client("stepfunctions").describe_execution(executionArn=arn))

    def recent(self) -> Iterator[Run]:
        yield from self._listed(page_size=100)

    def state(self, arn: str) -> str:
        return ending(events(arn, newest_first=True)).state

    @passing_trouble("Step Functions")
    def arn(self, job_key: str) -> str:
        """Return the newest execution's ARN. Raises Refused when there is none."""
        return str(_newest(self._existing(job_key))["executionArn"])

    @passing_trouble("Step Functions")
    def retry(self, job_key: str) -> None:
        found = self._existing(job_key)
        newest = _newest(found)
        if newest["status"] == "RUNNING":
            raise Refused(f"job {job_key} runs; stop it first")
        number = 1 + max(_number(described["name"], job_key) for described in found)
        client("stepfunctions").start_execution(
            stateMachineArn=self._machine, name=_name(job_key, number), input=newest["input"]
        )

    @passing_trouble("Step Functions")
    def redrive(self, job_key: str) -> None:
        arn = self.arn(job_key)
        try:
            # A token of one's own lets the library repeat a call whose answer got lost.
            client("stepfunctions").redrive_execution(executionArn=arn, clientToken=uuid.uuid4().hex)
        except ClientError as error:
            if code_of(error) == "ExecutionNotRedrivable":
                raise NotRedrivable(message_of(error)) from error
            raise

    @passing_trouble("Step Functions")
    def stop(self, job_key: str, cause: str) -> None:
        described = _newest(self._existing(job_key))
        if described["status"] != "RUNNING":
            raise Refused(f"job {job_key} does not run: it ended {described['status']}")
        client("stepfunctions").stop_execution(executionArn=described["executionArn"], cause=cause)

    def _with_visits(self, described: dict[str, Any]) -> Run:
        arn = described["executionArn"]
        history = self._histories.setdefault(arn, History(arn))
        return msgspec.structs.replace(run_of(described), visits=visits(history.read()))

    def _existing(self, job_key: str) -> list[dict[str, Any]]:
        found = self._executions(job_key)
        if not found:
            raise Refused(f"there is no job {job_key}")
        return found

    def _executions(self, job_key: str) -> list[dict[str, Any]]:
        """Return what there is of a job's executions, described: without those that ended 90 days ago.

        The first goes first: where its name is gone, a retry may still be there under any number.
        """
        names = (_name(job_key, number) for number in itertools.count())
        found = list(itertools.takewhile(bool, map(self._described, names)))
        if not found:
            kept = [run.name for run in self._listed(page_size=1000) if run.name.startswith(job_key)]
            found = list(map(self._described, kept))
        return [described for described in found if described is not None]

    def _described(self, name: str) -> dict[str, Any] | None:
        try:
            found = client("stepfunctions").describe_execution(executionArn=f"{self._execution}:{name}")
        except ClientError as error:
            if code_of(error) == "ExecutionDoesNotExist":
                return None
            raise
        return dict(found)

    def _listed(self, *, page_size: int) -> Iterator[Run]:
        pages = client("stepfunctions").get_paginator("list_executions")
        with passing_trouble("Step Functions"):
            for page in pages.paginate(
                stateMachineArn=self._machine, PaginationConfig={"PageSize": page_size}
            ):
                yield from (run_of(entry) for entry in page["executions"])


def _newest(executions: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the one that began last: after 90 days a job's first name is used again, beside later retries."""
    return max(executions, key=lambda described: described["startDate"])


def _name(job_key: str, number: int) -> str:
    return f"{job_key}-{number}" if number else job_key


def _number(name: str, job_key: str) -> int:
    """Return the number of a retry; 0 for any other name."""
    number = name[len(job_key) + 1 :]
    return int(number) if number.isdecimal() else 0
