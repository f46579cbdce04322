from __future__ import annotations

import fcntl
import os
import sys
import threading
from pathlib import Path

import pytest

from isthmus.errors import AttemptLost, EnvironmentProblem, InvalidJob
from isthmus.rig.environments import MARKER, Environments, find_uv, source_folder

FAKE_UV = """#!/bin/sh
if [ "$1" = --version ]; then echo "uv 0.0.1"; exit 0; fi
echo built >> "{log}"
{body}
"""
MAKES_AN_INTERPRETER = (
    'mkdir -p "$UV_PROJECT_ENVIRONMENT/bin"; ln -s "{python}" "$UV_PROJECT_ENVIRONMENT/bin/python"'
)
OUR_PYTHON = f"=={sys.version_info[0]}.{sys.version_info[1]}.*"


@pytest.fixture
def definitions(tmp_path: Path) -> Path:
    """A framework of which the environment needs nothing: ``import mxnet`` finds an empty module."""
    folder = tmp_path / "definitions" / "mxnet-1.9.1"
    folder.mkdir(parents=True)
    (folder / "pyproject.toml").write_text(f'[project]\nname = "x"\nrequires-python = "{OUR_PYTHON}"\n')
    (folder / "uv.lock").write_text("lock 1\n")
    return folder.parent


def fake_python(tmp_path: Path, text: str = "exit 0") -> Path:
    path = tmp_path / "python"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def fake_uv(tmp_path: Path, body: str) -> str:
    path = tmp_path / "uv"
    path.write_text(FAKE_UV.format(log=tmp_path / "built.log", body=body))
    path.chmod(0o755)
    return str(path)


def builds(tmp_path: Path) -> int:
    log = tmp_path / "built.log"
    return len(log.read_text().splitlines()) if log.exists() else 0


def test_an_environment_is_built_once_and_again_for_another_lock(tmp_path: Path, definitions: Path) -> None:
    uv = fake_uv(tmp_path, MAKES_AN_INTERPRETER.format(python=fake_python(tmp_path)))
    environments = Environments(tmp_path / "envs", uv=uv, definitions=definitions)
    first = environments.ensure("mxnet", "1.9.1")
    assert environments.ensure("mxnet", "1.9.1") == first
    assert builds(tmp_path) == 1
    (definitions / "mxnet-1.9.1" / "uv.lock").write_text("lock 2\n")
    assert environments.ensure("mxnet", "1.9.1") != first
    assert builds(tmp_path) == 2


def test_a_half_built_environment_is_built_anew(tmp_path: Path, definitions: Path) -> None:
    uv = fake_uv(tmp_path, MAKES_AN_INTERPRETER.format(python=fake_python(tmp_path)))
    environments = Environments(tmp_path / "envs", uv=uv, definitions=definitions)
    folder = environments.ensure("mxnet", "1.9.1").parents[1]
    (folder / MARKER).unlink()
    (folder / "rubbish").write_text("left by a build that died")
    environments.ensure("mxnet", "1.9.1")
    assert builds(tmp_path) == 2
    assert not (folder / "rubbish").exists()


def test_a_failed_build_says_why_and_leaves_no_marker(tmp_path: Path, definitions: Path) -> None:
    uv = fake_uv(tmp_path, "echo 'error: No interpreter found for Python 3.13'; exit 2")
    lines: list[str] = []
    environments = Environments(tmp_path / "envs", uv=uv, definitions=definitions, progress=lines.append)
    with pytest.raises(EnvironmentProblem, match="found no fitting Python"):
        environments.ensure("mxnet", "1.9.1")
    assert not list((tmp_path / "envs").glob(f"*/{MARKER}"))
    assert any("No interpreter" in line for line in lines)


def test_a_missing_system_library_is_named_with_its_package(tmp_path: Path, definitions: Path) -> None:
    python = fake_python(tmp_path, "echo 'OSError: libquadmath.so.0: cannot open shared object file'; exit 1")
    uv = fake_uv(tmp_path, MAKES_AN_INTERPRETER.format(python=python))
    with pytest.raises(EnvironmentProblem, match="apt-get install libquadmath0"):
        Environments(tmp_path / "envs", uv=uv, definitions=definitions).ensure("mxnet", "1.9.1")


def test_an_unknown_version_is_refused_with_those_that_there_are(tmp_path: Path, definitions: Path) -> None:
    with pytest.raises(InvalidJob, match=r"mxnet 2\.0; there are: mxnet 1\.9\.1"):
        Environments(tmp_path / "envs", definitions=definitions).ensure("mxnet", "2.0")


def test_a_uv_that_only_looks_like_one_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shims, real = tmp_path / "shims", tmp_path / "real"
    shims.mkdir()
    real.mkdir()
    (shims / "uv").write_text("#!/bin/sh\necho 'pyenv: uv: command not found' >&2; exit 127\n")
    (shims / "uv").chmod(0o755)
    uv = fake_uv(real, "")
    monkeypatch.setenv("PATH", os.pathsep.join([str(shims), str(real), "/bin"]))
    monkeypatch.delenv("ISTHMUS_UV", raising=False)
    assert find_uv() == uv
    monkeypatch.setenv("ISTHMUS_UV", str(shims / "uv"))
    with pytest.raises(EnvironmentProblem, match="no working uv"):
        find_uv()


def test_a_stop_is_heard_while_an_environment_is_built_and_it_is_built_anew(
    tmp_path: Path, definitions: Path
) -> None:
    uv, stop = fake_uv(tmp_path, "echo fetching; exec tail -f /dev/null"), threading.Event()

    def hear(line: str) -> None:
        if line == "fetching":
            stop.set()

    environments = Environments(tmp_path / "envs", uv=uv, definitions=definitions, progress=hear)
    with pytest.raises(AttemptLost, match="stopped while uv sync ran"):
        environments.ensure("mxnet", "1.9.1", stop)
    stop.clear()
    fake_uv(tmp_path, MAKES_AN_INTERPRETER.format(python=fake_python(tmp_path)))
    assert environments.ensure("mxnet", "1.9.1", stop).exists()


def test_a_stop_is_heard_while_another_agent_builds(tmp_path: Path, definitions: Path) -> None:
    uv = fake_uv(tmp_path, MAKES_AN_INTERPRETER.format(python=fake_python(tmp_path)))
    environments = Environments(tmp_path / "envs", uv=uv, definitions=definitions)
    folder = environments.ensure("mxnet", "1.9.1").parents[1]
    (folder / MARKER).unlink()
    stop = threading.Event()
    stop.set()
    with (tmp_path / "envs" / f"{folder.name}.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(AttemptLost, match="another agent built mxnet"):
            environments.ensure("mxnet", "1.9.1", stop)


def test_what_was_not_used_for_long_makes_room_for_what_is_built(tmp_path: Path, definitions: Path) -> None:
    uv = fake_uv(tmp_path, MAKES_AN_INTERPRETER.format(python=fake_python(tmp_path)))
    environments = Environments(tmp_path / "envs", uv=uv, definitions=definitions)
    lock = definitions / "mxnet-1.9.1" / "uv.lock"
    folders = []
    for text in ("lock 1\n", "lock 2\n"):
        lock.write_text(text)
        folders.append(environments.ensure("mxnet", "1.9.1").parents[1])
    for folder in folders:
        os.utime(folder / MARKER, (0, 0))
    environments.ensure("mxnet", "1.9.1")  # uses the second
    lock.write_text("lock 3\n")
    third = environments.ensure("mxnet", "1.9.1").parents[1]
    assert {path.parent for path in (tmp_path / "envs").glob(f"*/{MARKER}")} == {folders[1], third}
    assert not folders[0].exists()


def test_those_that_are_named_are_prepared_and_without_a_name_those_that_fit(
    tmp_path: Path, definitions: Path
) -> None:
    other = definitions / "torch-2.13.0"
    other.mkdir()
    (other / "uv.lock").write_text("lock\n")
    (other / "pyproject.toml").write_text('[project]\nname = "x"\nrequires-python = "==3.9.*"\n')
    uv = fake_uv(tmp_path, MAKES_AN_INTERPRETER.format(python=fake_python(tmp_path)))
    environments = Environments(tmp_path / "envs", uv=uv, definitions=definitions)
    environments.prepare(["mxnet-1.9.1"])
    assert builds(tmp_path) == 1
    environments.prepare([])
    assert builds(tmp_path) == 2


def test_the_source_folder_holds_isthmus_alone(tmp_path: Path) -> None:
    folder = source_folder(tmp_path)
    assert source_folder(tmp_path) == folder
    assert [path.name for path in folder.iterdir()] == ["isthmus"]
    assert (folder / "isthmus" / "ports.py").is_file()
