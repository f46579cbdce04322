"""``collect_versions.Estate``: versions on Lambda and Greengrass, and what refers to them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from isthmus.adapters.aws.errors import passing_trouble
from isthmus.adapters.aws.operator.functions import layer_names, layer_versions, model_functions
from isthmus.adapters.aws.operator.home import Home, call, listed
from isthmus.adapters.aws.session import client
from isthmus.model import layout
from isthmus.planning.collection import ComponentVersion, FunctionVersion, Holdings, LayerVersion
from isthmus.workflows.collect_versions import Storage

LATEST = "$LATEST"
EDGE_FUNCTION = "EdgeInferFunction"
VERSIONED = (EDGE_FUNCTION, "ServeModelFunction")
"""Functions of the template that get versions: one at each edge roll-out, one at each deploy."""


class AwsEstate:
    """Of one stack. Reading is a few calls per function, layer, component and core device."""

    def __init__(self, home: Home) -> None:
        self._home = home

    @passing_trouble("Lambda")
    def models(self) -> set[str]:
        prefix = layout.function_name(self._home.stack, "")
        made = {entry["FunctionName"].removeprefix(prefix) for entry in model_functions(self._home)}
        return made | self._home.models()

    @passing_trouble("AWS")
    def holdings(self, models: Collection[str]) -> Holdings:
        functions = tuple(_functions())
        stack = self._template_functions()
        candidates = {entry["FunctionName"] for entry in model_functions(self._home)} | set(stack.values())
        used = {arn for entry in functions for arn in entry.layers}
        return Holdings(
            functions=functions,
            layers=tuple(self._layers(used)),
            components=tuple(self._components()),
            candidates=frozenset(candidates),
            model_layers=frozenset(layout.layer_name(self._home.stack, model) for model in models),
            own_layers=frozenset(self._resources("AWS::Lambda::LayerVersion").values()),
            named_functions=frozenset(pair for name in candidates for pair in _aliased(name)),
            named_components=frozenset([*_deployed(), *_installed()]),
            edge_function=stack.get(EDGE_FUNCTION, ""),
        )

    @passing_trouble("Lambda")
    def storage(self) -> Storage:
        answer = client("lambda").get_account_settings()
        used = int(answer["AccountUsage"]["TotalCodeSize"])
        return Storage(used, int(answer["AccountLimit"]["TotalCodeSize"]))

    @passing_trouble("Greengrass")
    def remove_component(self, version: ComponentVersion) -> None:
        call("greengrassv2", "delete_component", arn=version.arn)

    @passing_trouble("Lambda")
    def remove_function(self, version: FunctionVersion) -> None:
        # Lambda keeps a version that an alias names.
        for alias in listed("lambda", "list_aliases", "Aliases", FunctionName=version.function):
            if alias["FunctionVersion"] == str(version.number) and _is_release(alias):
                call("lambda", "delete_alias", FunctionName=version.function, Name=alias["Name"])
        call("lambda", "delete_function", FunctionName=version.function, Qualifier=str(version.number))

    @passing_trouble("Lambda")
    def remove_layer(self, version: LayerVersion) -> None:
        call("lambda", "delete_layer_version", LayerName=version.layer, VersionNumber=version.number)

    def _template_functions(self) -> dict[str, str]:
        found = self._resources("AWS::Lambda::Function")
        return {logical: name for logical, name in found.items() if logical in VERSIONED}

    def _resources(self, kind: str) -> dict[str, str]:
        """Return the physical ids of the stack's resources of a type, by logical id."""
        entries = listed(
            "cloudformation", "list_stack_resources", "StackResourceSummaries", StackName=self._home.stack
        )
        return {
            entry["LogicalResourceId"]: entry["PhysicalResourceId"]
            for entry in entries
            if entry["ResourceType"] == kind and entry.get("PhysicalResourceId")
        }

    def _layers(self, used: Collection[str]) -> Iterator[LayerVersion]:
        for name, model in layer_names(self._home).items():
            for entry in layer_versions(self._home, name, model):
                arn = str(entry["LayerVersionArn"])
                # The listing tells no size; who is in use need not tell it.
                yield LayerVersion(name, int(entry["Version"]), arn, 0 if arn in used else _size(arn))

    def _components(self) -> Iterator[ComponentVersion]:
        for entry in listed("greengrassv2", "list_components", "components", scope="PRIVATE"):
            if not layout.component_of(self._home.stack, entry["componentName"]):
                continue
            versions = listed(
                "greengrassv2", "list_component_versions", "componentVersions", arn=entry["arn"]
            )
            for version in versions:
                yield ComponentVersion(
                    entry["componentName"], str(version["componentVersion"]), str(version["arn"])
                )


def _functions() -> Iterator[FunctionVersion]:
    """Yield every version of every function of the region, other people's too: each may use a layer."""
    for entry in listed("lambda", "list_functions", "Functions", FunctionVersion="ALL"):
        number = 0 if entry["Version"] == LATEST else int(entry["Version"])
        layers = tuple(str(layer["Arn"]) for layer in entry.get("Layers", []))
        yield FunctionVersion(entry["FunctionName"], number, layers, int(entry.get("CodeSize", 0)))


def _aliased(function: str) -> Iterator[tuple[str, int]]:
    for alias in listed("lambda", "list_aliases", "Aliases", FunctionName=function):
        if _is_release(alias):
            continue
        weights = alias.get("RoutingConfig", {}).get("AdditionalVersionWeights", {})
        yield from (
            (function, int(version)) for version in (alias["FunctionVersion"], *weights) if version.isdigit()
        )


def _is_release(alias: dict[str, Any]) -> bool:
    return str(alias["Name"]).startswith(layout.RELEASE_ALIAS)


def _deployed() -> Iterator[tuple[str, str]]:
    """Yield the components of every deployment that is in force, or the last of its target."""
    for entry in listed("greengrassv2", "list_deployments", "deployments", historyFilter="ALL"):
        if entry["deploymentStatus"] == "ACTIVE" or entry.get("isLatestForTarget"):
            deployment = call("greengrassv2", "get_deployment", deploymentId=entry["deploymentId"])
            yield from _wished(deployment.get("components", {}))


def _wished(components: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name, wish in components.items():
        yield name, str(wish.get("componentVersion", ""))


def _installed() -> Iterator[tuple[str, str]]:
    for device in listed("greengrassv2", "list_core_devices", "coreDevices"):
        components = listed(
            "greengrassv2",
            "list_installed_components",
            "installedComponents",
            coreDeviceThingName=device["coreDeviceThingName"],
            topologyFilter="ALL",
        )
        for entry in components:
            yield str(entry["componentName"]), str(entry["componentVersion"])


def _size(arn: str) -> int:
    content = call("lambda", "get_layer_version_by_arn", Arn=arn).get("Content", {})
    return int(content.get("CodeSize", 0))
