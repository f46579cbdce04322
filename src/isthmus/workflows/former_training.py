"""What an attempt before still does on SageMaker, and what it left there.

An execution that was stopped, or gave its wait up, leaves a training job that may go on for a while: it writes to the
checkpoints that the next attempt goes on from, and is billed. And what it wrote, no CollectModel has committed.
"""

from __future__ import annotations

from isthmus.errors import Unavailable
from isthmus.model import layout
from isthmus.ports import BlobStore, Records, TrainingJobs
from isthmus.workflows import cloud_checkpoints


def end_former(job_key: str, fencing: int, *, blobs: BlobStore, records: Records, jobs: TrainingJobs) -> None:
    """End the training job of an attempt before ``fencing``, and commit its checkpoints unless that was done.

    To be called before the lease is taken, which says whose job that is; may be called again.

    Raises:
        Unavailable: it has not ended yet.
    """
    lease = records.get(layout.job_pk(job_key), layout.LEASE) or {}
    name = lease.get("training_job")
    if not name or int(lease["fencing"]) >= fencing:
        return
    job = jobs.describe(name)
    if job is None:
        return
    if not job.ended:
        jobs.stop(name)
        raise Unavailable(f"the training job {name} of an attempt before is {job.status}")
    # A rig that had the lease since has left the name there, and later checkpoints than this job's.
    last = records.get(layout.cloud_job_pk(name), layout.STATE) or {}
    if last.get("fencing") == lease["fencing"] and not lease.get("outcome"):
        cloud_checkpoints.commit(job_key, int(lease["fencing"]), blobs, records)
