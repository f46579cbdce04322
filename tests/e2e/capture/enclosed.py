"""Run a command in a network namespace without any interface but its loopback, and keep what it sends.

    python -m tests.e2e.capture.enclosed FOLDER PORT[,PORT] -- COMMAND …

The command finds this machine's servers at the same ports of 127.0.0.1 as ever, and nothing else. Each connection's
bytes, as the command sent them, go to a file of ``FOLDER``: there is no other way out of the namespace, so nothing is
missed. Sockets keep the namespace that they were made in (network_namespaces(7)): those that listen are made inside,
and served from outside.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
from itertools import count
from pathlib import Path

PR_SET_PDEATHSIG = 1
BUFFER_BYTES = 1 << 20
NUMBERS = count(1)


def inside(channel: socket.socket, ports: list[int], command: list[str]) -> None:
    """Enter a namespace, hand out its listening sockets, and become the command."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    os.unshare(os.CLONE_NEWNET)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    listening = []
    for port in ports:
        server = socket.create_server(("127.0.0.1", port), backlog=256)
        listening.append(server)
    socket.send_fds(channel, [b"x"], [server.fileno() for server in listening])
    channel.recv(1)
    for server in listening:
        server.close()
    os.execvp(command[0], command)


def serve(server: socket.socket, port: int, folder: Path) -> None:
    """Join every connection from inside to the same port outside."""
    while True:
        near, _ = server.accept()
        far = socket.create_connection(("127.0.0.1", port))
        file = folder / f"{next(NUMBERS):06d}-{port}"
        for end, other, path in ((near, far, file), (far, near, None)):
            threading.Thread(target=pump, args=(end, other, path), daemon=True).start()


def pump(source: socket.socket, target: socket.socket, path: Path | None) -> None:
    """Pass bytes on until the source ends; what is kept is kept before it is passed on."""
    try:
        while data := source.recv(BUFFER_BYTES):
            if path is not None:
                with path.open("ab") as file:
                    file.write(data)
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        source.close()
        target.close()


def main(arguments: list[str]) -> int:
    """Return the command's exit status."""
    folder, ports = Path(arguments[0]), [int(port) for port in arguments[1].split(",")]
    command = arguments[arguments.index("--") + 1 :]
    folder.mkdir(parents=True, exist_ok=True)
    ours, theirs = socket.socketpair()
    if (child := os.fork()) == 0:
        ours.close()
        inside(theirs, ports, command)
    theirs.close()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda got, _: os.kill(child, got))
    _, handles, _, _ = socket.recv_fds(ours, 1, len(ports))
    if len(handles) != len(ports):
        print("needs root, to make a network namespace", file=sys.stderr)
        return 1
    for handle, port in zip(handles, ports, strict=True):
        server = socket.socket(fileno=handle)
        threading.Thread(target=serve, args=(server, port, folder), daemon=True).start()
    ours.sendall(b"x")
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
