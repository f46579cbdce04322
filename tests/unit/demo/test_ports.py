"""Ports for a core device: in a row, free, and not among those of outgoing connections."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from demo.system import EDGE_PORTS, CommandFailed, free_ports


def test_they_are_below_those_of_outgoing_connections() -> None:
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert all(free_ports() + EDGE_PORTS <= lowest for _ in range(10))


def test_a_row_with_a_taken_port_is_passed_over() -> None:
    start = free_ports()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", start + EDGE_PORTS - 1))
        assert free_ports(start, start + 2 * EDGE_PORTS) == start + EDGE_PORTS
        with pytest.raises(CommandFailed, match=f"needs {EDGE_PORTS} free loopback ports"):
            free_ports(start, start + EDGE_PORTS)
