"""Of all tests: the number of skipped tests is asserted where it is known, so none passes by missing."""

from __future__ import annotations

import os
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

# Tests that use onnxruntime directly report to nobody either.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Fail a run that skipped another number of tests than ISTHMUS_EXPECTED_SKIPS says."""
    expected = os.environ.get("ISTHMUS_EXPECTED_SKIPS")
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if expected is None or reporter is None or exitstatus not in (0, pytest.ExitCode.OK):
        return
    skipped = len(reporter.stats.get("skipped", []))
    if skipped != int(expected):
        reporter.write_line(f"{skipped} tests were skipped; {expected} were expected", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


FIRST_SHARE = (
    "test_path_of_a_dataset.py",
    "test_pinned_dataset.py",
    "test_redrive.py",
    "test_models_in_service.py",
    "test_approval.py",
    "test_life.py",
    "test_notebooks.py",
    "test_sagemaker.py",
    "test_results_of_devices.py",
    "test_core_devices.py",
    "test_permissions.py",
)
"""The end-to-end tests that share one system, in this order: what compares the permissions with the calls
that were made comes last. The others make a second share of about the same length."""


def share(path: str) -> str:
    """Return what the tests of a file share a process with: the file's own, or one of the two shares."""
    folder, _, name = path.rpartition("/")
    if not folder.endswith("tests/e2e"):
        return path
    return "the path" if name in FIRST_SHARE else "beside the path"


class Shares(LoadScopeScheduling):
    """Gives each process whole shares (xdist's own groups are lost with this pytest)."""

    def _split_scope(self, nodeid: str) -> str:
        return share(nodeid.partition("::")[0])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Shares | None:
    """With ``--dist loadgroup``."""
    return Shares(config, log) if config.getvalue("dist") == "loadgroup" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The two long shares first, each in its own process; then what is short, wherever there is room."""
    ranks = {name: rank for rank, name in enumerate(FIRST_SHARE)}
    order = {"the path": 0, "beside the path": 1}

    def rank(item: pytest.Item) -> tuple[int, int]:
        return order.get(share(item.nodeid.partition("::")[0]), 2), ranks.get(item.path.name, 0)

    items.sort(key=rank)
