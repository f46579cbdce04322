"""The deployed stack that a command works on."""

from __future__ import annotations

import functools

from isthmus import bootstrap
from isthmus.ports import BlobStore, Records


class Stack:
    """A stack by name; its outputs are read when they are first needed."""

    def __init__(self, name: str) -> None:
        self.name = name

    @functools.cached_property
    def outputs(self) -> dict[str, str]:
        """CloudFormation's outputs. Raises EnvironmentProblem when there is no such stack."""
        return bootstrap.stack_outputs(self.name)

    @property
    def blobs(self) -> BlobStore:
        """The data bucket."""
        return bootstrap.blobs(self.outputs["Bucket"])

    @property
    def records(self) -> Records:
        """The table."""
        return bootstrap.records(self.outputs["Table"])

    @property
    def bucket_zone(self) -> str:
        """Where the bucket lies, as a data policy names it."""
        return bootstrap.bucket_zone(self.outputs)
