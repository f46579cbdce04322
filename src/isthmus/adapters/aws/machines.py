"""``Executions`` on Step Functions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from botocore.exceptions import ClientError

from isthmus.adapters.aws.errors import code_of, passing_trouble
from isthmus.adapters.aws.session import client


class StepFunctionsExecutions:
    """Executions by name: Standard workflows keep a name for 90 days, which makes a start idempotent."""

    @passing_trouble("Step Functions")
    def start(self, machine: str, name: str, payload: Mapping[str, Any]) -> bool:
        try:
            client("stepfunctions").start_execution(
                stateMachineArn=machine, name=name, input=json.dumps(payload, sort_keys=True)
            )
        except ClientError as error:
            if code_of(error) == "ExecutionAlreadyExists":
                return False
            raise
        return True
