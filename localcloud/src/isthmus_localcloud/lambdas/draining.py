"""An update of a function lets what runs on the old version come to its end, as AWS does.

LocalEmu stops the old version's environments, and removes its code, as soon as the new one is active: a
request that was on its way would be answered with 502.
"""

import time
from collections.abc import Callable
from typing import Any

from localemu.services.lambda_.invocation import lambda_service
from localemu.services.lambda_.invocation.version_manager import LambdaVersionManager

from .executor import ProcessRuntimeExecutor

ON_THE_WAY_SECONDS = 0.3
"""Who looked the old version up just before the change has entered it by then."""
LONGEST_SECONDS = 900.0
POLL_SECONDS = 0.02


def await_end(busy: Callable[[ProcessRuntimeExecutor], bool], seconds: float = LONGEST_SECONDS) -> bool:
    """Return whether none of the running environments is ``busy`` within the time."""
    deadline = time.monotonic() + seconds
    while any(busy(executor) for executor in tuple(ProcessRuntimeExecutor.running)):
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def apply() -> None:
    stop, destroy = LambdaVersionManager.stop, lambda_service.destroy_code_if_not_used

    def stop_when_idle(self: Any) -> None:
        time.sleep(ON_THE_WAY_SECONDS)
        await_end(lambda executor: executor.function_version is self.function_version and executor.busy)
        stop(self)

    def destroy_when_unused(code: Any, function: Any) -> None:
        time.sleep(ON_THE_WAY_SECONDS)
        await_end(lambda executor: executor.function_version.config.code is code)
        destroy(code, function)

    LambdaVersionManager.stop = stop_when_idle
    lambda_service.destroy_code_if_not_used = destroy_when_unused
