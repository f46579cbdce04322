from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from isthmus.frameworks import launch
from isthmus.rig.environments import source_folder
from isthmus.rig.standby import Standby
from isthmus.rig.warden import kill_run

TELLS = """
import json, os, sys
told = {
    "argv": sys.argv, "folder": os.getcwd(), "path": sys.path, "name": __name__, "file": __file__,
    "variables": dict(os.environ), "stdin": sys.stdin.read(), "pid": os.getpid(),
}
print(json.dumps(told), flush=True)
"""


@pytest.fixture
def standby() -> Iterator[Standby]:
    made = Standby()
    yield made
    made.close()


class Site:
    """A training's code, and what a run is given."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "code"
        self.folder.mkdir()
        self.source = source_folder(folder)
        self.variables = {"PATH": os.environ["PATH"], "PYTHONPATH": str(self.source), "SM_HP_X": "1"}

    def start(
        self, standby: Standby, script: str, *arguments: str, **changes: str
    ) -> tuple[str, subprocess.Popen[bytes]]:
        (self.folder / "train.py").write_text(script)
        run_id, words = f"{'a' * 40}-1-{uuid.uuid4().hex}", ["train.py", *arguments]
        command = launch.command(sys.executable, str(self.source), "mxnet", words)
        return run_id, standby.start(run_id, command, self.folder, self.variables | changes)

    def told(self, standby: Standby, *arguments: str, **changes: str) -> tuple[str, Mapping[str, object]]:
        run_id, process = self.start(standby, TELLS, *arguments, **changes)
        with process:
            assert process.stdout is not None
            return run_id, json.loads(process.stdout.read())


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def waiting_below(standby: Standby) -> int:
    """Return the process id of the interpreter that waits under the warden."""
    warden_id = standby.waiting_process_id()
    assert warden_id is not None
    while True:
        children = Path(f"/proc/{warden_id}/task/{warden_id}/children").read_text().split()
        if children:
            return int(children[0])


def kill(process_id: int) -> None:
    """Kill a process and see it dead."""
    os.kill(process_id, signal.SIGKILL)
    while ") Z" not in Path(f"/proc/{process_id}/stat").read_text():
        continue


def test_an_interpreter_that_waited_shows_a_script_what_a_fresh_one_does(
    standby: Standby, site: Site
) -> None:
    cold_id, cold = site.told(standby, "--x", "1", SM_HP_Y="2")
    standby.ready()
    waited = waiting_below(standby)
    warm_id, warm = site.told(standby, "--x", "1", SM_HP_Y="2")
    assert warm["pid"] == waited
    differs = {"pid", "variables"}
    assert {k: v for k, v in cold.items() if k not in differs} == {
        k: v for k, v in warm.items() if k not in differs
    }
    assert json.dumps(cold["variables"]).replace(cold_id, warm_id) == json.dumps(warm["variables"])


def test_one_whose_start_would_have_been_another_is_not_used(standby: Standby, site: Site) -> None:
    site.told(standby)
    standby.ready()
    waited = waiting_below(standby)
    _, told = site.told(standby, PYTHONHASHSEED="7")
    assert told["pid"] != waited
    assert not Path(f"/proc/{waited}").exists()


def test_what_a_warm_script_forks_is_found_by_the_runs_id(standby: Standby, site: Site) -> None:
    site.told(standby)
    standby.ready()
    waited = waiting_below(standby)
    forks = (
        "import os, signal\nchild = os.fork()\n"
        "if child:\n    print(os.getpid(), child, flush=True)\nsignal.pause()\n"
    )
    run_id, process = site.start(standby, forks)
    with process:
        assert process.stdout is not None
        parent, _ = map(int, process.stdout.readline().split())
        assert parent == waited
        assert kill_run(run_id) == 2
        assert process.stdout.read() == b""


def test_the_end_of_the_lifeline_kills_a_warm_script(standby: Standby, site: Site) -> None:
    site.told(standby)
    standby.ready()
    _, process = site.start(standby, "print('ready', flush=True)\nimport signal\nsignal.pause()\n")
    with process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == b"ready\n"
        process.stdin.close()
        assert process.wait(20) == 137


def test_nothing_that_waits_outlives_the_agent(standby: Standby, site: Site) -> None:
    site.told(standby)
    standby.ready()
    waited = waiting_below(standby)
    standby.close()
    # Its pipe is closed by the warden's end: it leaves on its own.
    while Path(f"/proc/{waited}").exists() and ") Z" not in Path(f"/proc/{waited}/stat").read_text():
        continue


def test_a_warden_that_was_killed_while_it_waited_is_replaced(standby: Standby, site: Site) -> None:
    standby.ready()
    kill(standby.waiting_process_id() or 0)
    assert site.told(standby)[1]["argv"] == ["train.py"]
    standby.ready()
    kill(waiting_below(standby))
    assert site.told(standby)[1]["argv"] == ["train.py"]


def test_an_agent_that_dies_right_after_its_order_leaves_no_script(standby: Standby, site: Site) -> None:
    """The interpreter may not have been up when it was told: it does not show the run's id yet."""
    site.told(standby)
    for _ in range(3):
        standby.ready()
        run_id, process = site.start(standby, "import time\ntime.sleep(60)\n")
        with process:
            assert process.stdin is not None
            process.stdin.close()
            assert process.wait(20) == 137
        assert kill_run(run_id) == 0


def test_a_folder_that_is_gone_is_the_rigs_fault(standby: Standby, site: Site, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        standby.start("a-1-b", [sys.executable, "-c", ""], tmp_path / "gone", {})
