"""What a machine lacks to be a core device, and what to do about it."""

from __future__ import annotations

from pathlib import Path

import pytest

from isthmus.edge.preflight import examine, lacking
from isthmus.model.core_device import Flavour
from isthmus.model.units import GIB, MIB


def there(name: str) -> str:
    return f"/usr/bin/{name}"


def test_a_machine_that_has_all_lacks_nothing() -> None:
    found = examine("lite", Path("/"), skew_seconds=0.4, which=there, memory_bytes=GIB, free_bytes=GIB)
    assert {entry.level for entry in found} == {"ok"}
    assert lacking(found) == ""


@pytest.mark.parametrize(("flavour", "command"), [("classic", "java"), ("lite", "systemctl")])
def test_each_thing_that_is_missing_is_named_with_what_mends_it(flavour: Flavour, command: str) -> None:
    found = examine(
        flavour,
        Path("/"),
        skew_seconds=-400,
        which=lambda name: None,
        memory_bytes=50 * MIB,
        free_bytes=10 * MIB,
    )
    missing = {entry.check: entry for entry in found if entry.level == "missing"}
    assert set(missing) == {"Python", "nucleus", "memory", "disk", "clock"}
    assert all(entry.mend for entry in missing.values())
    sentence = lacking(found)
    assert f"no {command}" in sentence
    assert "no python3.13" in sentence
    assert "50.0 MiB; " in sentence
    assert "-400 s against AWS" in sentence


def test_a_clock_that_is_somewhat_off_is_a_warning_and_an_unknown_one_no_reason() -> None:
    for skew, level in ((90.0, "warn"), (None, "unknown")):
        found = examine("lite", Path("/"), skew_seconds=skew, which=there, memory_bytes=GIB, free_bytes=GIB)
        assert {entry.check: entry.level for entry in found}["clock"] == level
        assert lacking(found) == ""


def test_this_machine_is_measured(tmp_path: Path) -> None:
    found = examine("classic", tmp_path / "not/there/yet", skew_seconds=0, which=there)
    assert {entry.check for entry in found} >= {"memory", "disk"}
    assert not [entry for entry in found if "0 B" in entry.says.split(";")[0]]
