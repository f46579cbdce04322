"""The rig bridge's services: a queue per rig (SQS), task tokens (Step Functions), the report (Lambda)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from isthmus import documents
from isthmus.adapters.aws.errors import (
    CONFLICT_CODES,
    code_of,
    message_of,
    passing_trouble,
    raise_if_denied,
)
from isthmus.adapters.aws.session import client
from isthmus.errors import DEPLOYMENT_FAULTS, Conflict, InvalidDocument, Unavailable
from isthmus.model.messages import Work
from isthmus.ports import Message

MAX_CAUSE_CHARACTERS = 32_768
"""Step Functions' limit on the cause of a failed task (SendTaskFailure, ``cause``)."""

VISIBILITY_SECONDS = 30
"""A message is deleted once it is on the waiting list. Of an agent that died in between it comes back after as long as
a shipped lease; said at each call, so that queues made for longer need no change."""


class SqsJobQueue:
    """One rig's queue; up to ten messages at a time, which is what ReceiveMessage allows."""

    def __init__(self, url: str) -> None:
        self._url = url

    @passing_trouble("SQS")
    def receive(self, *, wait_seconds: int) -> list[Message]:
        answer = client("sqs").receive_message(
            QueueUrl=self._url,
            MaxNumberOfMessages=10,
            WaitTimeSeconds=min(wait_seconds, 20),
            VisibilityTimeout=VISIBILITY_SECONDS,
        )
        return [_message(entry["Body"], str(entry["ReceiptHandle"])) for entry in answer.get("Messages", [])]

    @passing_trouble("SQS")
    def delete(self, receipt: str) -> None:
        client("sqs").delete_message(QueueUrl=self._url, ReceiptHandle=receipt)


def _message(body: str, receipt: str) -> Message:
    try:
        return Message(receipt, documents.decode(Work, body, "a message of the rig's queue"))
    except InvalidDocument as error:
        return Message(receipt, None, str(error))


class StepFunctionsTasks:
    """Answers to task tokens. Step Functions cannot say whether a task timed out or was stopped."""

    def succeed(self, token: str, output: Mapping[str, Any]) -> None:
        self._call("send_task_success", taskToken=token, output=json.dumps(output))

    def fail(self, token: str, error: str, cause: str) -> None:
        self._call("send_task_failure", taskToken=token, error=error, cause=cause[-MAX_CAUSE_CHARACTERS:])

    def heartbeat(self, token: str) -> None:
        self._call("send_task_heartbeat", taskToken=token)

    def _call(self, operation: str, **arguments: str) -> None:
        try:
            getattr(client("stepfunctions"), operation)(**arguments)
        except ClientError as error:
            if code_of(error) in CONFLICT_CODES:
                raise Conflict(f"the task is no longer waiting: {message_of(error)}") from error
            raise_if_denied(error)
            raise Unavailable(f"Step Functions refused: {error}") from error
        except BotoCoreError as error:
            raise Unavailable(f"Step Functions did not answer: {error}") from error


class LambdaReporter:
    """Calls ``finish_attempt``, which reads the committed outcome and answers the training's token."""

    def __init__(self, function: str) -> None:
        self._function = function

    def finished(self, job_key: str, fencing: int) -> None:
        payload = json.dumps({"job_key": job_key, "fencing": fencing})
        try:
            answer = client("lambda").invoke(FunctionName=self._function, Payload=payload.encode())
            body = answer["Payload"].read()
        except ClientError as error:
            raise_if_denied(error)
            raise Unavailable(f"{self._function} did not answer: {error}") from error
        except BotoCoreError as error:
            raise Unavailable(f"{self._function} did not answer: {error}") from error
        if answer.get("FunctionError"):
            self._judge(body)

    def _judge(self, body: bytes) -> None:
        """Raise what a failure of the function means. Its answer is a JSON object with ``errorType`` and
        ``errorMessage`` (Lambda developer guide, "AWS Lambda function errors in Python")."""
        text = body[:MAX_CAUSE_CHARACTERS].decode(errors="replace")
        try:
            answer = dict(json.loads(body))
        except (ValueError, TypeError):
            answer = {}
        kind = answer.get("errorType")
        if kind == Conflict.__name__:
            # Nothing is committed under this number: a newer attempt has the lease, and reports itself.
            return
        for fault in DEPLOYMENT_FAULTS:
            if kind == fault.__name__:
                raise fault(f"{self._function} failed: {answer.get('errorMessage', text)}")
        raise Unavailable(f"{self._function} failed: {text[:500]}")
