"""A line that does to the bytes of a stream what no line should, at the pieces that a seed chooses."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections import Counter
from typing import Literal

Fault = Literal["cut", "corrupt", "duplicate", "reorder"]
PIECE_BYTES = 8192
WAIT_SECONDS = 0.02


class BadLine:
    """Passes connections on to ``target``; of ``one_in`` pieces, on average, one suffers one of ``faults``; with 0
    none does but by ``strike``."""

    def __init__(self, target: tuple[str, int], faults: tuple[Fault, ...], *, seed: int, one_in: int) -> None:
        self.happened: Counter[str] = Counter()
        self._target = target
        self._faults = faults
        self._chance = random.Random(seed)
        self._one_in = one_in
        self._lock = threading.Lock()
        self._due: list[Fault] = []
        self._shut_until = 0.0
        self._shut_seconds = 0.0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._listener.getsockname()
        threading.Thread(target=self._accept, daemon=True).start()

    def strike(self, fault: Fault, shut_seconds: float = 0.0) -> None:
        """Let the next piece suffer a fault. ``shut_seconds``: for so long after a cut nobody gets through."""
        with self._lock:
            self._due.append(fault)
            self._shut_seconds = shut_seconds

    def mend(self) -> None:
        """Let everybody through again, whatever was due."""
        with self._lock:
            self._due.clear()
            self._shut_until = 0.0

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                if time.monotonic() < self._shut_until:
                    near.close()
                    continue
                with contextlib.suppress(OSError):
                    far = socket.create_connection(self._target)
                    for source, sink in ((near, far), (far, near)):
                        threading.Thread(target=self._pass, args=(source, sink), daemon=True).start()
                    continue
                near.close()

    def _fault(self) -> Fault | None:
        with self._lock:
            found: Fault | None = None
            if self._due:
                found = self._due.pop(0)
            elif self._one_in and self._chance.randrange(self._one_in) == 0:
                found = self._chance.choice(self._faults)
            if found == "cut":
                self._shut_until = time.monotonic() + self._shut_seconds
            if found is not None:
                self.happened[found] += 1
        return found

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while piece := source.recv(PIECE_BYTES):
                fault = self._fault()
                if fault == "cut":
                    sink.sendall(piece[: len(piece) // 2])
                    return
                if fault == "corrupt":
                    at = self._chance.randrange(len(piece))
                    piece = piece[:at] + bytes([piece[at] ^ 0x40]) + piece[at + 1 :]
                if fault == "reorder":
                    # With what follows, if anything does in time.
                    source.settimeout(WAIT_SECONDS)
                    with contextlib.suppress(TimeoutError):
                        piece = source.recv(PIECE_BYTES) + piece
                    source.settimeout(None)
                sink.sendall(piece * 2 if fault == "duplicate" else piece)
        except OSError:
            return
        finally:
            for end in (source, sink):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()
