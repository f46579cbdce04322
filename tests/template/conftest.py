from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from cloudformation import Template, load_template


@pytest.fixture(scope="session")
def template() -> Template:
    return load_template()
