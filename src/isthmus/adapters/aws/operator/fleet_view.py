"""``FleetView`` on AWS IoT Greengrass V2."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ClientError

from isthmus.adapters.aws.errors import code_of, passing_trouble
from isthmus.adapters.aws.session import client
from isthmus.model.core_device import CoreComponent, CoreDeployment, CoreDevice
from isthmus.model.units import utc_of


class GreengrassView:
    """Core devices of two thing groups, by their ARNs."""

    def __init__(self, cores: str, canaries: str) -> None:
        self._targets = cores, canaries

    @passing_trouble("Greengrass")
    def devices(self) -> list[CoreDevice]:
        lister = client("greengrassv2").get_paginator("list_core_devices")
        pages = (page for target in self._targets for page in lister.paginate(thingGroupArn=target))
        found = {
            entry["coreDeviceThingName"]: _device(entry) for page in pages for entry in page["coreDevices"]
        }
        return [found[name] for name in sorted(found)]

    @passing_trouble("Greengrass")
    def device(self, name: str) -> CoreDevice | None:
        greengrass = client("greengrassv2")
        try:
            about = greengrass.get_core_device(coreDeviceThingName=name)
        except ClientError as error:
            if code_of(error) == "ResourceNotFoundException":
                return None
            raise
        installed = greengrass.get_paginator("list_installed_components").paginate(coreDeviceThingName=name)
        deployed = greengrass.get_paginator("list_effective_deployments").paginate(coreDeviceThingName=name)
        return _device(
            about,
            tuple(_component(entry) for page in installed for entry in page["installedComponents"]),
            tuple(_deployment(entry) for page in deployed for entry in page["effectiveDeployments"]),
        )

    @passing_trouble("Greengrass")
    def wanted(self, *, canary: bool) -> dict[str, str]:
        greengrass, target = client("greengrassv2"), self._targets[canary]
        found = greengrass.list_deployments(targetArn=target, historyFilter="LATEST_ONLY")
        for entry in found.get("deployments", []):
            detail = greengrass.get_deployment(deploymentId=entry["deploymentId"])
            asked = detail.get("components", {})
            return {name: str(wish["componentVersion"]) for name, wish in asked.items()}
        return {}


def _device(
    entry: Any, components: tuple[CoreComponent, ...] = (), deployments: tuple[CoreDeployment, ...] = ()
) -> CoreDevice:
    seen = entry.get("lastStatusUpdateTimestamp")
    return CoreDevice(
        name=str(entry["coreDeviceThingName"]),
        status=str(entry.get("status", "")),
        last_seen=utc_of(seen.timestamp()) if seen else "",
        nucleus=str(entry.get("coreVersion", "")),
        architecture=str(entry.get("architecture", "")),
        components=components,
        deployments=deployments,
    )


def _component(entry: Any) -> CoreComponent:
    return CoreComponent(
        name=str(entry["componentName"]),
        version=str(entry["componentVersion"]),
        state=str(entry.get("lifecycleState", "")),
        cause=str(entry.get("lifecycleStateDetails", "")),
    )


def _deployment(entry: Any) -> CoreDeployment:
    changed = entry.get("modifiedTimestamp")
    return CoreDeployment(
        id=str(entry["deploymentId"]),
        state=str(entry["coreDeviceExecutionStatus"]),
        cause=str(entry.get("reason", "")),
        since=utc_of(changed.timestamp()) if changed else "",
    )
