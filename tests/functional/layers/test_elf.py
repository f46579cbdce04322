"""Slimming a shared library: it loads and computes as before, and is smaller."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT / "layers"))

from elf import segments, slim  # noqa: E402

EXTENSION = Path(str(msgspec._core.__file__))


@pytest.fixture
def slimmed(tmp_path: Path) -> Path:
    path = tmp_path / EXTENSION.name
    path.write_bytes(slim(EXTENSION.read_bytes()))
    return path


def test_a_slimmed_extension_is_smaller_and_works(slimmed: Path) -> None:
    assert slimmed.stat().st_size < EXTENSION.stat().st_size
    code = (
        "import importlib.util as u, msgspec._utils\n"
        f"spec = u.spec_from_file_location('msgspec._core', {str(slimmed)!r})\n"
        "core = u.module_from_spec(spec); spec.loader.exec_module(core)\n"
        "print(core.json_encode([1, 'a']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.returncode) == ("""b'[1,"a"]'""", 0), done.stderr


def test_slimmed_twice_it_stays_the_same(slimmed: Path) -> None:
    assert slim(slimmed.read_bytes()) == slimmed.read_bytes()


def test_every_segment_keeps_its_bytes(slimmed: Path) -> None:
    before, after = EXTENSION.read_bytes(), slimmed.read_bytes()
    pairs = list(zip(segments(before), segments(after), strict=True))
    assert [new.address for _, new in pairs] == [old.address for old, _ in pairs]
    # The first segment begins with the file's header, which says where the program headers are now.
    for old, new in pairs[1:]:
        assert after[new.offset : new.end] == before[old.offset : old.end]


def test_what_is_no_library_stays_as_it_is() -> None:
    assert slim(b"#!/bin/sh\n") == b"#!/bin/sh\n"
