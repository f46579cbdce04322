"""A dataset and a job, given to the control plane: the policy first, then what the bucket lacks, the manifest last."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isthmus.model.dataset import InPlace
from isthmus.model.policy import DataPolicy
from isthmus.ports import BlobStore, Records
from isthmus.sync.upload import Progress
from isthmus.workflows.in_place import check_location, check_upload
from isthmus.workflows.loading import load_own_policy
from isthmus.workflows.push_dataset import Pushed, prepare, push

LOCAL = "local"
PLACES = (LOCAL, "rig", "sagemaker")
"""Where a job may be started: on this machine, or where the control plane has it."""


@dataclass(frozen=True)
class Submission:
    """``job`` is a job as people write it, its paths relative to ``base``; ``in_place``: where the files stay."""

    dataset: str
    folder: Path
    job: dict[str, Any]
    base: Path
    in_place: InPlace | None = None
    whole: bool = False


def submit(
    given: Submission, records: Records, blobs: BlobStore, bucket_zone: str, progress: Progress
) -> tuple[Pushed, DataPolicy]:
    """Start a job; return what was pushed, and the policy under which.

    Raises:
        PolicyViolation: the data may not lie where they would.
        InvalidJob, InvalidInput: as ``prepare``.
    """
    own = load_own_policy(records, given.dataset)
    policy = own or DataPolicy()
    # Before anything is read: of a large dataset the digests alone take long.
    if given.in_place is None:
        check_upload(given.dataset, policy, bucket_zone)
    else:
        check_location(given.dataset, given.in_place, own, bucket_zone)
    with tempfile.TemporaryDirectory() as workdir:
        prepared = prepare(
            given.dataset, given.folder, given.job, given.base, Path(workdir), in_place=given.in_place
        )
        return push(prepared, blobs, progress, whole=given.whole), policy
