"""Keeps a device's components as the plan says."""

import json
import logging
import threading
from typing import Any

from ..errors import PreflightError
from ..state import StateFolder, read_json, write_json
from .generic import GenericComponent, ScriptFailed
from .lambda_component import LambdaComponent
from .resolver import Item
from .variables import Device, UnknownVariable, interpolate

LOG = logging.getLogger(__name__)
Component = GenericComponent | LambdaComponent
FAILED_STATES = ("BROKEN", "ERRORED")
NUCLEUS = "aws.greengrass.Nucleus"


class NotStarted(Exception):
    """A component of the plan did not come up; the text carries its reason."""


class Manager:
    """The plan in force and its components. Changes come from one thread, questions from any."""

    def __init__(self, device: Device, state: StateFolder) -> None:
        self._device, self._state = device, state
        self.plan: dict[str, Item] = {}
        self.components: dict[str, Component] = {}
        self.deployments: list[str] = []
        self._lock = threading.Lock()

    def restore(self) -> None:
        """Start what was installed before this start of the device; the cloud is not asked."""
        saved = read_json(self._device.folder.plan_file)
        if not saved:
            return
        self.deployments = saved["deployments"]
        items = [Item(**entry) for entry in saved["items"]]
        self.plan = {item.name: item for item in items}
        for item in items:
            component = self._make(item)
            component.state = "INSTALLED"
            self.components = {**self.components, item.name: component}
            self._start(component)

    def apply(self, items: list[Item], deployments: list[str]) -> None:
        """Move to a new plan, dependencies first. Raises NotStarted; the caller may then apply the old
        one."""
        new = {item.name: item for item in items}
        kept = self._unchanged(items)
        for name in reversed(list(self.components)):
            if name not in kept:
                self.components[name].stop()
        self.plan = new
        self.components = {name: component for name, component in self.components.items() if name in kept}
        for item in items:
            if item.name in kept:
                continue
            self._bring_up(item)
        self.deployments = deployments
        saved = {"deployments": deployments, "items": [item.as_json() for item in items]}
        write_json(self._device.folder.plan_file, saved)

    def _unchanged(self, items: list[Item]) -> set[str]:
        """Components that keep running: same version and configuration, and so are their hard
        dependencies."""
        kept: set[str] = set()
        for item in items:  # dependencies come first
            same = item.name in self.components and self.plan.get(item.name) == item
            healthy = same and self.components[item.name].state not in FAILED_STATES
            hard = [name for name, kind in item.depends.items() if kind == "HARD"]
            if healthy and all(name in kept for name in hard):
                kept.add(item.name)
        return kept

    def _bring_up(self, item: Item) -> None:
        try:
            component = self._make(item)
            self.components = {**self.components, item.name: component}
            component.install()
        except (ScriptFailed, UnknownVariable, PreflightError) as error:
            raise NotStarted(str(error)) from error
        self._start(component)
        while component.state == "ERRORED":
            component.check()
        if component.state in FAILED_STATES:
            raise NotStarted(component.reason)

    def _start(self, component: Component) -> None:
        try:
            component.start()
        except UnknownVariable as error:
            component.state, component.reason = "BROKEN", str(error)

    def _make(self, item: Item) -> Component:
        if item.function is None:
            return GenericComponent(item, self.plan, self._device)
        variables = item.configuration.get("lambdaExecutionParameters", {}).get("EnvironmentVariables", {})
        if self._interpolates():
            variables = {k: interpolate(str(v), item, self.plan, self._device) for k, v in variables.items()}
        return LambdaComponent(item, self._device, self._state, {k: str(v) for k, v in variables.items()})

    def _interpolates(self) -> bool:
        """Off unless the deployment configures the nucleus so, as on a real device (nucleus 2.6 and
        later)."""
        saved = read_json(self._device.folder.root / "config/nucleus.json") or {}
        return bool(saved.get("interpolateComponentConfiguration", False))

    def note_nucleus(self, deployments: list[dict[str, Any]]) -> None:
        """Keep what the deployments configure for aws.greengrass.Nucleus."""
        found: dict[str, Any] = {}
        for deployment in deployments:
            merge = deployment["components"].get(NUCLEUS, {}).get("configurationUpdate", {}).get("merge")
            found |= json.loads(merge) if merge else {}
        write_json(self._device.folder.root / "config/nucleus.json", found)

    def check(self) -> None:
        for component in list(self.components.values()):
            component.check()

    def stop(self) -> None:
        for component in reversed(list(self.components.values())):
            component.stop()

    def states(self) -> list[dict[str, Any]]:
        """As ListInstalledComponents shows them."""
        return [
            {
                "componentName": name,
                "componentVersion": component.item.version,
                "lifecycleState": component.state,
                "lifecycleStateDetails": component.reason,
                "lifecycleStatusCodes": [],
                "isRoot": component.item.root,
            }
            for name, component in self.components.items()
        ]

    def find(self, name: str) -> Component:
        """Raises KeyError with a sentence."""
        if name not in self.components:
            there = ", ".join(self.components) or "none"
            raise KeyError(f"this device has no component {name}; it has: {there}")
        return self.components[name]

    def publish(self, topic: str, payload: bytes) -> dict[str, Any]:
        """Give the event to each Lambda component that subscribes to the topic."""
        listeners = [
            c for c in self.components.values() if isinstance(c, LambdaComponent) and c.listens_to(topic)
        ]
        return {component.item.name: component.invoke(payload) for component in listeners}
