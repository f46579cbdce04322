"""Runs inside a network namespace of its own: a local cloud at work, and every packet that would leave.

``python offline_probe.py FOLDER`` prints one JSON object: ``packets`` are the destinations seen while the
cloud started, worked and ended; ``control`` those of two deliberate attempts, a look-up and a connection.

The namespace has loopback and a TUN interface with the default routes; the name server of /etc/resolv.conf
lies behind it. Whatever is sent there is read here and goes no further.
"""

import contextlib
import fcntl
import json
import os
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from conftest import ROLE, Cloud, cli, make_role, task

INTERFACE = "out0"
NAME_SERVER, ELSEWHERE = "198.51.100.53", "203.0.113.7"  # documentation addresses, RFC 5737
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000  # linux/if_tun.h
ICMPV6, NEIGHBOUR_DISCOVERY = 58, range(130, 144)
SOURCE = """
import boto3
def handler(event, context):
    boto3.client("sqs").send_message(QueueUrl=event["queue"], MessageBody="hello")
    return {"statusCode": 200, "body": "hello"}
"""


def build_network(folder: Path) -> None:
    for command in (
        "ip link set lo up",
        f"ip addr add 198.51.100.2/24 dev {INTERFACE}",
        f"ip link set {INTERFACE} up",
        f"ip -6 addr add 2001:db8::2/64 dev {INTERFACE} nodad",
        f"ip route add default via 198.51.100.1 dev {INTERFACE}",
        f"ip -6 route add default via 2001:db8::1 dev {INTERFACE}",
    ):
        subprocess.run(command.split(), check=True)
    resolver = folder / "resolv.conf"
    resolver.write_text(f"nameserver {NAME_SERVER}\noptions timeout:1 attempts:1\n")
    target = str(Path("/etc/resolv.conf").resolve())
    subprocess.run(["mount", "--bind", str(resolver), target], check=True)


class Watcher:
    """Makes the interface and notes the destination of every packet, but for IPv6's own housekeeping."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self._tun = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(self._tun, TUNSETIFF, struct.pack("16sH", INTERFACE.encode(), IFF_TUN | IFF_NO_PI))
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            if (text := destination(os.read(self._tun, 65_535))) is not None:
                self.seen.append(text)

    def taken(self) -> list[str]:
        found, self.seen = sorted(set(self.seen)), []
        return found


def destination(packet: bytes) -> str | None:
    """``udp 198.51.100.53:53``; None for neighbour discovery and multicast listener reports."""
    if packet[0] >> 4 == 4:
        kind, head = packet[9], (packet[0] & 15) * 4
        where = socket.inet_ntop(socket.AF_INET, packet[16:20])
    else:
        kind, head = packet[6], 40
        where = f"[{socket.inet_ntop(socket.AF_INET6, packet[24:40])}]"
        if kind == 0:  # hop-by-hop options, which listener reports carry
            kind, head = packet[40], 40 + 8 * (packet[41] + 1)
        if kind == ICMPV6 and packet[head] in NEIGHBOUR_DISCOVERY:
            return None
    name = {6: "tcp", 17: "udp"}.get(kind)
    port = struct.unpack("!H", packet[head + 2 : head + 4])[0] if name else 0
    asked = f" ({queried_name(packet[head + 8 :])})" if (name, port) == ("udp", 53) else ""
    return f"{name} {where}:{port}{asked}" if name else f"protocol {kind} {where}"


def queried_name(message: bytes) -> str:
    """The first question of a DNS query. Source: RFC 1035, sections 4.1.1 and 4.1.2."""
    labels, at = [], 12
    while length := message[at]:
        labels.append(message[at + 1 : at + 1 + length].decode())
        at += 1 + length
    return ".".join(labels)


def work(folder: Path) -> None:
    """Start, use and end a local cloud: a function, an execution, an API, a queue, a core device."""
    code, answer, errors = cli(folder / "state", "up", "--port", "0")
    assert code == 0, errors
    cloud = Cloud(folder / "state", answer)
    try:
        make_role(
            cloud,
            ROLE.rpartition("/")[2],
            ["lambda.amazonaws.com", "states.amazonaws.com"],
            {"Effect": "Allow", "Action": "*", "Resource": "*"},
        )
        queue = cloud.client("sqs").create_queue(QueueName="q")["QueueUrl"]
        function = cloud.function("hello", SOURCE, Timeout=60)
        event = {"queue": queue}
        ended = cloud.execute(task("lambda:invoke", {"FunctionName": function, "Payload": event}))
        assert ended["status"] == "SUCCEEDED", ended
        assert cloud.client("sqs").receive_message(QueueUrl=queue, WaitTimeSeconds=5)["Messages"]
        assert call_api(cloud) == 200
        cloud.cli("edge", "start", "device")
        cloud.cli("edge", "stop", "device")
    finally:
        assert cli(folder / "state", "down")[0] == 0


def call_api(cloud: Cloud) -> int:
    """The status of one request to a deployed API."""
    gateway = cloud.client("apigateway")
    made = gateway.create_rest_api(name="hello")
    method: dict[str, Any] = {
        "restApiId": made["id"],
        "resourceId": made["rootResourceId"],
        "httpMethod": "GET",
    }
    gateway.put_method(**method, authorizationType="NONE")
    gateway.put_integration(
        **method, type="MOCK", requestTemplates={"application/json": '{"statusCode": 200}'}
    )
    gateway.put_method_response(**method, statusCode="200")
    gateway.put_integration_response(**method, statusCode="200")
    gateway.create_deployment(restApiId=made["id"], stageName="t")
    host, port = cloud.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 30) as connection:
        path = f"/_aws/execute-api/{made['id']}/t/"
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        return int(connection.recv(64).split()[1])


def call_out() -> None:
    """What the watcher has to see."""
    with contextlib.suppress(OSError):
        socket.getaddrinfo("example.com", 443)
    with contextlib.suppress(OSError):
        socket.create_connection((ELSEWHERE, 443), 0.5)


def main() -> None:
    folder = Path(sys.argv[1])
    watcher = Watcher()
    build_network(folder)
    work(folder)
    packets = watcher.taken()
    call_out()
    print(json.dumps({"packets": packets, "control": watcher.taken()}))


if __name__ == "__main__":
    main()
