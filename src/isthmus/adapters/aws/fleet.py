"""``EdgeFleet`` on AWS IoT Greengrass V2."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from botocore.exceptions import ClientError

from isthmus import documents
from isthmus.adapters.aws.errors import code_of, passing_trouble
from isthmus.adapters.aws.session import client
from isthmus.adapters.system import SystemClock
from isthmus.errors import EdgeDeploymentFailed, LimitExceeded, Unavailable
from isthmus.model.layout import STACK_TAG
from isthmus.ports import Clock, EdgeComponent, EdgeStatus

MAX_RECIPE_BYTES = 16_000
DEPLOYABLE_SECONDS = 20.0
"""How long one call waits for components; the state machine repeats the call that gave up."""
POLL_SECONDS = 0.5
NEVER_DEPLOYABLE = frozenset({"FAILED", "DEPRECATED"})


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

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()

    @passing_trouble("Greengrass")
    def publish_recipe(self, recipe: Mapping[str, Any]) -> None:
        raw = json.dumps(recipe, separators=(",", ":")).encode()
        if len(raw) > MAX_RECIPE_BYTES:
            raise LimitExceeded(
                f"the recipe has {len(raw)} bytes; Greengrass takes at most {MAX_RECIPE_BYTES}"
            )
        with _once():
            client("greengrassv2").create_component_version(
                inlineRecipe=raw, tags=_tags(recipe["ComponentName"])
            )

    @passing_trouble("Greengrass")
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
                },
                tags=_tags(component.name),
            )

    def await_deployable(self, target: str, components: tuple[EdgeComponent, ...]) -> None:
        deadline = self._clock.now() + DEPLOYABLE_SECONDS
        for component in components:
            while (state := self._component_state(target, component)) != "DEPLOYABLE":
                if self._clock.now() >= deadline:
                    raise Unavailable(
                        f"the component {component.name} {component.version} is {state or 'not there'} "
                        f"after {DEPLOYABLE_SECONDS:.0f} s; it must be DEPLOYABLE before it is deployed"
                    )
                self._clock.sleep(POLL_SECONDS)

    @passing_trouble("Greengrass")
    def deploy(
        self,
        target: str,
        components: tuple[EdgeComponent, ...],
        token: str,
        *,
        without: Collection[str] = (),
    ) -> str:
        # CreateDeployment replaces all that the target has: read, merge, write.
        _, there = self._latest(target)
        merged = {name: wish for name, wish in there.items() if name not in without}
        merged.update({entry.name: {"componentVersion": entry.version} for entry in components})
        # A client token is the account's, not the target's, and good for one request only: another stack
        # may ship the same release, and another model's deployment may lie between two tries of ours.
        unique = documents.digest([target, token, merged])
        answer = client("greengrassv2").create_deployment(
            targetArn=target,
            deploymentName="isthmus",
            components=merged,
            deploymentPolicies={
                "failureHandlingPolicy": "ROLLBACK",
                "componentUpdatePolicy": {"action": "NOTIFY_COMPONENTS", "timeoutInSeconds": 60},
            },
            clientToken=unique,
        )
        return str(answer["deploymentId"])

    @passing_trouble("Greengrass")
    def latest(self, target: str) -> tuple[str, dict[str, str]]:
        deployment, components = self._latest(target)
        return deployment, {name: str(wish["componentVersion"]) for name, wish in components.items()}

    @passing_trouble("Greengrass")
    def devices(self, target: str) -> dict[str, str]:
        pages = client("greengrassv2").get_paginator("list_core_devices").paginate(thingGroupArn=target)
        cores = (entry for page in pages for entry in page["coreDevices"])
        return {str(entry["coreDeviceThingName"]): str(entry["status"]) for entry in cores}

    @passing_trouble("Greengrass")
    def status(self, target: str, deployment: str) -> list[EdgeStatus]:
        return [self._device_status(device, deployment) for device in self.devices(target)]

    @passing_trouble("Greengrass")
    def _component_state(self, target: str, component: EdgeComponent) -> str:
        """Return the state of a component version, empty while Greengrass does not show it.

        Raises:
            EdgeDeploymentFailed: it will never be deployable; the message holds Greengrass's own.
        """
        try:
            answer = client("greengrassv2").describe_component(arn=component_arn(target, component))
        except ClientError as error:
            if code_of(error) == "ResourceNotFoundException":
                return ""
            raise
        status = answer["status"]
        state = str(status["componentState"])
        if state in NEVER_DEPLOYABLE:
            details = "; ".join(f"{what}: {why}" for what, why in status.get("errors", {}).items())
            raise EdgeDeploymentFailed(
                f"the component {component.name} {component.version} is {state}: "
                f"{status.get('message', '')}" + (f" ({details})" if details else "")
            )
        return state

    def _latest(self, target: str) -> tuple[str, dict[str, Any]]:
        answer = client("greengrassv2").list_deployments(targetArn=target, historyFilter="LATEST_ONLY")
        for entry in answer.get("deployments", []):
            detail = client("greengrassv2").get_deployment(deploymentId=entry["deploymentId"])
            return str(entry["deploymentId"]), dict(detail.get("components", {}))
        return "", {}

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


def _tags(component: str) -> dict[str, str]:
    # A component's name begins with its stack's, which has no dot.
    return {STACK_TAG: component.partition(".")[0]}


def component_arn(target: str, component: EdgeComponent) -> str:
    """Return a component version's ARN, in the partition, region and account of the target.

    Greengrass tells it only to who creates the version: whoever finds it existing would have to list
    all components for it, while a deployment's target lies in the same account by necessity. Form:
    Service Authorization Reference, "Resource types defined by AWS IoT Greengrass V2".
    """
    _, partition, _, region, account, _ = target.split(":", 5)
    name, version = component.name, component.version
    return f"arn:{partition}:greengrass:{region}:{account}:components:{name}:versions:{version}"
