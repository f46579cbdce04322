"""An update of a function lets what runs on the old version come to its end, as AWS does.

LocalEmu stops the old version's environments, and removes its code, as soon as the new one is active: a
request that was on its way would be answered with 502.
"""

import threading
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


def aside(work: Callable[..., Any], *arguments: Any) -> None:
    """In a thread of its own: those of LocalEmu's pool are few, and updates need them."""
    threading.Thread(target=work, args=arguments, name="lambda-drain", daemon=True).start()


def apply() -> None:
    stop, destroy = LambdaVersionManager.stop, lambda_service.destroy_code_if_not_used

    def stop_when_idle(manager: Any) -> None:
        time.sleep(ON_THE_WAY_SECONDS)
        await_end(lambda executor: executor.function_version is manager.function_version and executor.busy)
        stop(manager)

    def destroy_when_idle(code: Any, function: Any) -> None:
        """LocalEmu keeps code that a version still has; what runs on none of them is waited for here."""
        time.sleep(ON_THE_WAY_SECONDS)
        await_end(lambda executor: executor.function_version.config.code is code and executor.busy)
        destroy(code, function)

    LambdaVersionManager.stop = lambda self: aside(stop_when_idle, self)
    lambda_service.destroy_code_if_not_used = lambda *arguments: aside(destroy_when_idle, *arguments)
