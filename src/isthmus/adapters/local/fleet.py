"""``EdgeFleet`` in memory."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from isthmus.errors import EdgeDeploymentFailed, LimitExceeded, Unavailable
from isthmus.ports import EdgeComponent, EdgeStatus

MAX_RECIPE_BYTES = 16_000


class MemoryFleet:
    """Components by name and version, and each target's deployments; the last one is in force."""

    def __init__(self) -> None:
        self.components: dict[tuple[str, str], dict[str, Any]] = {}
        self.refused: dict[tuple[str, str], str] = {}
        """Name and version to why that component never becomes deployable."""
        self.deployments: dict[str, dict[str, dict[str, str]]] = {}
        """Target to deployment id to component name to version."""
        self.statuses: dict[str, list[EdgeStatus]] = {}
        """Deployment id to what the core devices say of it."""
        self.cores: dict[str, dict[str, str]] = {}
        """Target to core device to the health that it reported."""
        self._tokens: dict[tuple[str, str], str] = {}

    def publish_recipe(self, recipe: Mapping[str, Any]) -> None:
        size = len(json.dumps(recipe, separators=(",", ":")).encode())
        if size > MAX_RECIPE_BYTES:
            raise LimitExceeded(f"the recipe has {size} bytes; Greengrass takes at most {MAX_RECIPE_BYTES}")
        self.components.setdefault((recipe["ComponentName"], recipe["ComponentVersion"]), dict(recipe))

    def import_function(
        self,
        component: EdgeComponent,
        version_arn: str,
        environment: Mapping[str, str],
        dependencies: Mapping[str, str],
    ) -> None:
        content = {
            "lambdaArn": version_arn,
            "environment": dict(environment),
            "dependencies": dict(dependencies),
        }
        self.components.setdefault((component.name, component.version), content)

    def await_deployable(self, target: str, components: tuple[EdgeComponent, ...]) -> None:
        for entry in components:
            key = (entry.name, entry.version)
            if key not in self.components:
                raise Unavailable(f"the component {entry.name} {entry.version} is not there")
            if key in self.refused:
                raise EdgeDeploymentFailed(
                    f"the component {entry.name} {entry.version} is FAILED: {self.refused[key]}"
                )

    def deploy(
        self,
        target: str,
        components: tuple[EdgeComponent, ...],
        token: str,
        *,
        without: Collection[str] = (),
    ) -> str:
        if (target, token) in self._tokens:
            return self._tokens[target, token]
        _, there = self.latest(target)
        merged = {name: version for name, version in there.items() if name not in without}
        merged.update({entry.name: entry.version for entry in components})
        deployment = f"deployment-{len(self._tokens) + 1}"
        self.deployments.setdefault(target, {})[deployment] = merged
        self._tokens[target, token] = deployment
        return deployment

    def latest(self, target: str) -> tuple[str, dict[str, str]]:
        history = self.deployments.get(target)
        if not history:
            return "", {}
        deployment, components = list(history.items())[-1]
        return deployment, dict(components)

    def status(self, target: str, deployment: str) -> list[EdgeStatus]:
        return list(self.statuses.get(deployment, []))

    def devices(self, target: str) -> dict[str, str]:
        return dict(self.cores.get(target, {}))
