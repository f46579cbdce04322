"""Ship a release to the core devices: the bundle and the edge Lambda, each as a component."""

from __future__ import annotations

import base64
from typing import Any

import msgspec

from isthmus.config import DeployEdgeSettings
from isthmus.errors import Conflict, EdgeDeploymentFailed
from isthmus.model import layout
from isthmus.ports import EdgeComponent, EdgeFleet, EdgeStatus, Functions, Records, Signer
from isthmus.workflows.rollout_lock import acquire, give_back

EDGE = "EDGE"
LOCK_SECONDS = 180
"""Longer than the function that holds the lock may run."""

DONE = frozenset({"SUCCEEDED", "COMPLETED"})
FAILED = frozenset({"FAILED", "TIMED_OUT", "REJECTED", "CANCELED"})


class EdgeDeployment(msgspec.Struct, frozen=True):
    """The deployment's id, and what it installs."""

    deployment: str
    components: list[str]


class EdgeProgress(msgspec.Struct, frozen=True):
    """Core devices that run the release, and those that have not answered yet."""

    done: bool
    succeeded: list[str]
    pending: list[str]


def deploy_edge(
    model: str,
    bundle: str,
    release: int,
    rollout: str,
    *,
    settings: DeployEdgeSettings,
    functions: Functions,
    fleet: EdgeFleet,
    records: Records,
    signer: Signer,
    clock: float,
) -> EdgeDeployment:
    """Create both components of the release and deploy them to the stack's thing group."""
    stack = settings.stack
    version_arn = functions.publish_version(settings.edge_function)
    lambda_version = version_arn.rsplit(":", 1)[1]
    bundle_component = EdgeComponent(layout.component_name(stack, model, "model"), f"{release}.0.0")
    lambda_component = EdgeComponent(
        layout.component_name(stack, model, "infer"), f"{release}.{lambda_version}.0"
    )
    fleet.publish_recipe(model_recipe(bundle_component, model, bundle, settings.bucket))
    root, name, number = settings.edge_root, bundle_component.name, bundle_component.version
    environment = {
        "ISTHMUS_EDGE_PORT": str(_port(model, settings.edge_port, records)),
        # A Lambda component's environment knows no recipe variables: the paths are the nucleus's own
        # layout below its root folder.
        "ISTHMUS_MODEL_ARTIFACT": f"{root}/packages/artifacts/{name}/{number}/bundle.zip",
        # A model that does not prove itself ends the process, so that Greengrass sees BROKEN and rolls back.
        "ISTHMUS_EDGE_ON_REFUSAL": "fail",
        "ISTHMUS_EDGE_STORE": f"{root}/work/{name}/store",
        "ISTHMUS_PUBLIC_KEY": base64.b64encode(signer.public_key()).decode(),
    }
    fleet.import_function(
        lambda_component, version_arn, environment, {bundle_component.name: bundle_component.version}
    )
    components = (bundle_component, lambda_component)
    # A deployment replaces all that its target has: two that merge at once would lose one.
    acquire(EDGE, rollout, records=records, now=clock, seconds=LOCK_SECONDS)
    try:
        deployment = fleet.deploy(settings.edge_target, components, f"{rollout[:48]}-{release}")
    finally:
        give_back(EDGE, rollout, records=records)
    return EdgeDeployment(deployment, [f"{entry.name} {entry.version}" for entry in components])


def check_edge(deployment: str, target: str, *, fleet: EdgeFleet) -> EdgeProgress:
    """Return how far a deployment is.

    Raises:
        EdgeDeploymentFailed: a core device failed; the message holds each one's own cause.
    """
    status = fleet.status(target, deployment)
    failed = [entry for entry in status if entry.state in FAILED]
    if failed:
        raise EdgeDeploymentFailed("; ".join(_said(entry) for entry in failed))
    succeeded = [entry.device for entry in status if entry.state in DONE]
    pending = [entry.device for entry in status if entry.state not in DONE]
    return EdgeProgress(not pending, succeeded, pending)


def model_recipe(component: EdgeComponent, model: str, bundle: str, bucket: str) -> dict[str, Any]:
    """Return the recipe of a model component; it suits the classic nucleus and nucleus lite.

    The artifact is not unpacked by Greengrass, which checks digests but no signature: the edge
    Lambda verifies the bundle's signature first and unpacks it itself, into the store that the
    install script makes.
    """
    uri = f"s3://{bucket}/{layout.bundle_folder(model, bundle)}bundle.zip"
    return {
        "RecipeFormatVersion": "2020-01-25",
        "ComponentName": component.name,
        "ComponentVersion": component.version,
        "ComponentDescription": f"The model {model}, bundle {bundle}",
        "ComponentPublisher": "isthmus",
        "Manifests": [
            {
                "Platform": {"os": "linux", "runtime": "*"},
                "Lifecycle": {"install": "mkdir -p {work:path}/store"},
                "Artifacts": [{"Uri": uri, "Unarchive": "NONE", "Permission": {"Read": "OWNER"}}],
            }
        ],
    }


def _port(model: str, base_port: int, records: Records) -> int:
    """Return the model's loopback port on every core device: given once, kept for ever."""
    item = records.get(layout.model_pk(model), "EDGE")
    if item is not None and item.get("port_number"):
        return base_port + int(item["port_number"]) - 1
    number = records.next_number(EDGE, "PORTS")
    try:
        records.update(layout.model_pk(model), "EDGE", {"port_number": number}, expect={"port_number": None})
    except Conflict:
        return _port(model, base_port, records)
    return base_port + number - 1


def _said(entry: EdgeStatus) -> str:
    return f"{entry.device}: {entry.state}" + (f" ({entry.cause})" if entry.cause else "")
