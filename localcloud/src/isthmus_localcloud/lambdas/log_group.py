"""LoggingConfig.LogGroup: AWS writes a function's log there; LocalEmu to ``/aws/lambda/NAME`` in any case,
into a group that no stack knows, and that outlives it."""

from typing import Any

from localemu.services.lambda_.invocation.execution_environment import ExecutionEnvironment


def apply() -> None:
    original = ExecutionEnvironment.get_log_group_name

    def get_log_group_name(self: Any) -> str:
        configured = self.function_version.config.logging_config or {}
        return configured.get("LogGroup") or str(original(self))

    ExecutionEnvironment.get_log_group_name = get_log_group_name
