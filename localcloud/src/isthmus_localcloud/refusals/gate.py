"""The one place that every request to a service passes through."""

from collections.abc import Callable
from typing import Any

from localemu.aws.api import RequestContext

from . import events, lambdas, shapes, stepfunctions

Check = Callable[[RequestContext], None]
CHECKS: dict[str, Check] = {**lambdas.CHECKS, **stepfunctions.CHECKS, **events.CHECKS}
"""By ``service.Operation``. Each raises the error that AWS answers with."""


def refuse(_chain: Any, context: RequestContext, _response: Any) -> None:
    """A handler of LocalEmu's request chain; what it raises becomes the answer."""
    if not context.operation or context.service_request is None:
        return
    check = CHECKS.get(f"{context.service.service_name}.{context.operation.name}")
    if check is not None:
        check(context)
    shapes.check(context)
