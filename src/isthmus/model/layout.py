"""Where things lie: keys of the bucket and of the table (docs/adr/0007)."""

from __future__ import annotations

import hashlib

CHAMPIONS = "MODELS"
RIGS = "RIGS"
POLICY = "POLICY"
LEASE = "LEASE"
STATE = "STATE"

DATASETS = "datasets/"


def dataset_folder(dataset: str) -> str:
    """Everything that an uploader writes of a dataset lies below this."""
    return f"{DATASETS}{dataset}/"


def manifest_key(dataset: str, digest: str) -> str:
    """Where ``isthmus dataset push`` writes a manifest; any name below ``manifests/`` starts a pipeline."""
    return f"{dataset_folder(dataset)}manifests/{digest}.json"


def blob_path(sha256: str) -> str:
    """Where a file's bytes lie below its dataset's folder when its manifest gives no key."""
    return f"blobs/{sha256}"


def job_key(manifest_sha256: str, job_sha256: str) -> str:
    """The name of a job, its execution and its records: 40 hex digits."""
    return hashlib.sha256(f"{manifest_sha256}:{job_sha256}".encode()).hexdigest()[:40]


def job_folder(key: str) -> str:
    """What the pipeline writes of a job lies below this."""
    return f"jobs/{key}/"


def registered_manifest(key: str) -> str:
    """The manifest as registered: canonical, never changed."""
    return f"{job_folder(key)}manifest.json"


def registered_job(key: str) -> str:
    """The job as registered: canonical, never changed."""
    return f"{job_folder(key)}job.json"


def plan_key(key: str, fencing: int) -> str:
    """The plan of an attempt."""
    return f"{job_folder(key)}plans/{fencing}.json"


def attempt_output(key: str, fencing: int) -> str:
    """What an attempt left; ``output.json`` in it is written last."""
    return f"{job_folder(key)}attempts/{fencing}/output/"


def bundle_folder(model: str, digest: str) -> str:
    """A bundle's files: ``bundle.zip`` (edge), ``layer.zip`` (Lambda), ``manifest.json``, ``manifest.sig``."""
    return f"bundles/{model}/{digest}/"


def job_pk(key: str) -> str:
    """Partition of a job's records: its state and its lease."""
    return f"JOB#{key}"


def dataset_pk(dataset: str) -> str:
    """Partition of a dataset's records: its versions and its policy."""
    return f"DATASET#{dataset}"


def model_pk(model: str) -> str:
    """Partition of a model's records: its release counter and releases."""
    return f"MODEL#{model}"


def release_sk(release: int) -> str:
    """Sort key of a release; padded, so that releases sort by number."""
    return f"RELEASE#{release:08d}"


def function_name(stack: str, model: str) -> str:
    """The Lambda function of a model."""
    return f"{stack}-model-{model}"


def layer_name(stack: str, model: str) -> str:
    """The Lambda layer of a model; a version per bundle."""
    return f"{stack}-model-{model}"


def queue_name(stack: str, rig: str) -> str:
    """The SQS queue of a rig."""
    return f"{stack}-rig-{rig}"


def component_name(stack: str, model: str, part: str) -> str:
    """A Greengrass component: ``part`` is ``model`` (the bundle) or ``infer`` (the edge Lambda)."""
    return f"{stack}.{model}.{part}"
