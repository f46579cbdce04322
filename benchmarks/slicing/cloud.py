"""The cloud's side: models over the inference protocol at an address.

``python -m benchmarks.slicing.cloud HOST BUNDLE …`` writes its port, and serves until standard input ends.
"""

from __future__ import annotations

import sys
from pathlib import Path

from isthmus.edge.server import EdgeServer
from isthmus.inference.bundle import open_bundle
from isthmus.inference.http import HttpRequest, HttpResponse
from isthmus.inference.service import ModelService, served
from isthmus.model.units import MIB

MOST_BYTES = 64 * MIB


class CloudServer(EdgeServer):
    """The edge's server, which listens on loopback alone, at another address."""

    host = ""

    def server_bind(self) -> None:
        """Listen where the cloud is."""
        self.server_address = (self.host, 0)
        super().server_bind()

    def answer(self, request: HttpRequest) -> HttpResponse:
        """Answer whoever asks: here nobody has a browser."""
        return self.service.handle(request)


def main() -> None:
    """Serve."""
    CloudServer.host = sys.argv[1]
    models = [served(open_bundle(Path(name), None), threads=1) for name in sys.argv[2:]]
    for model in models:
        model.engine.load()
    server = CloudServer(
        ModelService(models, max_request_bytes=MOST_BYTES, max_response_bytes=MOST_BYTES),
        0,
        max_request_bytes=MOST_BYTES,
    )
    server.start()
    print(server.port, flush=True)
    sys.stdin.read()
    server.close()


if __name__ == "__main__":
    main()
