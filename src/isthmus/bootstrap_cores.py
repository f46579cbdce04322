"""The composition root of core devices: what makes a machine one, and what shows them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isthmus import bootstrap
from isthmus.ports import CoreRegistry, FleetView

if TYPE_CHECKING:
    from isthmus.edge.provisioning import Joined
    from isthmus.model.core_device import Flavour
    from isthmus.model.finding import Finding


def registry(stack: str) -> CoreRegistry:
    """The registry of a stack's core devices, with the operator's rights."""
    from isthmus.adapters.aws.operator.cores import IotCores

    return IotCores(stack, bootstrap.clock())


def view(stack: str) -> FleetView:
    """What Greengrass knows of a stack's core devices."""
    from isthmus.adapters.aws.operator.fleet_view import GreengrassView
    from isthmus.adapters.aws.operator.home import Home
    from isthmus.model import layout

    home = Home(stack)
    groups = layout.core_group(stack), layout.canary_group(stack)
    cores, canaries = (home.arn("iot", f"thinggroup/{group}") for group in groups)
    return GreengrassView(cores, canaries)


def examine_device(flavour: Flavour, root: Path) -> list[Finding]:
    """Look at this machine; its clock is compared where AWS answers."""
    from isthmus.edge.preflight import examine
    from isthmus.errors import IsthmusError

    try:
        skew = bootstrap.account().caller().skew_seconds
    except IsthmusError:
        skew = None
    return examine(flavour, root, skew_seconds=skew)


def join_core(
    name: str,
    stack: str,
    alias: str,
    *,
    folder: Path,
    flavour: Flavour,
    root: str,
    user: str,
    canary: bool | None,
    owner: str,
) -> Joined:
    """Make this machine a core device of the stack. Raises as ``edge.provisioning.join`` does."""
    from isthmus.adapters.aws.operator.cores import root_authorities
    from isthmus.edge.provisioning import join

    bundle = os.environ.get("AWS_CA_BUNDLE")
    return join(
        folder,
        name,
        registry(stack),
        alias=alias,
        authority=root_authorities(Path(bundle) if bundle else None),
        flavour=flavour,
        root=root,
        user=user,
        canary=canary,
        owner=owner,
    )


def take_back(function: str, model: str, reason: str) -> dict[str, Any]:
    """Take a model's latest release from the core devices. Raises as ``take_back.ask_to_take_back`` does."""
    from isthmus.adapters.aws.operator.take_back import ask_to_take_back

    return ask_to_take_back(function, model, reason)
