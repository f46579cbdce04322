"""Entry point by which LocalEmu finds the executor; the executor is imported only when it is chosen."""

from typing import Any

from localemu.services.lambda_.invocation.plugins import RuntimeExecutorPlugin


class ProcessRuntimeExecutorPlugin(RuntimeExecutorPlugin):  # type: ignore[misc]
    """LAMBDA_RUNTIME_EXECUTOR=process"""

    name = "process"

    def load(self, *args: Any, **kwargs: Any) -> Any:
        from .executor import ProcessRuntimeExecutor

        return ProcessRuntimeExecutor
