"""Where things lie: keys of the bucket and of the table (docs/adr/0007)."""

from __future__ import annotations

import hashlib

CHAMPIONS = "MODELS"
SERVING = "SERVING"
"""Partition of what the router is told about each model, besides where it is in service."""
APPROVALS = "APPROVALS"
"""Partition of what people are asked: one item for each job, by its key, with the token that answers. Not among the
job's records: rigs read those, and may answer tokens."""
RIGS = "RIGS"
POLICY = "POLICY"
SETTINGS = "SETTINGS"
"""Partition of what an administrator sets for the whole stack; ``SAGEMAKER`` in it: ``model.cloud.CloudTraining``."""
SAGEMAKER = "SAGEMAKER"
PRICES = "PRICES"
"""In ``SETTINGS``: prices of an administrator's own, in place of listed ones."""
BUDGETS = "BUDGETS"
"""Partition of what may be spent in a month: of all (``ALL``), of a model (``MODEL#…``), of a team (``TEAM#…``)."""
ALL = "ALL"
USED = "USED"
"""Of a model: what its last pipeline used, by where it trained."""
LEDGER = "LEDGER#"
PLANNED = "PLANNED"
"""Partition of the attempts that are planned and have not ended: one item for each job, by its key."""
TRAINED = "TRAINED"
"""Of a model: how many seconds its last trainings took, by device."""
TRIED = "TRIED"
"""Of a job: what SageMaker could not give it, or took back."""
LEASE = "LEASE"
STATE = "STATE"
CHECKPOINT = "CHECKPOINT"
SHARES = "SHARES"
PROGRESS = "PROGRESS"
CURVES = "CURVES"
"""How a running training's metrics went so far."""
SLICED = "SLICED"
"""Of a model: which slices it is served as. Of a model with a plan: the numbers of its slices' releases, by what
is in their bundles (``sliced_sk``)."""
AGENT = "AGENT#"
ORPHAN = "ORPHAN#"
WORK = "WORK#"
TURN = "TURN#"

DATASETS = "datasets/"
PINNED = "pinned-"
"""How a dataset's name begins whose files the bucket's own policy keeps out (template.yaml, ``BucketPolicy``)."""
BUNDLES = "bundles/"
CHECKPOINTS = "checkpoints/"
PROBES = "probes/"
HANDOVER = "handover/"

STACK_TAG = "isthmus:stack"
"""Tag of everything that can have tags, with the stack's name: two stacks' names may be each other's
prefix (``shop`` and ``shop-model-b``), so a name alone does not say whose a thing is."""
TEMPLATE_LAYERS = (
    "core-x86",
    "core-arm",
    "onnx-runtime-x86",
    "onnx-runtime-arm",
    "images-x86",
    "images-arm",
    "quantization-x86",
    "quantization-arm",
)
"""The template's own layers, after ``<stack>-``; their versions outlive the stack."""
BUNDLE_MARKER = "bundle "
"""How the description of a model layer's version begins; the digest follows. Layers have no tags."""
RELEASE_ALIAS = "release-"
"""How the alias of a release begins; it does not keep its version from being collected."""
COMPONENT_PARTS = ("model", "infer")


def dataset_folder(dataset: str) -> str:
    """Everything that an uploader writes of a dataset lies below this."""
    return f"{DATASETS}{dataset}/"


def manifest_key(dataset: str, digest: str) -> str:
    """Where ``isthmus dataset push`` writes a manifest; any name below ``manifests/`` starts a pipeline."""
    return f"{dataset_folder(dataset)}manifests/{digest}.json"


def blob_path(sha256: str) -> str:
    """Where a file's bytes lie below its dataset's folder when its manifest gives no key."""
    return f"blobs/{sha256}"


def chunks_key(dataset: str, sha256: str) -> str:
    """Where it is noted how a file was cut, so that a later version of it can be sent as what changed."""
    return f"{dataset_folder(dataset)}deltas/chunks/{sha256}"


def recipe_key(dataset: str, sha256: str) -> str:
    """How a file that was not sent whole is put together."""
    return f"{dataset_folder(dataset)}deltas/recipes/{sha256}.json"


def pack_key(dataset: str, sha256: str) -> str:
    """The new bytes of a file that was not sent whole."""
    return f"{dataset_folder(dataset)}deltas/packs/{sha256}"


def latest_key(dataset: str) -> str:
    """Which manifest was pushed last."""
    return f"{dataset_folder(dataset)}deltas/latest.json"


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


def checkpoint_folder(key: str) -> str:
    """The checkpoints of a job that is not finished; a lifecycle rule removes what is left of a job."""
    return f"{CHECKPOINTS}{key}/"


def cloud_checkpoints(key: str) -> str:
    """The same as plain files, as SageMaker reads and writes them; the same for every attempt."""
    return f"{checkpoint_folder(key)}sagemaker/"


def cloud_folder(key: str, fencing: int) -> str:
    """What an attempt on SageMaker reads besides its data, and what SageMaker makes of its output."""
    return f"{job_folder(key)}attempts/{fencing}/sagemaker/"


def cost_pk(month: str) -> str:
    """Partition of what the attempts of a month (``2026-11``, UTC, by when each was planned) cost."""
    return f"COST#{month}"


def cost_sk(job_key: str, fencing: int) -> str:
    """Sort key of what an attempt costs."""
    return f"{job_key}#{fencing:08d}"


def ledger_sk(fencing: int) -> str:
    """Sort key, among a job's records, of the month whose partition has what an attempt costs."""
    return f"{LEDGER}{fencing:08d}"


def budget_sk(*, model: str = "", team: str = "") -> str:
    """Sort key of a budget: of a model, of a team, or of all."""
    if model:
        return f"MODEL#{model}"
    return f"TEAM#{team}" if team else ALL


def cloud_job_pk(name: str) -> str:
    """Partition of whose attempt a training job of SageMaker is."""
    return f"SAGEMAKER#{name}"


def checkpoint_blob(key: str, sha256: str) -> str:
    """A file of a job's checkpoints."""
    return f"{checkpoint_folder(key)}blobs/{sha256}"


def checkpoint_manifest(key: str, sha256: str) -> str:
    """A checkpoint's list of files, named by its own digest."""
    return f"{checkpoint_folder(key)}manifests/{sha256}.json"


def bundle_folder(model: str, digest: str) -> str:
    """A bundle's files: ``bundle.zip`` (edge), ``layer.zip`` (Lambda), ``manifest.json``, ``manifest.sig``."""
    return f"{BUNDLES}{model}/{digest}/"


def sliced_key(name: str, digest: str) -> str:
    """The document of a sliced model; its slices' bundles lie under their own names."""
    return f"{BUNDLES}{name}/sliced/{digest}.json"


def job_pk(key: str) -> str:
    """Partition of a job's records: its state and its lease."""
    return f"JOB#{key}"


def dataset_pk(dataset: str) -> str:
    """Partition of a dataset's records: its versions and its policy."""
    return f"DATASET#{dataset}"


def model_pk(model: str) -> str:
    """Partition of a model's records: its release counter and releases."""
    return f"MODEL#{model}"


def sliced_sk(contents: str) -> str:
    """Sort key of the numbers that slices of these contents have (``workflows.number_slices``)."""
    return f"{SLICED}#{contents}"


def release_sk(release: int) -> str:
    """Sort key of a release; padded, so that releases sort by number."""
    return f"RELEASE#{release:08d}"


def handed_in(model: str, name: str) -> str:
    """A request's body that came through the bucket; a lifecycle rule removes it."""
    return f"{HANDOVER}in/{model}/{name}"


def handed_out(model: str, sha256: str) -> str:
    """An answer that leaves through the bucket; a lifecycle rule removes it."""
    return f"{HANDOVER}out/{model}/{sha256}"


def shadow_pk(model: str) -> str:
    """Partition of what came of a model's shadow traffic: one item a comparison."""
    return f"SHADOW#{model}"


def release_alias(release: int) -> str:
    """The qualifier of a model's function under which a release answers once it was in service."""
    return f"{RELEASE_ALIAS}{release}"


def function_name(stack: str, model: str) -> str:
    """The Lambda function of a model."""
    return f"{stack}-model-{model}"


def layer_name(stack: str, model: str) -> str:
    """The Lambda layer of a model; a version per bundle."""
    return f"{stack}-model-{model}"


def waiting_pk(rig: str) -> str:
    """Partition of a rig's waiting list: the work that waits, and each team's last turn."""
    return f"QUEUE#{rig}"


def work_sk(job_key: str, fencing: int) -> str:
    """Sort key of an attempt in a rig's waiting list: however often it is delivered, it waits once."""
    return f"{WORK}{job_key}#{fencing:08d}"


def turn_sk(team: str) -> str:
    """Sort key of a team's last turn on a rig."""
    return f"{TURN}{team}"


def rig_pk(rig: str) -> str:
    """Partition of what a rig says of itself: its agents, and results that came too late, for a person to claim."""
    return f"RIG#{rig}"


def crossings_pk(key: str) -> str:
    """Partition of what left rigs for a job: an item for each minute, and a job may run for a month."""
    return f"{job_pk(key)}#CROSSINGS"


def crossing_sk(since: str, life: str) -> str:
    """Sort key of what left a rig in one minute. ``life``: of the agent's process, so that one that was started again
    adds to what it told before."""
    return f"{since}#{life}"


RESULTS = "RESULTS"
"""Partition of what devices told of their inferences: an item for each outbox that one had."""


def results_sk(device: str, outbox: str) -> str:
    """Sort key of an outbox."""
    return f"{device}#{outbox}"


def results_object(device: str, outbox: str, due: int) -> str:
    """Results of an outbox from the number ``due`` on. Athena and Glue read ``device`` and ``outbox`` from the name."""
    return f"results/device={device}/outbox={outbox}/{due:019d}.jsonl.gz"


def agent_sk(agent: str) -> str:
    """Sort key of what one of a rig's agents says of itself."""
    return f"{AGENT}{agent}"


def orphan_sk(job_key: str, fencing: int) -> str:
    """Sort key of a result that came too late."""
    return f"{ORPHAN}{job_key}#{fencing:08d}"


def queue_name(stack: str, rig: str) -> str:
    """The SQS queue of a rig."""
    return f"{stack}-rig-{rig}"


def certificate_policy(stack: str) -> str:
    """The IoT policy that makes a certificate one of the stack's rigs; its role alias has the same name."""
    return f"{stack}-rig"


def probe_key(device: str) -> str:
    """An object that a device writes and reads to measure its link; it says nothing, and expires."""
    return f"{PROBES}{device}"


def component_name(stack: str, model: str, part: str) -> str:
    """A Greengrass component: ``part`` is ``model`` (the bundle) or ``infer`` (the edge Lambda)."""
    return f"{stack}.{model}.{part}"


def bucket_name(stack: str, account: str, region: str) -> str:
    """The data bucket."""
    return f"{stack}-{account}-{region}"


def log_group(stack: str) -> str:
    """The log group of every function, the models' own among them."""
    return f"/isthmus/{stack}"


MODEL_GROUP_DESCRIPTION = "Every release of every model of this isthmus stack"


def model_group(stack: str) -> str:
    """The model package group."""
    return f"{stack}-models"


def core_policy(stack: str, device: str) -> str:
    """The IoT policy of one core device, for which no variables work. No stack's name has a dot."""
    return f"{stack}.core.{device}"


def core_group(stack: str) -> str:
    """The thing group of the core devices."""
    return f"{stack}-cores"


def canary_group(stack: str) -> str:
    """The thing group of the core devices that get a release first."""
    return f"{stack}-canaries"


def machines(stack: str) -> tuple[str, ...]:
    """The state machines, outer one first."""
    return f"{stack}-train-and-deploy", f"{stack}-deploy-cloud"


def component_of(stack: str, component: str) -> str:
    """Return the model of a component's name, empty when the component is not of this stack.

    A stack's name has no dot, so the first part decides.
    """
    parts = component.split(".")
    mine = len(parts) == 3 and parts[0] == stack and parts[2] in COMPONENT_PARTS
    return parts[1] if mine else ""


def key_descriptions(stack: str) -> dict[str, str]:
    """The description of each KMS key, by its logical name. Keys have no names of their own."""
    return {"DataKey": f"{stack}: data at rest", "SigningKey": f"{stack}: signs bundles"}
