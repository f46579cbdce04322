"""How a rig is, as the table knows it: its agents, what they do, who waits, and results that came too late."""

from __future__ import annotations

import datetime
from typing import Any

import msgspec

from isthmus import documents
from isthmus.errors import InvalidDocument, IsthmusError, Refused
from isthmus.model import layout
from isthmus.model.device import DeviceDescriptor
from isthmus.ports import Certificates, Clock, Devices, Item, Records
from isthmus.workflows.rig_certificates import CertificateStatus, certificates_of

SILENT_SECONDS = 600.0
"""An agent says something at least twice within this (``rig.presence``)."""


class AgentStatus(msgspec.Struct, frozen=True, kw_only=True):
    """An agent by its own last word. ``state``: idle, running, draining, stopping, left, or ``silent`` when
    that word is older than ``SILENT_SECONDS``; ``was`` is then what it did last."""

    agent: str
    host: str
    state: str
    since: str
    seen_at: str
    was: str = ""
    job_key: str = ""
    attempt: int = 0
    version: str = ""


class RigStatus(msgspec.Struct, frozen=True, kw_only=True):
    """``orphans``: results that nobody waited for any more, as their items say. ``certificates``: the active ones;
    ``not_seen``: why they are not known."""

    rig: DeviceDescriptor
    agents: tuple[AgentStatus, ...]
    waiting: int
    orphans: tuple[dict[str, Any], ...] = ()
    certificates: tuple[CertificateStatus, ...] = ()
    not_seen: str = ""


def rig_status(
    name: str, *, devices: Devices, records: Records, certificates: Certificates, clock: Clock
) -> RigStatus:
    """Return how the rig is. Who may not look at its certificates is told the rest.

    Raises:
        Refused: there is no such rig.
    """
    rig = devices.get(name)
    if rig is None:
        raise Refused(f"there is no rig {name}; see `isthmus rig list`")
    own = records.query(layout.rig_pk(name))
    agents = [_agent(item, clock.now()) for item in own if item["sk"].startswith(layout.AGENT)]
    waiting = records.query(layout.waiting_pk(name), prefix=layout.WORK)
    held: tuple[CertificateStatus, ...] = ()
    not_seen = ""
    try:
        held = certificates_of(name, certificates, clock)
    except IsthmusError as error:
        not_seen = str(error)
    return RigStatus(
        rig=rig,
        agents=tuple(sorted(filter(None, agents), key=lambda agent: agent.seen_at, reverse=True)),
        waiting=len(waiting),
        orphans=tuple(_plain(item) for item in own if item["sk"].startswith(layout.ORPHAN)),
        certificates=held,
        not_seen=not_seen,
    )


def _agent(item: Item, now: float) -> AgentStatus | None:
    """None: an agent of another version wrote it so that it cannot be read here."""
    doing = item.get("doing")
    if not isinstance(doing, dict):
        return None
    state = str(doing.get("state", ""))
    silent = state != "left" and now - _seconds(item["seen_at"]) > SILENT_SECONDS
    told = {name: item.get(name, "") for name in ("agent", "host", "since", "seen_at", "version")}
    more = {"state": "silent" if silent else state, "was": state if silent else ""}
    about = {"job_key": doing.get("job_key", ""), "attempt": int(doing.get("fencing", 0))}
    try:
        return documents.convert(AgentStatus, told | more | about, item["sk"])
    except InvalidDocument:
        return None


def _seconds(text: str) -> float:
    return datetime.datetime.fromisoformat(text).timestamp()


def _plain(item: Item) -> dict[str, Any]:
    """An item without its place in the table."""
    return {name: value for name, value in item.items() if name not in ("pk", "sk", "expires_at")}
