"""One group of core devices: what a model has there now and had before, deployed and taken back.

The model's record of the group is written before Greengrass is asked, so that a deployment whose answer got lost can
still be taken back.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from isthmus.errors import Conflict
from isthmus.model import layout
from isthmus.ports import EdgeComponent, EdgeFleet, Item, Records

BUNDLE = ".model"
"""Ends the name of a bundle's component."""


class RevertibleFleet(EdgeFleet, Protocol):
    """A fleet whose desired state can be read, and rid of components."""

    def await_deployable(self, target: str, components: tuple[EdgeComponent, ...]) -> None:
        """Wait, within one call's time, until the component versions may be deployed.

        Raises:
            EdgeDeploymentFailed: one never will; the message holds its own cause.
            Unavailable: one is still being made; the call may be repeated.
        """

    def deploy(
        self,
        target: str,
        components: tuple[EdgeComponent, ...],
        token: str,
        *,
        without: Collection[str] = (),
    ) -> str:
        """Merge ``components`` into the target's latest deployment, less those that ``without`` names."""

    def latest(self, target: str) -> tuple[str, dict[str, str]]:
        """Return the deployment in force and its components' versions by name; empty before the first."""

    def devices(self, target: str) -> dict[str, str]:
        """Return the core devices of the target, and the health that each has reported."""


Renew = Callable[["EdgeTarget"], tuple[EdgeComponent, ...]]
"""Returns the components to which a target goes back."""


class EdgeTarget:
    """A thing group, as one model's releases come to it. ``kind``: the sort key of the model's record of it."""

    def __init__(self, kind: str, target: str, model: str, fleet: RevertibleFleet, records: Records) -> None:
        self.kind, self.target = kind, target
        self._model, self._fleet, self._records = model, fleet, records

    @property
    def item(self) -> Item:
        """Return the model's record of the group: its versions there, now and before."""
        return self._records.get(layout.model_pk(self._model), self.kind) or {}

    @property
    def release(self) -> int:
        """Return the release of the bundle that the group was sent last; 0 for none, or one that was taken back."""
        item = self.item
        if item.get("reverted"):
            return 0
        return next(
            (
                int(version.partition(".")[0])
                for name, version in (item.get("current") or {}).items()
                if name.endswith(BUNDLE)
            ),
            0,
        )

    def note(self, **fields: object) -> None:
        """Write fields of the record."""
        self._records.update(layout.model_pk(self._model), self.kind, fields)

    def has_passed(self, deployment: str, name: str) -> bool:
        """Note that a deployment has passed here, and return True; False when it was taken back meanwhile."""
        expected = {"deployment": deployment, "reverted": None}
        try:
            self._records.update(layout.model_pk(self._model), self.kind, {"passed": name}, expect=expected)
        except Conflict:
            return False
        return True

    def deploy(
        self, components: tuple[EdgeComponent, ...], rollout: str, token: str, now: float, redrives: int
    ) -> str:
        """Deploy, and record what the target had of the model before: called again, it does nothing more."""
        item, current = self.item, {entry.name: entry.version for entry in components}
        same = item.get("current") == current
        if same and item.get("rollout") == rollout and item.get("deployment") and not item.get("reverted"):
            return str(item["deployment"])
        # Of versions that were deployed once already, what is on record came before; the target may have
        # the very same by now.
        previous = item["previous"] if same else _versions(self._fleet.latest(self.target)[1], current)
        # Before the deployment, so that one whose answer got lost can still be taken back.
        intent = {"rollout": rollout, "current": current, "previous": previous, "since": int(now)}
        intent["redrives"] = redrives
        cleared = {
            "reverted_in": None,
            "deployment": None,
            "reverted": None,
            "cause": None,
            "arrived": None,
            "passed": None,
        }
        self.note(**intent, **cleared)
        deployment = self._fleet.deploy(self.target, components, token)
        self.note(deployment=deployment)
        return deployment

    def revert(self, deployment: str, cause: str, redrives: int, renew: Renew) -> None:
        """Deploy again what the target had of the model before, as ``renew`` makes a new release of it, unless a newer
        deployment replaced it.

        A device that failed has rolled itself back; but what a target should have is merged into every
        later deployment, of other models too, and each would fail with it.
        """
        item = self.item
        if item.get("deployment") != deployment or item.get("reverted"):
            return
        previous = renew(self)
        reverted = self._fleet.deploy(
            self.target, previous, f"revert-{deployment}", without=frozenset(item["current"])
        )
        self.note(reverted=reverted, cause=cause, reverted_in=redrives, passed=None)

    def followed(self, deployment: str) -> str:
        """Return the deployment that brings the model's current versions to the devices.

        Greengrass cancels a deployment as soon as another to the same target, say of another model,
        replaces it; the new one has ours merged in.
        """
        item = self.item
        if item.get("deployment") != deployment:
            return deployment
        latest, components = self._fleet.latest(self.target)
        return latest if _versions(components, item["current"]) == item["current"] else deployment

    def holds(self, deployment: str) -> bool:
        """Whether the record is of this deployment."""
        return bool(self.item.get("deployment") == deployment)

    def is_reverted(self, deployment: str) -> bool:
        """Whether the deployment was taken back."""
        item = self.item
        return item.get("deployment") == deployment and bool(item.get("reverted"))


def _versions(components: Mapping[str, str], names: Collection[str]) -> dict[str, str]:
    return {name: version for name, version in components.items() if name in names}
