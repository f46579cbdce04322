from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from bundle_factory import KeySigner, make_bundle

from isthmus.inference.bundle import Bundle
from isthmus.inference.service import ModelService, served


@pytest.fixture
def signer() -> KeySigner:
    return KeySigner()


@pytest.fixture
def bundle(tmp_path: Path, signer: KeySigner) -> Bundle:
    return make_bundle(tmp_path / "bundle", signer)


@pytest.fixture
def service(bundle: Bundle) -> ModelService:
    return ModelService([served(bundle, threads=1)], max_request_bytes=10_000, max_response_bytes=10_000)
