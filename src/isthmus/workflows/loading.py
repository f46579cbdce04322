"""Documents of a job, read from the bucket where every step finds them."""

from __future__ import annotations

from isthmus import documents
from isthmus.model import layout
from isthmus.model.cloud import CloudTraining
from isthmus.model.dataset import Manifest
from isthmus.model.job import Job
from isthmus.model.policy import DataPolicy
from isthmus.ports import BlobStore, Records


def load_job(blobs: BlobStore, job_key: str) -> Job:
    """Return the job as registered."""
    key = layout.registered_job(job_key)
    return documents.decode(Job, blobs.get(key, max_bytes=documents.MAX_DOCUMENT_BYTES), key)


def load_manifest(blobs: BlobStore, job_key: str) -> Manifest:
    """Return the dataset manifest as registered."""
    key = layout.registered_manifest(job_key)
    return documents.decode(Manifest, blobs.get(key, max_bytes=documents.MAX_DOCUMENT_BYTES), key)


def load_policy(records: Records, dataset: str) -> DataPolicy:
    """Return the dataset's policy; without a record, data may lie with every device of the team."""
    own = load_own_policy(records, dataset)
    return DataPolicy() if own is None else own


def load_own_policy(records: Records, dataset: str) -> DataPolicy | None:
    """Return the policy that an administrator set for the dataset, or None."""
    item = records.get(layout.dataset_pk(dataset), layout.POLICY)
    return documents.convert(DataPolicy, item["policy"], f"the policy of {dataset}") if item else None


def load_cloud_training(records: Records) -> CloudTraining | None:
    """Return what an administrator set of trainings on SageMaker, or None."""
    item = records.get(layout.SETTINGS, layout.SAGEMAKER)
    return documents.convert(CloudTraining, item["settings"], "the settings of SageMaker") if item else None
