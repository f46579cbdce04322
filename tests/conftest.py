"""Of all tests: the number of skipped tests is asserted where it is known, so none passes by missing."""

from __future__ import annotations

import os

import pytest

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
