"""The composition root of slicing a model on this machine."""

from __future__ import annotations

from isthmus.ports import Signer


def own_signer() -> Signer:
    """A key that is gone with the process: of slices that are for no stack. Its public half lies beside them.

    Raises:
        EnvironmentProblem: cryptography is not installed.
    """
    from isthmus.adapters.own_key import OwnKeySigner
    from isthmus.errors import EnvironmentProblem

    try:
        return OwnKeySigner()
    except ModuleNotFoundError as error:
        raise EnvironmentProblem("slicing needs cryptography; install `isthmus[slicing]`") from error
