"""Running an execution on from the state that did not succeed, under its own name and history.

What AWS does, and with it this: a Task is scheduled again with its retries and its timeout reset, a
Choice is evaluated again, a Fail state fails again; the history goes on with ExecutionRedriven. Source:
Step Functions developer guide, "Restarting state machine executions with redrive". Not as on AWS: of a
Parallel or Map state all branches run again, not only those that failed.
"""

import datetime
import json
from dataclasses import dataclass
from typing import Any

from localemu.aws.api.stepfunctions import ExecutionRedrivenEventDetails, ExecutionStatus, HistoryEventType
from localemu.services.stepfunctions.asl.component.program.program import Program
from localemu.services.stepfunctions.asl.eval.callback.callback import CallbackConsumerLeft
from localemu.services.stepfunctions.asl.eval.environment import Environment
from localemu.services.stepfunctions.asl.eval.event.event_detail import EventDetails
from localemu.services.stepfunctions.asl.eval.event.event_manager import EventHistoryContext, EventManager
from localemu.services.stepfunctions.backend.execution_worker import ExecutionWorker


@dataclass(frozen=True)
class Resume:
    """The state to enter, and the input that it gets."""

    state: str
    given: Any


def resume_at(events: list[Any], definition: str) -> Resume:
    """Return where an execution's history breaks off: in a state, or between two."""
    states = json.loads(definition)["States"]
    for event in reversed(events):
        entered = event.get("stateEnteredEventDetails")
        if entered and entered["name"] in states:
            return Resume(entered["name"], json.loads(entered["input"]))
        exited = event.get("stateExitedEventDetails")
        # What was caught may have gone elsewhere than to Next: such a state runs again.
        state = states.get(exited["name"], {}) if exited else {}
        if "Next" in state and "Catch" not in state:
            return Resume(state["Next"], json.loads(exited["output"]))
    started = json.loads(definition)["StartAt"]
    return Resume(started, json.loads(events[0]["executionStartedEventDetails"]["input"]))


class RedrivenWorker(ExecutionWorker):  # type: ignore[misc]
    """Runs the rest of an execution whose first worker has ended."""

    def __init__(self, execution: Any) -> None:
        before = execution.exec_worker
        super().__init__(
            evaluation_details=before._evaluation_details,
            exec_comm=before._execution_communication,
            cloud_watch_logging_session=before._cloud_watch_logging_session,
            activity_store=before._activity_store,
            local_mock_test_case=before._local_mock_test_case,
        )
        self.resume = resume_at(_history(before), execution.state_machine.definition)
        self.env = self._environment_after(before.env, execution)

    def _environment_after(self, before: Environment, execution: Any) -> Environment:
        """Return a new environment with the history and the variables of the old one.

        The history is a copy: what still runs of the old one must not write into the new.
        """
        env = self._get_evaluation_environment()
        manager: EventManager = env.event_manager
        manager._history_event_list.extend(before.event_manager.get_event_history())
        manager._event_id_gen._next_id = len(manager._history_event_list) + 1
        env.variable_store = before.variable_store
        # A token of before is known and nobody waits for it: who answers it is told so.
        for token, endpoint in before.callback_pool_manager._pool.items():
            endpoint.report(CallbackConsumerLeft())
            env.callback_pool_manager._pool[token] = endpoint
        context = env.states.context_object.context_object_data["Execution"]
        context["RedriveCount"] = execution.redrive_count
        context["RedriveTime"] = execution._to_serialized_date(execution.redrive_date)
        env.event_history_context = EventHistoryContext(previous_event_id=len(manager._history_event_list))
        env.states.reset(input_value=self.resume.given)
        return env

    def _execution_logic(self) -> None:
        details = ExecutionRedrivenEventDetails(
            redriveCount=self.env.states.get_context()["Execution"]["RedriveCount"]
        )
        self.env.event_manager.add_event(
            context=self.env.event_history_context,
            event_type=HistoryEventType.ExecutionRedriven,
            event_details=EventDetails(executionRedrivenEventDetails=details),
        )
        program: Program = self._get_evaluation_entrypoint()
        program.start_at.start_at_name = self.resume.state
        program.eval(self.env)
        self._execution_communication.terminated()


def redrive(execution: Any, now: datetime.datetime) -> None:
    """Run ``execution``, which has ended unsuccessfully, on; its status is RUNNING at return."""
    execution.redrive_count += 1
    execution.redrive_date = now
    worker = RedrivenWorker(execution)
    execution.exec_worker = worker
    execution.stop_date = execution.error = execution.cause = None
    execution.exec_status = ExecutionStatus.RUNNING
    execution.publish_execution_status_change_event()
    worker.start()


def _history(worker: ExecutionWorker) -> list[Any]:
    return list(worker.env.event_manager.get_event_history())
