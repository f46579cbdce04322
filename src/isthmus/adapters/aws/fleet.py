"""``EdgeFleet`` on AWS IoT Greengrass V2."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from botocore.exceptions import ClientError

from isthmus.adapters.aws.errors import code_of
from isthmus.adapters.aws.session import client
from isthmus.errors import LimitExceeded
from isthmus.ports import EdgeComponent, EdgeStatus

MAX_RECIPE_BYTES = 16_000


@contextlib.contextmanager
def _once() -> Iterator[None]:
    """A component version is immutable and its content follows from its number: existing is done."""
    try:
        yield
    except ClientError as error:
        if code_of(error) != "ConflictException":
            raise


class GreengrassFleet:
    """Components of one region, deployments to one thing group."""

    def publish_recipe(self, recipe: Mapping[str, Any]) -> None:
        raw = json.dumps(recipe, separators=(",", ":")).encode()
        if len(raw) > MAX_RECIPE_BYTES:
            raise LimitExceeded(
                f"the recipe has {len(raw)} bytes; Greengrass takes at most {MAX_RECIPE_BYTES}"
            )
        with _once():
            client("greengrassv2").create_component_version(inlineRecipe=raw)

    def import_function(
        self,
        component: EdgeComponent,
        version_arn: str,
        environment: Mapping[str, str],
        dependencies: Mapping[str, str],
    ) -> None:
        parameters = {
            "pinned": True,
            "maxInstancesCount": 1,
            "timeoutInSeconds": 60,
            "inputPayloadEncodingType": "json",
            "environmentVariables": dict(environment),
            # Containers fail on cgroup v2 hosts (nucleus issues 1508, 889, 1262).
            "linuxProcessParams": {"isolationMode": "NoContainer"},
        }
        requirements = {
            name: {"versionRequirement": version, "dependencyType": "HARD"}
            for name, version in dependencies.items()
        }
        with _once():
            client("greengrassv2").create_component_version(
                lambdaFunction={
                    "lambdaArn": version_arn,
                    "componentName": component.name,
                    "componentVersion": component.version,
                    "componentDependencies": requirements,
                    "componentLambdaParameters": parameters,
                }
            )

    def deploy(self, target: str, components: tuple[EdgeComponent, ...], token: str) -> str:
        # CreateDeployment replaces all that the target has: read, merge, write.
        merged = self._latest_components(target)
        merged.update({entry.name: {"componentVersion": entry.version} for entry in components})
        answer = client("greengrassv2").create_deployment(
            targetArn=target,
            deploymentName="isthmus",
            components=merged,
            deploymentPolicies={
                "failureHandlingPolicy": "ROLLBACK",
                "componentUpdatePolicy": {"action": "NOTIFY_COMPONENTS", "timeoutInSeconds": 60},
            },
            clientToken=token,
        )
        return str(answer["deploymentId"])

    def status(self, target: str, deployment: str) -> list[EdgeStatus]:
        found = []
        pages = client("greengrassv2").get_paginator("list_core_devices").paginate(thingGroupArn=target)
        for device in (entry for page in pages for entry in page["coreDevices"]):
            found.append(self._device_status(device["coreDeviceThingName"], deployment))
        return found

    def _latest_components(self, target: str) -> dict[str, Any]:
        answer = client("greengrassv2").list_deployments(targetArn=target, historyFilter="LATEST_ONLY")
        for entry in answer.get("deployments", []):
            detail = client("greengrassv2").get_deployment(deploymentId=entry["deploymentId"])
            return dict(detail.get("components", {}))
        return {}

    def _device_status(self, device: str, deployment: str) -> EdgeStatus:
        pages = (
            client("greengrassv2")
            .get_paginator("list_effective_deployments")
            .paginate(coreDeviceThingName=device)
        )
        for entry in (entry for page in pages for entry in page["effectiveDeployments"]):
            if entry["deploymentId"] == deployment:
                return EdgeStatus(device, entry["coreDeviceExecutionStatus"], entry.get("reason", ""))
        return EdgeStatus(device, "QUEUED")
