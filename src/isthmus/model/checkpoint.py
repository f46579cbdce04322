"""A job's checkpoint as it lies in the bucket: plain files, and the manifest that commits them."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from isthmus.model.blob import Sha256
from isthmus.model.dataset import Path


class CheckpointFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file, by its path in ``SM_CHECKPOINT_DIR``; its bytes lie below ``checkpoint_blob``."""

    path: Path
    sha256: Sha256
    size_bytes: Annotated[int, msgspec.Meta(ge=0)]


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """What a training's checkpoint folder held at one moment. ``generation`` counts within an attempt.

    It is complete once the job's record names its digest; that is written last, on condition that no later
    attempt has a checkpoint of its own.
    """

    schema: Literal["isthmus/checkpoint/1"] = "isthmus/checkpoint/1"
    job_key: str
    fencing: int
    generation: int
    files: tuple[CheckpointFile, ...]
