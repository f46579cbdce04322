"""The composition root of the ledger: what a pipeline used is counted in the histories of its executions."""

from __future__ import annotations

from isthmus import bootstrap
from isthmus.errors import PermissionMissing, Unavailable
from isthmus.model.ledger import Used


def used_by(execution: str, *, running: bool) -> Used | None:
    """Return what an execution used; None where that cannot be counted, which is no reason for a pipeline to fail.

    ``running``: it is in its last state but one, which asks.
    """
    from isthmus.adapters.aws.usage import usage_of

    faults: tuple[type[Exception], ...] = (*bootstrap.aws_errors(), PermissionMissing, Unavailable)
    if not execution:
        return None
    try:
        found = usage_of(execution, 0.0, 0.0)
    except faults:
        return None
    return Used(
        state_transitions=found.state_transitions + running,
        lambda_requests=found.lambda_requests + running,
        lambda_gb_seconds=found.lambda_gb_seconds,
    )
