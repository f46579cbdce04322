"""The composition root of the operator's commands on models in service."""

from __future__ import annotations

from isthmus.ports import Concurrency


def concurrency() -> Concurrency:
    """How many calls of a model's function may run at once."""
    from isthmus.adapters.aws.operator.concurrency import LambdaConcurrency

    return LambdaConcurrency()


def published_releases(function: str) -> list[int]:
    """The releases that a model's function can be asked for by number."""
    from isthmus.adapters.aws.operator import releases

    return releases.published_releases(function)
