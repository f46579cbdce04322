"""Deployments and components on AWS IoT Greengrass V2."""

from __future__ import annotations

from collections.abc import Callable

from botocore.exceptions import ClientError

from isthmus.adapters.aws.errors import code_of, passing_trouble
from isthmus.adapters.aws.operator.home import Home, call, listed
from isthmus.model import layout
from isthmus.model.inventory import Thing
from isthmus.ports import Clock

MAX_WAITS, WAIT_SECONDS = 24, 5.0
"""At most ten IoT jobs are being deleted at a time; an eleventh is throttled (API reference,
DeleteDeployment), and takes longer to pass than botocore's own retries last."""


class Deployments:
    """All revisions of the deployments to the stack's thing groups, and sub-deployments of them."""

    kind = "edge deployment"

    def __init__(self, home: Home, clock: Clock) -> None:
        self._home, self._clock = home, clock

    @passing_trouble("Greengrass")
    def find(self) -> list[Thing]:
        stack = self._home.stack
        groups = layout.core_group(stack), layout.canary_group(stack)
        targets = [self._home.arn("iot", f"thinggroup/{group}") for group in groups]
        found = {}
        for choice in ({name: target} for target in targets for name in ("targetArn", "parentTargetArn")):
            entries = listed("greengrassv2", "list_deployments", "deployments", historyFilter="ALL", **choice)
            for entry in entries:
                status = str(entry["deploymentStatus"])
                found[entry["deploymentId"]] = Thing(
                    id=entry["deploymentId"], name=entry["deploymentId"], note=status
                )
        return list(found.values())

    @passing_trouble("Greengrass")
    def remove(self, thing: Thing, report: Callable[[str], None]) -> None:
        """Cancel it if it is active, and delete it. Core devices keep what they have installed."""
        for _ in range(MAX_WAITS):
            try:
                if thing.note == "ACTIVE":
                    self._cancel(thing.id)
                call("greengrassv2", "delete_deployment", deploymentId=thing.id)
                return
            except ClientError as error:
                if code_of(error) != "ThrottlingException":
                    raise
            report("Greengrass deletes ten deployments at a time; waiting")
            self._clock.sleep(WAIT_SECONDS)
        call("greengrassv2", "delete_deployment", deploymentId=thing.id)

    def _cancel(self, deployment: str) -> None:
        try:
            call("greengrassv2", "cancel_deployment", deploymentId=deployment)
        except ClientError as error:
            if code_of(error) != "ConflictException":  # cancelled before
                raise


class Components:
    """Components of the stack's models, each with all its versions."""

    kind = "edge component"

    def __init__(self, home: Home) -> None:
        self._home = home

    @passing_trouble("Greengrass")
    def find(self) -> list[Thing]:
        things = []
        for entry in listed("greengrassv2", "list_components", "components", scope="PRIVATE"):
            if layout.component_of(self._home.stack, entry["componentName"]) and self._owns(entry):
                versions = listed(
                    "greengrassv2", "list_component_versions", "componentVersions", arn=entry["arn"]
                )
                things.append(Thing(id=entry["arn"], name=entry["componentName"], items=len(list(versions))))
        return things

    @passing_trouble("Greengrass")
    def remove(self, thing: Thing, report: Callable[[str], None]) -> None:
        versions = listed("greengrassv2", "list_component_versions", "componentVersions", arn=thing.id)
        for version in list(versions):
            call("greengrassv2", "delete_component", arn=version["arn"])

    def _owns(self, entry: dict[str, dict[str, str]]) -> bool:
        latest = entry["latestVersion"]["arn"]
        tags = call("greengrassv2", "list_tags_for_resource", resourceArn=latest).get("tags", {})
        return self._home.owns(tags, otherwise=True)
