"""StopExecution: AWS aborts at once, also while a task waits for its token or another execution.

LocalEmu only marks the program as stopped. A wait for a task token goes on until the next heartbeat
or the timeout, ends as a timed-out task, and that error then takes the place of the stop. On AWS the
last event of the history is ExecutionAborted, and the task that was stopped did not fail.
"""

from typing import Any

from localemu.services.stepfunctions.asl.component.state.state_execution.execute_state import ExecutionState
from localemu.services.stepfunctions.asl.eval.environment import Environment
from localemu.services.stepfunctions.asl.eval.program_state import ProgramStopped
from localemu.services.stepfunctions.backend.execution_worker import ExecutionWorker


def apply() -> None:
    """Patch the worker, which is told to stop, and the environment, which must stay stopped."""
    stop = ExecutionWorker.stop

    def stop_now(self: Any, *positional: Any, **named: Any) -> None:
        stop(self, *positional, **named)
        for endpoint in list(self.env.callback_pool_manager._pool.values()):
            endpoint.interrupt_all()

    ExecutionWorker.stop = stop_now
    _no_failure_of_what_was_stopped()
    for name in ("set_error", "set_timed_out"):
        _keep_stopped(name)


def _no_failure_of_what_was_stopped() -> None:
    evaluate = ExecutionState._evaluate_with_timeout

    def unless_stopped(self: Any, env: Any) -> None:
        try:
            evaluate(self, env)
        except Exception:
            if not isinstance(env.program_state(), ProgramStopped):
                raise

    ExecutionState._evaluate_with_timeout = unless_stopped


def _keep_stopped(name: str) -> None:
    original = getattr(Environment, name)

    def unless_stopped(self: Any, *positional: Any, **named: Any) -> None:
        if not isinstance(self.program_state(), ProgramStopped):
            original(self, *positional, **named)

    setattr(Environment, name, unless_stopped)
