"""Deployments and core devices, as the control plane shows them."""

import re
import uuid
from typing import Any

from localemu.aws.api import RequestContext
from localemu.aws.connect import connect_to

from .store import LOCK, Core, Deployment, Document, Region, conflict, here, invalid, not_found

TARGET = re.compile(r"arn:aws[^:]*:iot:[^:]+:\d{12}:(thing|thinggroup)/(.+)")
ENDED_ON_DEVICE = ("COMPLETED", "SUCCEEDED", "FAILED", "REJECTED", "CANCELED", "TIMED_OUT")


def iot(context: RequestContext) -> Any:
    return connect_to(aws_access_key_id=context.account_id, region_name=context.region).iot


def check_target(context: RequestContext, arn: str) -> None:
    """Raises ValidationException for another kind of ARN, ResourceNotFoundException for an unknown target."""
    match = TARGET.fullmatch(arn)
    if not match:
        raise invalid(f"The target {arn} is neither an IoT thing nor an IoT thing group.")
    client = iot(context)
    kind, name = match.groups()
    try:
        if kind == "thing":
            client.describe_thing(thingName=name)
        else:
            client.describe_thing_group(thingGroupName=name)
    except client.exceptions.ResourceNotFoundException as error:
        raise not_found("target", arn) from error


def check_components(region: Region, components: Document) -> None:
    """AWS's own components are taken on trust; ours have to exist and to be deployable.

    What AWS answers for a version that is not DEPLOYABLE yet is documented nowhere. Of the errors that
    the API reference lists for CreateDeployment, ValidationException is the one that no client repeats
    by itself: who deploys without waiting finds out here, not on the device.
    """
    known = {(c.name, c.version): c for c in region.components.values()}
    for name, wish in components.items():
        version = wish.get("componentVersion")
        if not version:
            raise invalid(f"The component {name} needs a componentVersion.")
        if name.startswith("aws.greengrass."):
            continue
        if (name, version) not in known:
            raise not_found("component version", f"{name}:{version}")
        state = known[name, version].state
        if state != "DEPLOYABLE":
            raise invalid(f"The component {name} version {version} is {state}, not DEPLOYABLE.")


def create_deployment(context: RequestContext, request: Document) -> Document:
    """Replaces whatever the target had before; the same clientToken gives the same answer again."""
    region, target = here(context), request["targetArn"]
    token = request.get("clientToken")
    with LOCK:
        if token and token in region.tokens:
            known = region.tokens[token]
            if known["request"] != dict(request):
                raise conflict("The clientToken was used with other parameters.")
            return dict(known["answer"])
    check_target(context, target)
    check_components(region, request.get("components", {}))
    with LOCK:
        earlier = list(region.for_target(target))
        for deployment in earlier:
            deployment.latest = False
            if deployment.status == "ACTIVE":
                deployment.status = "INACTIVE"
        new = Deployment(str(uuid.uuid4()), target, dict(request), revision=len(earlier) + 1)
        region.deployments[new.id] = new
        answer = {"deploymentId": new.id, "iotJobId": new.id, "iotJobArn": job_arn(context, new)}
        if token:
            region.tokens[token] = {"request": dict(request), "answer": answer}
    return answer


def job_arn(context: RequestContext, deployment: Deployment) -> str:
    return f"arn:aws:iot:{context.region}:{context.account_id}:job/{deployment.id}"


def find(context: RequestContext, identity: str) -> Deployment:
    deployment = here(context).deployments.get(identity)
    if deployment is None:
        raise not_found("deployment", identity)
    return deployment


def shown(context: RequestContext, deployment: Deployment) -> Document:
    request = deployment.request
    copied = (
        "deploymentName",
        "components",
        "deploymentPolicies",
        "iotJobConfiguration",
        "parentTargetArn",
        "tags",
    )
    return {
        "targetArn": deployment.target,
        "revisionId": str(deployment.revision),
        "deploymentId": deployment.id,
        "deploymentStatus": deployment.status,
        "iotJobId": deployment.id,
        "iotJobArn": job_arn(context, deployment),
        "creationTimestamp": deployment.created,
        "isLatestForTarget": deployment.latest,
        **{name: request[name] for name in copied if name in request},
    }


def get_deployment(context: RequestContext, request: Document) -> Document:
    return shown(context, find(context, request["deploymentId"]))


def list_deployments(context: RequestContext, request: Document) -> Document:
    """LATEST_ONLY unless asked for ALL, newest first."""
    found = list(here(context).deployments.values())
    if target := request.get("targetArn"):
        found = [d for d in found if d.target == target]
    if parent := request.get("parentTargetArn"):
        found = [d for d in found if d.request.get("parentTargetArn") == parent]
    if request.get("historyFilter") != "ALL":
        found = [d for d in found if d.latest]
    names = (
        "targetArn",
        "revisionId",
        "deploymentId",
        "deploymentName",
        "creationTimestamp",
        "deploymentStatus",
        "isLatestForTarget",
        "parentTargetArn",
    )
    found.sort(key=lambda d: d.created, reverse=True)
    full = [shown(context, deployment) for deployment in found]
    return {"deployments": [{name: entry[name] for name in names if name in entry} for entry in full]}


def cancel_deployment(context: RequestContext, request: Document) -> Document:
    deployment = find(context, request["deploymentId"])
    with LOCK:
        if deployment.status not in ("ACTIVE", "INACTIVE"):
            raise conflict(f"The deployment is {deployment.status} and cannot be canceled.")
        deployment.status = "CANCELED"
    return {"message": f"Deployment {deployment.id} was canceled."}


def delete_deployment(context: RequestContext, request: Document) -> Document:
    """AWS deletes a deployment only when it is no longer active."""
    deployment = find(context, request["deploymentId"])
    with LOCK:
        if deployment.status == "ACTIVE":
            raise conflict("An active deployment must be canceled before it is deleted.")
        del here(context).deployments[deployment.id]
    return {}


def find_core(context: RequestContext, name: str) -> Core:
    core = here(context).cores.get(name)
    if core is None:
        raise not_found("core device", name)
    return core


def get_core_device(context: RequestContext, request: Document) -> Document:
    core = find_core(context, request["coreDeviceThingName"])
    return {
        "coreDeviceThingName": core.name,
        "coreVersion": "2.14.0",
        "platform": "linux",
        "architecture": "amd64",
        "runtime": "aws_nucleus_classic",
        "status": core.status,
        "lastStatusUpdateTimestamp": core.reported,
        "tags": {},
    }


def list_core_devices(context: RequestContext, request: Document) -> Document:
    cores = list(here(context).cores.values())
    if group := request.get("thingGroupArn"):
        listed = iot(context).list_things_in_thing_group(thingGroupName=group.rpartition("/")[2])
        cores = [core for core in cores if core.name in listed["things"]]
    wanted = request.get("status")
    entries = [
        {
            "coreDeviceThingName": c.name,
            "status": c.status,
            "lastStatusUpdateTimestamp": c.reported,
            "platform": "linux",
            "architecture": "amd64",
            "runtime": "aws_nucleus_classic",
        }
        for c in cores
        if wanted in (None, c.status)
    ]
    return {"coreDevices": entries}


def delete_core_device(context: RequestContext, request: Document) -> Document:
    find_core(context, request["coreDeviceThingName"])
    here(context).cores.pop(request["coreDeviceThingName"], None)
    return {}


def list_effective_deployments(context: RequestContext, request: Document) -> Document:
    core = find_core(context, request["coreDeviceThingName"])
    region = here(context)
    entries = []
    for identity, report in core.effective.items():
        deployment = region.deployments.get(identity)
        if deployment is None:
            continue
        entry = {
            "deploymentId": identity,
            "deploymentName": deployment.request.get("deploymentName", ""),
            "iotJobId": identity,
            "iotJobArn": job_arn(context, deployment),
            "targetArn": deployment.target,
            "coreDeviceExecutionStatus": report["status"],
            "reason": report.get("reason", ""),
            "creationTimestamp": deployment.created,
            "modifiedTimestamp": report["modified"],
        }
        if report.get("error_stack"):
            entry["statusDetails"] = {
                "errorStack": report["error_stack"],
                "errorTypes": report.get("error_types", []),
            }
        entries.append(entry)
    return {"effectiveDeployments": entries}


def list_installed_components(context: RequestContext, request: Document) -> Document:
    """Root components only, unless topologyFilter is ALL: as the API reference says."""
    core = find_core(context, request["coreDeviceThingName"])
    everything = request.get("topologyFilter") == "ALL"
    return {"installedComponents": [entry for entry in core.installed if everything or entry["isRoot"]]}
