"""wire: bytes per second of the direct stream over loopback, against iperf3, and under mutual TLS against C on OpenSSL.

Both sides are processes. Each message is other memory than those before it, with its number written into it; the
receiver verifies every checksum and every number. `mb1` and `mb64` are the fractions of iperf3's rate with messages of
1 MiB and 64 MiB; iperf3 runs with the fastest of the congestion controls and sizes of a write that are tried first.
`mb1_mtls` is the fraction of a C program's rate (benchmarks/wires/tls_peer.c) that writes
the same messages under the same mutual TLS and computes no checksum; `openssl_limit` is that program's rate. All take
turns; a fraction is the median over the rounds of ours over the mean of the references right before and after it.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.report import report
from benchmarks.wires.reference import (
    build,
    iperf3,
    needed,
    openssl_cipher,
    openssl_stream,
    write_certificates,
)

ROUNDS = 5
SECONDS = 2
MIB = 2**20
MB64_GOAL, MTLS_GOAL = 0.90, 0.70
SETTINGS = tuple(
    (*control, *length)
    for control in ((), ("-C", "cubic"), ("-C", "reno"))
    for length in ((), ("-l", "512K"), ("-l", "1M"))
)
"""Congestion controls and sizes of a write, of which the reference takes the fastest."""


def main() -> None:
    """Measure and report."""
    needed()
    with tempfile.TemporaryDirectory(prefix="isthmus-bench-") as scratch:
        folder = Path(scratch)
        write_certificates(folder)
        peer = build(folder)
        trials = {options: max(iperf3(1, *options) for _ in range(2)) for options in SETTINGS}
        fastest = max(trials, key=lambda options: trials[options])
        rows = [_round(folder, peer, fastest) for _ in range(ROUNDS)]
    rates = {name: [row[name] for row in rows] for name in rows[0]}
    plain = [(row["iperf before"] + row["iperf after"]) / 2 for row in rows]
    mb64s = [(row["iperf after"] + row["iperf last"]) / 2 for row in rows]
    secured = [(row["openssl before"] + row["openssl after"]) / 2 for row in rows]
    mb1 = _fraction(rates["1 MiB"], plain)
    mb64 = _fraction(rates["64 MiB"], mb64s)
    mtls = _fraction(rates["1 MiB TLS"], secured)
    reference = statistics.median(plain) / 1e9
    report(
        "wire",
        ours=mb1 * reference,
        reference=reference,
        unit="GB/s",
        mb1=round(mb1, 3),
        mb64=round(mb64, 3),
        mb64_goal=MB64_GOAL,
        mb64_holds=mb64 >= MB64_GOAL,
        mb1_mtls=round(mtls, 3),
        mb1_mtls_goal=MTLS_GOAL,
        mb1_mtls_holds=mtls >= MTLS_GOAL,
        openssl_limit=round(statistics.median(secured) / 1e9, 3),
        aes_256_gcm_of_a_core=round(openssl_cipher() / 1e9, 3),
        iperf3=" ".join(fastest) or "as it comes",
        rates_gb={name: [round(rate / 1e9, 2) for rate in each] for name, each in rates.items()},
    )


def _round(folder: Path, peer: Path, options: tuple[str, ...]) -> dict[str, float]:
    return {
        "iperf before": iperf3(SECONDS, *options),
        "1 MiB": ours(MIB, SECONDS),
        "iperf after": iperf3(SECONDS, *options),
        "64 MiB": ours(64 * MIB, SECONDS),
        "iperf last": iperf3(SECONDS, *options),
        "openssl before": openssl_stream(peer, folder, MIB, SECONDS),
        "1 MiB TLS": ours(MIB, SECONDS, files=folder),
        "openssl after": openssl_stream(peer, folder, MIB, SECONDS),
    }


def _fraction(ours: list[float], references: list[float]) -> float:
    return statistics.median(mine / other for mine, other in zip(ours, references, strict=True))


def ours(size: int, seconds: float, files: Path | None = None) -> float:
    """Return bytes per second of the direct stream."""
    command = [sys.executable, "-m", "benchmarks.wires.peer"]
    tls = str(files or "")
    receiver = subprocess.Popen([*command, "receive", tls], stdout=subprocess.PIPE, text=True)
    assert receiver.stdout is not None
    port = receiver.stdout.readline().strip()
    subprocess.run([*command, "send", tls, port, str(size), str(seconds)], check=True)
    found = json.loads(receiver.communicate()[0])
    return float(found["bytes"]) / float(found["seconds"])


if __name__ == "__main__":
    main()
