from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "inference"))
sys.path.insert(0, str(Path(__file__).parent))

from bundle_factory import KeySigner, make_bundle
from scripted import ScriptedServer

from isthmus.edge.server import EdgeServer
from isthmus.inference.service import ModelService, served


@pytest.fixture(scope="session")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real edge server with the model ``fashion``."""
    bundle = make_bundle(tmp_path_factory.mktemp("client") / "bundle", KeySigner())
    server = EdgeServer(ModelService([served(bundle, threads=1)]), 0, max_request_bytes=1 << 20)
    server.start()
    yield f"http://127.0.0.1:{server.port}"
    server.close()


@pytest.fixture
def scripted() -> Iterator[ScriptedServer]:
    """A server that gives the answers it is told, one after the other."""
    with ScriptedServer() as server:
        yield server
