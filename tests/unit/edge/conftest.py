from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "inference"))

from bundle_factory import KeySigner


@pytest.fixture
def signer() -> KeySigner:
    return KeySigner()
