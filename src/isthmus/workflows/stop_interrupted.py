"""A spot training that SageMaker interrupted: stop it if a rig would take it now, else leave it to SageMaker.

``Interrupted`` is a secondary status of a job in progress: Step Functions waits on. SageMaker starts the job again when
there is capacity; a rig may go on from the checkpoint at once.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from isthmus.errors import NoPlacement
from isthmus.model import layout
from isthmus.planning.choice import Choice
from isthmus.ports import BlobStore, Devices, Records, TrainingJobs
from isthmus.workflows.plan_training import choose_device, load_training

INTERRUPTED = "Interrupted"
Decision = Literal["stopped", "left", "unknown"]


def stop_interrupted(
    name: str,
    *,
    now: float,
    blobs: BlobStore,
    records: Records,
    devices: Devices,
    jobs: TrainingJobs,
) -> Decision:
    """Stop the job, so that its attempt ends and the next is planned, if a rig is free for it; return what was done.

    ``left``: also a job that shall be over by some time (``wishes.within_seconds``): what is left of that is the
    planner's to know, and an attempt that ends here might find nobody to go on; and one that trains again by now, for
    events come late. ``unknown``: it is no attempt of this stack's, or not the one that is waited for any more.
    """
    known = records.get(layout.cloud_job_pk(name), layout.STATE)
    if known is None:
        return "unknown"
    job_key, fencing = str(known["job_key"]), int(known["fencing"])
    lease = records.get(layout.job_pk(job_key), layout.LEASE) or {}
    if lease.get("fencing") != fencing or lease.get("outcome"):
        return "unknown"
    choice = _rig(job_key, int(lease.get("redrives", 0)), now, blobs, records, devices)
    if choice is None or choice.wait_seconds > 0:
        return "left"
    job = jobs.describe(name)
    if job is None or job.secondary != INTERRUPTED:
        return "left"
    jobs.stop(name)
    return "stopped"


def _rig(
    job_key: str, redrives: int, now: float, blobs: BlobStore, records: Records, devices: Devices
) -> Choice | None:
    """Return the rig that would take the job, or None."""
    job, training = load_training(job_key, blobs)
    if job.wishes.within_seconds is not msgspec.UNSET:
        return None
    try:
        return choose_device(
            job_key,
            job,
            training,
            left=None,
            redrives=redrives,
            zone="",
            now=now,
            blobs=blobs,
            records=records,
            devices=devices,
        )
    except NoPlacement:
        return None
