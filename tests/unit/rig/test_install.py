"""A rig as a service: whose folder it has, who may read its unit, and what another user is told."""

from __future__ import annotations

import json
import os
import pwd
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from isthmus.adapters.systemd import Systemd
from isthmus.cli.main import main
from isthmus.cli.rig_operation import make_folder
from isthmus.errors import InvalidInput
from isthmus.model.rig_identity import RigIdentity
from isthmus.rig import certificate
from isthmus.rig.unit import Unit

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")


def other_user() -> pwd.struct_passwd:
    return next(
        user for user in pwd.getpwall() if user.pw_uid != os.geteuid() and user.pw_dir != str(Path.home())
    )


def test_with_sudo_a_service_works_in_the_home_of_whom_it_runs_as(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    user = other_user()
    monkeypatch.setenv("SUDO_USER", user.pw_name)
    assert main(["rig", "install", "--name", "lab-1", "--print", "--json"]) == 0
    lines = json.loads(capsys.readouterr().out)["text"].splitlines()
    assert f"User={user.pw_name}" in lines
    assert f"WorkingDirectory={user.pw_dir.rstrip('/')}/.local/share/isthmus" in lines
    assert "WantedBy=multi-user.target" in lines


def test_a_service_of_one_s_own_starts_with_one_s_own_manager() -> None:
    unit = Unit(rig="lab-1", folder=Path("/srv/isthmus"), command=("/bin/isthmus",), user="")
    assert "WantedBy=default.target" in unit.text().splitlines()


def test_a_user_that_is_not_there_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rig", "install", "--name", "lab-1", "--user", "no-such-user", "--print", "--json"]) != 0
    assert "has no user no-such-user" in "".join(capsys.readouterr())


@AS_ROOT
def test_what_root_makes_belongs_to_the_service_s_user(tmp_path: Path) -> None:
    user = other_user()
    make_folder(tmp_path / "home" / "isthmus", user.pw_name)
    assert (tmp_path / "home" / "isthmus").stat().st_uid == user.pw_uid
    assert (tmp_path / "home").stat().st_uid == user.pw_uid
    assert tmp_path.stat().st_uid == 0
    with pytest.raises(InvalidInput, match="no user"):
        make_folder(tmp_path / "another", "no-such-user")


def test_a_unit_is_read_by_its_manager_alone(tmp_path: Path) -> None:
    systemctl = tmp_path / "systemctl"
    systemctl.write_text("#!/bin/sh\n")
    systemctl.chmod(0o755)
    manager = Systemd(own=False, units=tmp_path / "units", systemctl=str(systemctl))
    for text in ("one", "two"):
        path = manager.install("isthmus-rig-lab-1.service", text)
        assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == (text, 0o600)
    assert list(path.parent.iterdir()) == [path]


@AS_ROOT
def test_a_certificate_that_root_renews_is_the_folder_owner_s(tmp_path: Path) -> None:
    os.chown(tmp_path, 65534, 65534)
    names = {"rig": "lab-1", "stack": "shop", "region": "eu-west-1", "endpoint": "here", "alias": "shop-rig"}
    made = RigIdentity(**names, certificate_id="c1")
    certificate.keep(tmp_path, made, b"key", "certificate")
    assert {path.stat().st_uid for path in tmp_path.rglob("*")} == {65534}


LOOKS = """
import os, sys
from pathlib import Path
from isthmus.errors import EnvironmentProblem
from isthmus.rig import certificate, identity

def enter(folder):
    with identity.sole_agent(folder):
        raise SystemExit("entered")

folder = Path(sys.argv[1])
if os.geteuid() == 0:
    os.setuid(65534)
for look in (identity.running_agent, identity.agent_id, enter, certificate.read):
    try:
        look(folder)
        raise SystemExit(f"{look} saw it")
    except EnvironmentProblem as error:
        print(error)
"""


def test_another_user_is_told_whose_the_agent_is(tmp_path: Path) -> None:
    folder = tmp_path / "rig"
    folder.mkdir(mode=0)
    command = [sys.executable, "-c", textwrap.dedent(LOOKS), str(folder)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    folder.chmod(0o700)
    assert len(told) == 4
    assert all("is another user's: run this as that user, or with sudo" in line for line in told)
