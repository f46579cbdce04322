"""Task tokens are good from the moment at which they are given out.

LocalEmu takes heartbeats, and answers of a task that has heartbeats, only once the call that hands the
token out has returned. A worker that got the token by that very call and is quicker is told InvalidToken,
or its answer is overlooked and the task times out.
"""

from typing import Any

from localemu.services.stepfunctions.asl.component.state.state_execution.state_task.service import (
    state_task_service_callback,
)
from localemu.services.stepfunctions.asl.eval.callback.callback import CallbackEndpoint

KIND = state_task_service_callback.StateTaskServiceCallback


def apply() -> None:
    beat, wait = CallbackEndpoint.notify_heartbeat, KIND._wait_for_task_token_heartbeat

    def notify_heartbeat(self: Any) -> bool:
        # The clock starts when the state begins to wait: an early heartbeat has nothing to put off.
        beat(self)
        return True

    def wait_for_heartbeats(self: Any, env: Any, callback_endpoint: Any, heartbeat_endpoint: Any) -> Any:
        answered = callback_endpoint.get_outcome()
        return answered if answered is not None else wait(self, env, callback_endpoint, heartbeat_endpoint)

    CallbackEndpoint.notify_heartbeat = notify_heartbeat
    KIND._wait_for_task_token_heartbeat = wait_for_heartbeats
