"""One deployed system for all end-to-end tests, or one for each of the processes that share them.

Where it is deployed comes from the environment alone: AWS_ENDPOINT_URL names a cloud that runs;
without it, AWS credentials (of any kind that boto3 finds) mean a real account; with neither, or with
ISTHMUS_E2E=local as `make test` sets it, a local cloud is started here. What the tests made is
removed in each case, however they end.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from demo.stamp import ROOT
from demo.system import System, run
from tests.e2e import cleanup


def cloud_is_given() -> bool:
    """Whether the environment names a cloud: by its endpoint, or by credentials for AWS itself."""
    if os.environ.get("ISTHMUS_E2E") == "local":
        return False
    return "AWS_ENDPOINT_URL" in os.environ or boto3.Session().get_credentials() is not None


@pytest.fixture(scope="session")
def with_core_device() -> bool:
    """Whether there is a core device: the stand-in belongs to a local cloud that is started here."""
    return not cloud_is_given()


@pytest.fixture(scope="session")
def system(with_core_device: bool) -> Iterator[System]:
    """A stack of its own name, a joined rig with its agent and, on a local cloud, a core device."""
    stack = f"isthmus-e2e-{uuid.uuid4().hex[:6]}"
    # With pytest-xdist each worker has a system of its own.
    folder = ROOT / ".isthmus" / f"e2e{os.environ.get('PYTEST_XDIST_WORKER', '')}"
    system = System(folder, lambda line: None, stack=stack, cloud_of_its_own=with_core_device)
    system.end_earlier()
    if with_core_device:
        system.up()
    left = ["everything"]
    try:
        system.build()
        system.deploy()
        system.join_rig()
        system.start_agent()
        if with_core_device:
            system.edge("start")
        yield system
    finally:
        try:
            system.leave()
            left = cleanup.remove(system)
        finally:
            system.close()
    assert not left, f"left behind: {left}"


@pytest.fixture(scope="session")
def digits(system: System) -> Path:
    """The digits as files."""
    folder = system.folder / "data/digits"
    run([system.bin / "python", ROOT / "examples/digits/make_dataset.py", folder], system.env)
    return folder
