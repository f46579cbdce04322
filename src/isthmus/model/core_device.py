"""A Greengrass core device: where its cloud is, and what the cloud says of it."""

from __future__ import annotations

from typing import Literal

import msgspec

Flavour = Literal["classic", "lite"]
"""The nucleus in Java, or nucleus lite."""
ROOTS: dict[Flavour, str] = {"classic": "/greengrass/v2", "lite": "/var/lib/greengrass"}
"""Where each works unless it is told otherwise (developer guide, "Install the AWS IoT Greengrass Core software")."""


class CorePlace(msgspec.Struct, frozen=True, kw_only=True):
    """The account and region of a stack's core devices. ``data``, ``credentials``: hosts, or hosts and ports, of MQTT
    and of the credentials provider."""

    partition: str
    region: str
    account: str
    data: str
    credentials: str


class CoreComponent(msgspec.Struct, frozen=True, kw_only=True):
    """A component as a device last said that it has it; ``cause``: its own words, for a broken one."""

    name: str
    version: str
    state: str
    cause: str = ""


class CoreDeployment(msgspec.Struct, frozen=True, kw_only=True):
    """A deployment on its way to a device, or there. ``since``: when its state last changed, UTC, ISO 8601."""

    id: str
    state: str
    cause: str = ""
    since: str = ""


class CoreDevice(msgspec.Struct, frozen=True, kw_only=True):
    """What the cloud knows of a core device. ``status``: empty for one that joined and never said anything.

    ``last_seen``: of its last report, UTC, ISO 8601; a healthy device that changes nothing reports once a day.
    """

    name: str
    status: str = ""
    last_seen: str = ""
    nucleus: str = ""
    architecture: str = ""
    components: tuple[CoreComponent, ...] = ()
    deployments: tuple[CoreDeployment, ...] = ()
