"""A process that serves bundles on loopback, and tells when a request to infer is there: to be killed then."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from isthmus.edge.server import EdgeServer
from isthmus.inference.bundle import open_bundle
from isthmus.inference.http import HttpRequest, HttpResponse
from isthmus.inference.service import ModelService, served

MOST_BYTES = 1 << 24


class Telling:
    """Answers what ``service`` answers, once it may: never, when it is to die."""

    def __init__(self, service: ModelService, hangs: bool) -> None:
        self.service, self.hangs = service, hangs

    def handle(self, request: HttpRequest) -> HttpResponse:
        if request.method == "POST":
            print("asked", flush=True)
            if self.hangs:
                threading.Event().wait()
        return self.service.handle(request)


def main() -> None:
    hangs, folders = sys.argv[1] == "hangs", [Path(name) for name in sys.argv[2:]]
    models = [served(open_bundle(folder, None), threads=1) for folder in folders]
    server = EdgeServer(Telling(ModelService(models), hangs), 0, max_request_bytes=MOST_BYTES)
    print(server.port, flush=True)
    server.start()
    sys.stdin.read()
    server.close()


if __name__ == "__main__":
    main()
