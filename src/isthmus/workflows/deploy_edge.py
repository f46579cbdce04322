"""Ship a release to the core devices: the bundle and the edge Lambda, each as a component.

Canaries, a group of their own, come first, if there are any. They have to have it, and be healthy for a while; then
come all others. A release that fails is taken back from both.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import msgspec

from isthmus.config import DeployEdgeSettings
from isthmus.errors import EdgeDeploymentFailed, Refused
from isthmus.model import layout
from isthmus.ports import EdgeComponent, EdgeStatus, Functions, Records, Signer
from isthmus.workflows.edge_canaries import are_due, bake, drifted, named
from isthmus.workflows.edge_component import environment_of, number_for, port_of, renew_before
from isthmus.workflows.edge_target import EdgeTarget, Renew, RevertibleFleet
from isthmus.workflows.rollout_lock import acquire, give_back

EDGE, CANARY = "EDGE", "EDGE#CANARY"
"""The sort keys of a model's records of the stack's core devices, and of the canaries among them."""
LOCK_SECONDS = 180
"""Longer than the function that holds the lock may run."""

MAX_CAUSE_CHARACTERS = 8_000
"""Of all devices' causes together: they go into one item of the table and one state."""

DONE = frozenset({"SUCCEEDED", "COMPLETED"})
FAILED = frozenset({"FAILED", "TIMED_OUT", "REJECTED", "CANCELED"})


class EdgeDeployment(msgspec.Struct, frozen=True):
    """The deployment's id, and what it installs."""

    deployment: str
    components: list[str]


class EdgeProgress(msgspec.Struct, frozen=True):
    """Core devices that run the release, and those that have not answered yet.

    ``again``: it has to be deployed once more: to all, now that the canaries have it, or because it was taken back
    before a redrive.
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
    """Create both components of the release and deploy them to the canaries, or, when these have passed, to the others.

    ``redrives``: how often the pipeline was redriven; a deployment that was taken back before is made anew.

    Raises:
        EdgeDeploymentFailed: Greengrass could not make a component; nothing is deployed.
        RolloutBusy: another deployment to the same devices is being written.
    """
    version_arn = functions.publish_version(settings.edge_function)
    lambda_version = version_arn.rsplit(":", 1)[1]
    bundle_component = EdgeComponent(layout.component_name(settings.stack, model, "model"), f"{release}.0.0")
    fleet.publish_recipe(model_recipe(bundle_component, model, bundle, settings.bucket))
    port = port_of(model, settings.edge_port, records)
    environment = environment_of(bundle_component, settings.edge_root, port, signer, records)
    run = f"{named(rollout, release)} {redrives}"
    number, paper = number_for(model, release, run, bundle_component, records, signer)
    lambda_component = EdgeComponent(
        layout.component_name(settings.stack, model, "infer"), f"{number}.{lambda_version}.0"
    )
    fleet.import_function(
        lambda_component,
        version_arn,
        environment | paper,
        {bundle_component.name: bundle_component.version},
    )
    components = (bundle_component, lambda_component)
    everyone, canaries = _targets(model, settings, fleet, records)
    target = canaries if are_due(canaries, named(rollout, release), fleet) else everyone
    fleet.await_deployable(target.target, components)
    # A deployment replaces all that its target has: two that merge at once would lose one.
    acquire(EDGE, rollout, records=records, now=clock, seconds=LOCK_SECONDS)
    try:
        token = f"{rollout[:48]}-{release}-{lambda_version}" + (f"-{redrives}" if redrives else "")
        deployment = target.deploy(components, rollout, token, clock, redrives)
        target.note(function=version_arn)
    finally:
        give_back(EDGE, rollout, records=records)
    return EdgeDeployment(deployment, [f"{entry.name} {entry.version}" for entry in components])


def check_edge(
    deployment: str,
    model: str,
    release: int,
    rollout: str,
    *,
    settings: DeployEdgeSettings,
    fleet: RevertibleFleet,
    records: Records,
    signer: Signer,
    clock: float,
    redrives: int = 0,
) -> EdgeProgress:
    """Return how far a deployment is; take the release back if a core device failed.

    ``redrives``: how often the pipeline was redriven.

    Raises:
        EdgeDeploymentFailed: a core device failed; the message holds each one's own cause.
        RolloutBusy: it has to be taken back, and another deployment is being written.
    """
    everyone, canaries = _targets(model, settings, fleet, records)
    target = canaries if canaries.holds(deployment) else everyone
    if not target.holds(deployment):
        raise EdgeDeploymentFailed(
            f"release {release} of {model} was replaced on its way by a newer deployment of the model"
        )
    if target.is_reverted(deployment):
        if redrives > int(target.item.get("reverted_in") or 0):
            return EdgeProgress(False, [], [], again=True)
        raise EdgeDeploymentFailed(target.item["cause"])
    status = fleet.status(target.target, target.followed(deployment))
    failed = [_said(entry) for entry in status if entry.state in FAILED]
    succeeded = [entry.device for entry in status if entry.state in DONE]
    pending = [entry.device for entry in status if entry.state not in DONE]
    ready = not pending
    if target is canaries and not failed:
        answers = drifted(model, release, succeeded, canaries.item["since"], records)
        ready, failed = bake(canaries, succeeded, pending, answers, settings.edge_bake_seconds, fleet, clock)
    if failed:
        whose = "canaries: " if target is canaries else ""
        cause = f"release {release} of {model}: {whose}{'; '.join(failed)}"[:MAX_CAUSE_CHARACTERS]
        acquire(EDGE, rollout, records=records, now=clock, seconds=LOCK_SECONDS)
        try:
            renew = partial(
                renew_before, model, settings=settings, fleet=fleet, records=records, signer=signer
            )
            _take_back(target, canaries, deployment, cause, named(rollout, release), redrives, renew)
        finally:
            give_back(EDGE, rollout, records=records)
        raise EdgeDeploymentFailed(cause)
    if target is canaries and ready:
        # One that was taken back meanwhile is looked at once more.
        passed = canaries.has_passed(deployment, named(rollout, release))
        return EdgeProgress(False, succeeded, pending, again=passed)
    return EdgeProgress(ready, succeeded, pending)


def take_back(
    model: str,
    reason: str,
    *,
    settings: DeployEdgeSettings,
    fleet: RevertibleFleet,
    records: Records,
    signer: Signer,
    clock: float,
) -> EdgeDeployment:
    """Take a model's latest release from the devices that have it because somebody says so; return what brings back the
    one before. Devices that have an earlier one keep it.

    Raises:
        Refused: there is none before it, or it was taken back already.
        RolloutBusy: another deployment to the same devices is being written.
    """
    holder, cause = f"take-back-{model}", f"taken back by hand: {reason}"[:MAX_CAUSE_CHARACTERS]
    acquire(EDGE, holder, records=records, now=clock, seconds=LOCK_SECONDS)
    try:
        targets = _targets(model, settings, fleet, records)
        newest = max(target.release for target in targets)
        made = []
        for target in reversed(targets):  # canaries first, as in ``_take_back``
            item = target.item
            if not newest or target.release != newest or not item.get("previous"):
                continue
            renew = partial(
                renew_before, model, settings=settings, fleet=fleet, records=records, signer=signer
            )
            target.revert(str(item["deployment"]), cause, int(item.get("redrives") or 0), renew)
            made.append((str(target.item["reverted"]), target))
    finally:
        give_back(EDGE, holder, records=records)
    if not made:
        raise Refused(
            f"no core device has a release of {model} that another one came before, or it was taken back already"
        )
    deployment, target = made[-1]  # that to most devices
    now = fleet.latest(target.target)[1]
    mine = sorted(f"{name} {version}" for name, version in now.items() if name in target.item["current"])
    return EdgeDeployment(deployment, mine)


def _targets(
    model: str, settings: DeployEdgeSettings, fleet: RevertibleFleet, records: Records
) -> tuple[EdgeTarget, EdgeTarget]:
    return (
        EdgeTarget(EDGE, settings.edge_target, model, fleet, records),
        EdgeTarget(CANARY, settings.edge_canaries, model, fleet, records),
    )


def _take_back(
    target: EdgeTarget,
    canaries: EdgeTarget,
    deployment: str,
    cause: str,
    name: str,
    redrives: int,
    renew: Renew,
) -> None:
    # What the others cannot have, the canaries do not keep. They come first: where this breaks off, the others' record
    # still says that there is something to take back.
    if target is not canaries and canaries.item.get("passed") == name:
        canaries.revert(str(canaries.item["deployment"]), cause, redrives, renew)
    target.revert(deployment, cause, redrives, renew)


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


def _said(entry: EdgeStatus) -> str:
    return f"{entry.device}: {entry.state}" + (f" ({entry.cause})" if entry.cause else "")
