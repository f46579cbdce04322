"""Ship a release to the core devices: the bundle and the edge Lambda, each as a component."""

from __future__ import annotations

import base64
from collections.abc import Collection, Mapping
from typing import Any, Protocol

import msgspec

from isthmus.config import DeployEdgeSettings
from isthmus.errors import Conflict, EdgeDeploymentFailed
from isthmus.model import layout
from isthmus.ports import EdgeComponent, EdgeFleet, EdgeStatus, Functions, Item, Records, Signer
from isthmus.workflows.rollout_lock import acquire, give_back

EDGE = "EDGE"
LOCK_SECONDS = 180
"""Longer than the function that holds the lock may run."""

MAX_CAUSE_CHARACTERS = 8_000
"""Of all devices' causes together: they go into one item of the table and one state."""

DONE = frozenset({"SUCCEEDED", "COMPLETED"})
FAILED = frozenset({"FAILED", "TIMED_OUT", "REJECTED", "CANCELED"})


class RevertibleFleet(EdgeFleet, Protocol):
    """A fleet whose desired state can be read, and rid of components."""

    def await_deployable(self, target: str, components: tuple[EdgeComponent, ...]) -> None:
        """Wait, within one call's time, until the component versions may be deployed.

        Raises:
            EdgeDeploymentFailed: one never will; the message holds its own cause.
            Unavailable: one is still being made; the call may be repeated.
        """

    def deploy(
        self,
        target: str,
        components: tuple[EdgeComponent, ...],
        token: str,
        *,
        without: Collection[str] = (),
    ) -> str:
        """Merge ``components`` into the target's latest deployment, less those that ``without`` names."""

    def latest(self, target: str) -> tuple[str, dict[str, str]]:
        """Return the deployment in force and its components' versions by name; empty before the first."""


class EdgeDeployment(msgspec.Struct, frozen=True):
    """The deployment's id, and what it installs."""

    deployment: str
    components: list[str]


class EdgeProgress(msgspec.Struct, frozen=True):
    """Core devices that run the release, and those that have not answered yet.

    ``again``: the release was taken back before a redrive, and has to be deployed once more.
    """

    done: bool
    succeeded: list[str]
    pending: list[str]
    again: bool = False


def deploy_edge(
    model: str,
    bundle: str,
    release: int,
    rollout: str,
    *,
    settings: DeployEdgeSettings,
    functions: Functions,
    fleet: RevertibleFleet,
    records: Records,
    signer: Signer,
    clock: float,
    redrives: int = 0,
) -> EdgeDeployment:
    """Create both components of the release and deploy them to the stack's thing group.

    ``redrives``: how often the pipeline was redriven; a deployment that was taken back before is made anew.

    Raises:
        EdgeDeploymentFailed: Greengrass could not make a component; nothing is deployed.
        RolloutBusy: another deployment to the same devices is being written.
    """
    version_arn = functions.publish_version(settings.edge_function)
    lambda_version = version_arn.rsplit(":", 1)[1]
    components = _components(settings.stack, model, release, lambda_version)
    bundle_component, lambda_component = components
    fleet.publish_recipe(model_recipe(bundle_component, model, bundle, settings.bucket))
    port = _port(model, settings.edge_port, records)
    environment = _environment(bundle_component, settings.edge_root, port, signer)
    fleet.import_function(
        lambda_component, version_arn, environment, {bundle_component.name: bundle_component.version}
    )
    fleet.await_deployable(settings.edge_target, components)
    # A deployment replaces all that its target has: two that merge at once would lose one.
    acquire(EDGE, rollout, records=records, now=clock, seconds=LOCK_SECONDS)
    try:
        token = f"{rollout[:48]}-{release}-{lambda_version}" + (f"-{redrives}" if redrives else "")
        deployment = _deploy(model, components, rollout, token, settings.edge_target, fleet, records)
    finally:
        give_back(EDGE, rollout, records=records)
    return EdgeDeployment(deployment, [f"{entry.name} {entry.version}" for entry in components])


def _components(
    stack: str, model: str, release: int, lambda_version: str
) -> tuple[EdgeComponent, EdgeComponent]:
    """Return the component of the bundle and that of the edge Lambda."""
    return (
        EdgeComponent(layout.component_name(stack, model, "model"), f"{release}.0.0"),
        EdgeComponent(layout.component_name(stack, model, "infer"), f"{release}.{lambda_version}.0"),
    )


def _environment(bundle: EdgeComponent, root: str, port: int, signer: Signer) -> dict[str, str]:
    """Return the edge Lambda's environment.

    A Lambda component's environment knows no recipe variables: the paths are the nucleus's own layout
    below its root folder.
    """
    return {
        "ISTHMUS_EDGE_PORT": str(port),
        "ISTHMUS_MODEL_ARTIFACT": f"{root}/packages/artifacts/{bundle.name}/{bundle.version}/bundle.zip",
        # A model that does not prove itself ends the process, so that Greengrass sees BROKEN and rolls back.
        "ISTHMUS_EDGE_ON_REFUSAL": "fail",
        "ISTHMUS_EDGE_STORE": f"{root}/work/{bundle.name}/store",
        "ISTHMUS_PUBLIC_KEY": base64.b64encode(signer.public_key()).decode(),
    }


def check_edge(
    deployment: str,
    model: str,
    release: int,
    rollout: str,
    *,
    settings: DeployEdgeSettings,
    fleet: RevertibleFleet,
    records: Records,
    clock: float,
    redrives: int = 0,
) -> EdgeProgress:
    """Return how far a deployment is; take the release back if a core device failed.

    ``redrives``: how often the pipeline was redriven.

    Raises:
        EdgeDeploymentFailed: a core device failed; the message holds each one's own cause.
        RolloutBusy: it has to be taken back, and another deployment is being written.
    """
    item = _recorded(model, records)
    if _is_reverted(item, deployment):
        if redrives > item.get("reverted_in", 0):
            return EdgeProgress(False, [], [], again=True)
        raise EdgeDeploymentFailed(item["cause"])
    status = fleet.status(settings.edge_target, _followed(deployment, item, settings.edge_target, fleet))
    failed = [entry for entry in status if entry.state in FAILED]
    if failed:
        said = "; ".join(_said(entry) for entry in failed)
        cause = f"release {release} of {model}: {said}"[:MAX_CAUSE_CHARACTERS]
        acquire(EDGE, rollout, records=records, now=clock, seconds=LOCK_SECONDS)
        try:
            _revert(model, deployment, cause, redrives, settings.edge_target, fleet, records)
        finally:
            give_back(EDGE, rollout, records=records)
        raise EdgeDeploymentFailed(cause)
    succeeded = [entry.device for entry in status if entry.state in DONE]
    pending = [entry.device for entry in status if entry.state not in DONE]
    return EdgeProgress(not pending, succeeded, pending)


def _deploy(
    model: str,
    components: tuple[EdgeComponent, ...],
    rollout: str,
    token: str,
    target: str,
    fleet: RevertibleFleet,
    records: Records,
) -> str:
    """Deploy, and record what the target had of the model before: called again, it does nothing more."""
    item, current = _recorded(model, records), {entry.name: entry.version for entry in components}
    same = item.get("current") == current
    if same and item.get("rollout") == rollout and item.get("deployment") and not item.get("reverted"):
        return str(item["deployment"])
    # Of versions that were deployed once already, what is on record came before; the target may have
    # the very same by now.
    previous = item["previous"] if same else _versions(fleet.latest(target)[1], current)
    # Before the deployment, so that one whose answer got lost can still be taken back.
    intent = {"rollout": rollout, "current": current, "previous": previous}
    cleared = {"deployment": None, "reverted": None, "cause": None}
    records.update(layout.model_pk(model), EDGE, {**intent, **cleared})
    deployment = fleet.deploy(target, components, token)
    records.update(layout.model_pk(model), EDGE, {"deployment": deployment})
    return deployment


def _revert(
    model: str,
    deployment: str,
    cause: str,
    redrives: int,
    target: str,
    fleet: RevertibleFleet,
    records: Records,
) -> None:
    """Deploy again what the target had of the model before, unless a newer deployment replaced it.

    A device that failed has rolled itself back; but what a target should have is merged into every
    later deployment, of other models too, and each would fail with it.
    """
    item = _recorded(model, records)
    if item.get("deployment") != deployment or item.get("reverted"):
        return
    previous = tuple(EdgeComponent(name, version) for name, version in item["previous"].items())
    reverted = fleet.deploy(target, previous, f"revert-{deployment}", without=frozenset(item["current"]))
    records.update(
        layout.model_pk(model), EDGE, {"reverted": reverted, "cause": cause, "reverted_in": redrives}
    )


def _followed(deployment: str, item: Item, target: str, fleet: RevertibleFleet) -> str:
    """Return the deployment that brings the model's current versions to the devices.

    Greengrass cancels a deployment as soon as another to the same target, say of another model,
    replaces it; the new one has ours merged in.
    """
    if item.get("deployment") != deployment:
        return deployment
    latest, components = fleet.latest(target)
    return latest if _versions(components, item["current"]) == item["current"] else deployment


def _versions(components: Mapping[str, str], names: Collection[str]) -> dict[str, str]:
    return {name: version for name, version in components.items() if name in names}


def _is_reverted(item: Item, deployment: str) -> bool:
    return item.get("deployment") == deployment and bool(item.get("reverted"))


def _recorded(model: str, records: Records) -> Item:
    """Return the model's record of the edge: its port, and its versions there, now and before."""
    return records.get(layout.model_pk(model), EDGE) or {}


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
    item = _recorded(model, records)
    if item.get("port_number"):
        return base_port + int(item["port_number"]) - 1
    number = records.next_number(EDGE, "PORTS")
    try:
        records.update(layout.model_pk(model), EDGE, {"port_number": number}, expect={"port_number": None})
    except Conflict:
        return _port(model, base_port, records)
    return base_port + number - 1


def _said(entry: EdgeStatus) -> str:
    return f"{entry.device}: {entry.state}" + (f" ({entry.cause})" if entry.cause else "")
