"""One deployed system for all end-to-end tests.

Where it is deployed comes from the environment alone: AWS_ENDPOINT_URL names a cloud that runs;
without it, AWS credentials mean a real account; with neither, a local cloud is started here and
ended afterwards. What the tests made is removed in each case.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.stamp import changed_since, stamp
from demo.system import ROOT, System
from tests.e2e import cleanup


@pytest.fixture(scope="session")
def on_aws() -> bool:
    """Whether a real account is used: there, no core device and no local cloud can be started."""
    return "AWS_ENDPOINT_URL" not in os.environ and bool(
        os.environ.get("AWS_ACCESS_KEY_ID") or os.environ.get("AWS_PROFILE") or os.environ.get("AWS_ROLE_ARN")
    )


@pytest.fixture(scope="session")
def system(on_aws: bool, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A stack of its own name, a joined rig with its agent, and, off AWS, a core device."""
    folder = ROOT / ".isthmus/e2e"
    system = System(folder, lambda line: None, stack=f"isthmus-e2e-{uuid.uuid4().hex[:6]}")
    if on_aws or "AWS_ENDPOINT_URL" in os.environ:
        system.env |= {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    else:
        system.up()
    try:
        mark = ROOT / ".isthmus/built"
        if changed_since(mark) or not (ROOT / ".aws-sam/build/template.yaml").is_file():
            system.build()
            stamp(mark)
        system.deploy()
        system.join_rig()
        system.start_agent()
        if not on_aws:
            system.edge("start")
        yield system
        system.stop_agent()
        left = cleanup.remove(system)
        assert not left, f"left behind: {left}"
    finally:
        system.close()


@pytest.fixture(scope="session")
def digits(system: System) -> Path:
    """The digits as files."""
    from demo.system import run

    folder = system.folder / "data/digits"
    run([system.bin / "python", ROOT / "examples/digits/make_dataset.py", folder], system.env)
    return folder
