"""LocalEmu's runtime executor, with processes in place of containers."""

import json
import logging
import threading
from pathlib import Path
from typing import Any, ClassVar

from localemu.services.lambda_.invocation.executor_endpoint import StatusErrorException
from localemu.services.lambda_.invocation.lambda_models import InvocationResult
from localemu.services.lambda_.invocation.layer_mounter import prepare_merged_opt
from localemu.services.lambda_.invocation.runtime_executor import RuntimeExecutor

from ..errors import PreflightError
from ..state import StateFolder
from .environment import Environment, Outcome
from .interpreters import interpreter_for
from .program import FunctionFiles, function_program, new_scratch, remove_scratch
from .runtime_api import Invocation

LOG = logging.getLogger(__name__)


class ProcessRuntimeExecutor(RuntimeExecutor):  # type: ignore[misc]
    """One execution environment of one function version."""

    running: ClassVar[set["ProcessRuntimeExecutor"]] = set()
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, id: str, function_version: Any) -> None:
        super().__init__(id, function_version)
        self._environment: Environment | None = None
        self._scratch: Path | None = None
        self.busy = False
        self._state = StateFolder.of_this_process()

    def start(self, env_vars: dict[str, str]) -> None:
        config = self.function_version.config
        try:
            if not config.runtime:
                raise PreflightError(
                    "an image function needs Docker, which this local cloud does without: use a zip"
                )
            interpreter = interpreter_for(config.runtime, self._state.path)
        except PreflightError as error:
            raise StatusErrorException(str(error), payload=_init_failure(str(error))) from error
        self._scratch = new_scratch(self._state.lambda_dir)
        files = FunctionFiles(
            code=Path(config.code.get_unzipped_code_location()),
            layers=prepare_merged_opt(self.function_version),
            runtime=self._state.runtime_dir,
            scratch=self._scratch,
        )
        variables = {k: str(v) for k, v in env_vars.items() if not k.startswith(("LOCALEMU_", "EDGE_PORT"))}
        log_file = self._state.function_log(self.function_version.id.function_name)
        program = function_program(files, interpreter, config.runtime, variables)
        self._environment = Environment(program, on_output=lambda data: append(log_file, data))
        with self._lock:
            self.running.add(self)
        self._environment.start()

    def invoke(self, payload: dict[str, str], function_timeout: int | None = None) -> InvocationResult:
        if self._environment is None:
            raise RuntimeError("invoked before start")
        invocation = Invocation(
            request_id=payload["invoke-id"],
            payload=payload["payload"].encode(),
            function_arn=payload["invoked-function-arn"],
            deadline=0,
            trace_id=payload.get("trace-id"),
            client_context=payload.get("client-context"),
        )
        self.busy = True
        try:
            outcome = self._environment.invoke(invocation, float(function_timeout or 900))
        finally:
            self.busy = False
        return InvocationResult(
            invocation.request_id,
            outcome.body,
            is_error=outcome.is_error,
            logs=self._report(invocation, outcome),
        )

    def _report(self, invocation: Invocation, outcome: Outcome) -> str:
        """The platform's own lines around the function's, in CloudWatch's wording."""
        request, config = invocation.request_id, self.function_version.config
        init = f"\tInit Duration: {outcome.init_ms:.2f} ms" if outcome.init_ms is not None else ""
        return (
            f"START RequestId: {request} Version: {self.function_version.id.qualifier}\n{outcome.logs}"
            f"END RequestId: {request}\n"
            f"REPORT RequestId: {request}\tDuration: {outcome.duration_ms:.2f} ms\t"
            f"Billed Duration: {int(outcome.duration_ms) + 1} ms\t"
            f"Memory Size: {config.memory_size} MB{init}\n"
        )

    def stop(self) -> None:
        with self._lock:
            self.running.discard(self)
        if self._environment is not None:
            self._environment.kill()
        if self._scratch is not None:
            remove_scratch(self._scratch)

    def get_logs(self) -> str:
        return ""

    def get_address(self) -> str:
        return "127.0.0.1"

    def get_endpoint_from_executor(self) -> str:
        return "127.0.0.1"

    def get_runtime_endpoint(self) -> str:
        return "http://127.0.0.1"

    @classmethod
    def prepare_version(cls, function_version: Any) -> None:
        if function_version.config.code:
            function_version.config.code.prepare_for_execution()

    @classmethod
    def cleanup_version(cls, function_version: Any) -> None:
        """Nothing is prepared outside the code's own folder, which LocalEmu removes."""


def append(file: Path, data: bytes) -> None:
    with file.open("ab") as out:
        out.write(data)


def _init_failure(message: str) -> bytes:
    return json.dumps({"errorType": "Runtime.InvalidRuntime", "errorMessage": message}).encode()
