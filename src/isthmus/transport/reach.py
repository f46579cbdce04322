"""What may be spoken without TLS: only what stays on this machine."""

from __future__ import annotations

import ipaddress

from isthmus.errors import InvalidInput
from isthmus.transport.wires import Tls


def is_here(host: str) -> bool:
    """Whether an address is this machine's own, which nobody else reaches."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_secured(host: str, tls: Tls | None, what: str) -> None:
    """Raises InvalidInput when ``what`` would leave this machine in clear, or let anybody in."""
    if tls is None and not is_here(host):
        raise InvalidInput(
            f"{what} {host} leaves this machine, and needs TLS: give certificate, key, authority and peers"
        )
