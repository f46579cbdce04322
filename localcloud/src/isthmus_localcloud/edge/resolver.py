"""From deployments to a plan: which version of each component runs, in which order."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from .versions import parse, satisfies

PROVIDED_PREFIX = "aws.greengrass."
Lookup = Callable[[str], list[dict[str, Any]]]


class CannotResolve(Exception):
    """The text names the component, what was required and what there is."""


@dataclass
class Item:
    """One component of the plan. ``depends`` maps a dependency to HARD or SOFT."""

    name: str
    version: str
    recipe: dict[str, Any]
    function: dict[str, Any] | None
    configuration: dict[str, Any]
    root: bool
    depends: dict[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def merged(base: Any, update: Any) -> Any:
    """Objects merge, everything else is replaced. Source: developer guide, "Update component
    configurations"."""
    if isinstance(base, dict) and isinstance(update, dict):
        return {**base, **{key: merged(base.get(key), value) for key, value in update.items()}}
    return update


def configuration_of(recipe: dict[str, Any], wish: dict[str, Any]) -> dict[str, Any]:
    found = recipe.get("ComponentConfiguration", {}).get("DefaultConfiguration", {})
    update = wish.get("configurationUpdate", {}).get("merge")
    return dict(merged(found, json.loads(update))) if update else dict(found)


def wishes_of(deployments: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Root components of all targets. Raises CannotResolve where two targets ask for different versions."""
    found: dict[str, dict[str, Any]] = {}
    for deployment in deployments:
        for name, wish in deployment["components"].items():
            known = found.setdefault(name, wish)
            if known["componentVersion"] != wish["componentVersion"]:
                raise CannotResolve(
                    f"{name} is required as {known['componentVersion']} and as {wish['componentVersion']} "
                    f"by different targets of this device"
                )
    return found


def choose(name: str, required: list[str], pinned: str | None, lookup: Lookup) -> dict[str, Any]:
    """The highest version that meets all requirements; a version that a deployment names stands alone."""
    candidates = lookup(name)
    fitting = [
        entry
        for entry in candidates
        if pinned in (None, entry["recipe"]["ComponentVersion"])
        and all(satisfies(entry["recipe"]["ComponentVersion"], text) for text in required)
    ]
    if not fitting:
        there = ", ".join(entry["recipe"]["ComponentVersion"] for entry in candidates) or "none"
        wanted = " and ".join([*([f"={pinned}"] if pinned else []), *required])
        raise CannotResolve(f"no version of {name} satisfies {wanted}; there are: {there}")
    return max(fitting, key=lambda entry: parse(entry["recipe"]["ComponentVersion"]))


def resolve(deployments: list[dict[str, Any]], lookup: Lookup) -> list[Item]:
    """Dependencies first. Raises CannotResolve, also for a dependency cycle."""
    wishes = wishes_of(deployments)
    required: dict[str, list[str]] = {}
    chosen: dict[str, dict[str, Any]] = {}
    waiting = [name for name in wishes if not name.startswith(PROVIDED_PREFIX)]
    while waiting:
        name = waiting.pop(0)
        pinned = wishes.get(name, {}).get("componentVersion")
        chosen[name] = choose(name, required.get(name, []), pinned, lookup)
        for other, rule in dependencies(chosen[name]["recipe"]).items():
            text = str(rule.get("VersionRequirement", "*"))
            if text not in required.setdefault(other, []):
                required[other].append(text)
                waiting.append(other)
    items = {name: item_for(name, entry, wishes) for name, entry in chosen.items()}
    return ordered(items)


def dependencies(recipe: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The nucleus's own components are part of the device."""
    found = recipe.get("ComponentDependencies") or {}
    return {name: rule for name, rule in found.items() if not name.startswith(PROVIDED_PREFIX)}


def item_for(name: str, entry: dict[str, Any], wishes: dict[str, dict[str, Any]]) -> Item:
    recipe = entry["recipe"]
    depends = {other: rule.get("DependencyType", "HARD") for other, rule in dependencies(recipe).items()}
    configuration = configuration_of(recipe, wishes.get(name, {}))
    return Item(
        name, recipe["ComponentVersion"], recipe, entry["function"], configuration, name in wishes, depends
    )


def ordered(items: dict[str, Item]) -> list[Item]:
    done: dict[str, Item] = {}
    left = dict(items)
    while left:
        ready = [item for item in left.values() if all(other in done for other in item.depends)]
        if not ready:
            raise CannotResolve(f"the dependencies of {', '.join(sorted(left))} form a cycle")
        for item in ready:
            done[item.name] = left.pop(item.name)
    return list(done.values())
