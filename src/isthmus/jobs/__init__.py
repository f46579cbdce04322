"""Jobs from Python: ``isthmus.submit`` starts a script or a notebook, here, on a rig or on SageMaker."""

from __future__ import annotations

from isthmus.jobs.handles import LocalHandle, StackHandle
from isthmus.jobs.starting import submit

__all__ = ["LocalHandle", "StackHandle", "submit"]
