"""What a transfer between two devices costs: over the transport that the two sides can open."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from isthmus.model.device import DeviceDescriptor, Link

RELAY = "relay"
GIB = 1024**3


class Route(msgspec.Struct, frozen=True):
    """From one device to another. ``transport``: ``local`` on one device, ``direct``, ``relay`` through
    the bucket of the region, or empty where neither side can open anything."""

    transport: str
    seconds_per_byte: float = float("inf")
    latency_seconds: float = float("inf")
    usd_per_byte: float = float("inf")


LOCAL = Route("local", 0.0, 0.0, 0.0)
NONE = Route("")


def route(source: DeviceDescriptor, target: DeviceDescriptor) -> Route:
    """Return the fastest way for a megabyte. A direct one needs a link between the two that one side
    can open; a relay needs that both reach the bucket, stores and forwards."""
    if source.id == target.id:
        return LOCAL
    ways = [way for way in (_direct(source, target), _relay(source, target)) if way is not None]
    return min(ways, key=lambda way: way.latency_seconds + 1e6 * way.seconds_per_byte, default=NONE)


def routes(devices: Sequence[DeviceDescriptor]) -> list[list[Route]]:
    """Return the route from each device to each other, ``[from][to]``."""
    return [[route(a, b) for b in devices] for a in devices]


def _direct(source: DeviceDescriptor, target: DeviceDescriptor) -> Route | None:
    there, back = _link(source, target.id, target.zone), _link(target, source.id, source.zone)
    if not any(link is not None and link.opens for link in (there, back)):
        return None
    known = [link for link in (there, back) if link is not None and link.bytes_per_second > 0]
    if not known:
        return None
    pays = there.usd_per_gib if there is not None else 0.0
    return Route(
        "direct",
        1 / min(link.bytes_per_second for link in known),
        max(link.latency_seconds for link in known),
        pays / GIB,
    )


def _relay(source: DeviceDescriptor, target: DeviceDescriptor) -> Route | None:
    up, down = _link(source, RELAY, RELAY), _link(target, RELAY, RELAY)
    if up is None or down is None or not (up.opens and down.opens):
        return None
    if up.bytes_per_second <= 0 or down.bytes_per_second <= 0:
        return None
    return Route(
        RELAY,
        1 / up.bytes_per_second + 1 / down.bytes_per_second,
        up.latency_seconds + down.latency_seconds,
        (up.usd_per_gib + down.usd_per_gib) / GIB,
    )


def _link(device: DeviceDescriptor, name: str, zone: str) -> Link | None:
    """A link to the device itself is preferred to one to its zone."""
    by_name = {link.to: link for link in device.links}
    return by_name.get(name) or by_name.get(zone)
