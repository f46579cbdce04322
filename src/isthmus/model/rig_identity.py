"""How a rig proves who it is: a certificate of AWS IoT, and where it gets credentials for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec


class RigIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """What a rig's folder says of its certificate; the thing's name is the rig's.

    ``endpoint``: host, or host and port, of the credentials provider. ``alias``: the stack's role alias.
    """

    rig: str
    stack: str
    region: str
    endpoint: str
    alias: str
    certificate_id: str


@dataclass(frozen=True)
class Proof:
    """An identity with its files: PEM, the key not encrypted."""

    identity: RigIdentity
    certificate: Path
    key: Path


class Certificate(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate as the registry knows it: only an ``ACTIVE`` one is of use."""

    id: str
    arn: str
    active: bool
    since: str
    """When it was made, UTC, ISO 8601."""
    until: str = ""
    """When it ends, likewise; empty where the registry does not say."""
