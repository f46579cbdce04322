"""Step Functions' requests: names, task tokens, and definitions whose tasks have unknown parameters.

Too large an input of an execution or output of a task is refused by ``shapes``, in bytes as AWS words it.
"""

import json
import re

from localemu.aws.api import RequestContext
from localemu.aws.api.stepfunctions import InvalidDefinition, InvalidName, InvalidToken

from . import limits, running_states
from .task_parameters import in_definition

FORBIDDEN = re.compile(r"""[\s<>{}\[\]?*"#%\\^|~`$&,;:/\x00-\x1f\x7f-\x9f]""")
"""In names of state machines and executions. Source: Step Functions service quotas, "General quotas"."""


def name(context: RequestContext) -> None:
    """Raises InvalidName."""
    wanted = context.service_request.get("name")
    if wanted and FORBIDDEN.search(wanted):
        raise InvalidName(f"Invalid Name: '{wanted}'")


def create(context: RequestContext) -> None:
    name(context)
    definition(context)


def definition(context: RequestContext) -> None:
    """Raises InvalidDefinition with every finding; what is no JSON is left to LocalEmu's parser."""
    try:
        document = json.loads(context.service_request.get("definition") or "{}")
    except json.JSONDecodeError:
        return
    if found := list(in_definition(document)):
        error = InvalidDefinition()
        error.message = f"Invalid State Machine Definition: '{', '.join(found)}'"
        raise error


def token(context: RequestContext) -> None:
    """Raises InvalidToken for a token that Step Functions cannot have given out."""
    if len(context.service_request.get("taskToken") or "") > limits.TASK_TOKEN.value:
        raise InvalidToken(f"Invalid Token: longer than {limits.TASK_TOKEN.value} characters")


CHECKS = {
    "stepfunctions.CreateStateMachine": create,
    "stepfunctions.UpdateStateMachine": definition,
    "stepfunctions.StartExecution": name,
    "stepfunctions.StartSyncExecution": name,
    "stepfunctions.SendTaskSuccess": token,
    "stepfunctions.SendTaskFailure": token,
    "stepfunctions.SendTaskHeartbeat": token,
}

apply = running_states.apply
