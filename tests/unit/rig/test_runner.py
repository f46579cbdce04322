from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from rig_world import LEAVES_A_MODEL, World, training, zip_of

from isthmus.errors import InvalidJob
from isthmus.frameworks.printed import metrics_in
from isthmus.ports import TrainingRun
from isthmus.rig.child import Record
from isthmus.rig.joblog import JobLog
from isthmus.rig.runner import GRACE_SECONDS, TrainingRequest
from isthmus.rig.warden import RUN_ID, kill_run

SHOWS_ITS_WORLD = """
import json, os, sys
here = {"argv": sys.argv, "path0": sys.path[0], "cwd": os.getcwd(), "env": dict(os.environ), "name": __name__}
here["data"] = sorted(os.listdir(os.environ["SM_CHANNEL_TRAIN"]))
with open(os.path.join(os.environ["SM_OUTPUT_DATA_DIR"], "world.json"), "w") as file:
    json.dump(here, file)
print("epoch=2 loss=0.5")
print("epoch=3, loss=2.5e-1 validation:accuracy=.9 nan=nan path=/a=b")
"""
WAITS_FOR_EVER = """
import os, signal, subprocess, sys, threading
if "deaf" in sys.argv[-1]:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
print("waiting", flush=True)
threading.Event().wait()
"""


def request(world: World, files: dict[str, str], **changes: Any) -> TrainingRequest:
    data = world.folder / "data"
    data.mkdir(exist_ok=True)
    (data / "a.csv").write_text("1,2\n")
    code = zip_of(files, world.folder / "code.zip")
    return TrainingRequest(
        name="digits-1",
        run_id=f"run-{world.folder.name}-{os.getpid()}",
        training=training(code, **changes),
        code=code,
        channels={"train": data},
        work=world.folder / "work",
    )


def run(world: World, script: str, **changes: Any) -> TrainingRun:
    return world.runner().run(request(world, {"train.py": script}, **changes), threading.Event())


def test_a_script_sees_what_sagemaker_shows_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-1")
    monkeypatch.setenv("SOME_TOKEN", "secret-2")
    script = SHOWS_ITS_WORLD + LEAVES_A_MODEL
    done = run(world, script, hyperparameters={"epochs": 3, "b": 0.5, "flag": True})
    assert done.exit_code == 0, done.tail
    here = json.loads((done.output / "output/data/world.json").read_text())
    code = str(done.output / "code")
    assert here["argv"] == ["train.py", "-b", "0.5", "--epochs", "3", "--flag", "True"]
    assert (here["path0"], here["cwd"], here["name"]) == (code, code, "__main__")
    assert here["data"] == ["a.csv"]
    seen = here["env"]
    assert seen["SM_MODEL_DIR"] == str(done.output / "model")
    assert json.loads(seen["SM_HPS"]) == {"epochs": 3, "b": 0.5, "flag": True}
    assert (seen["SM_HP_EPOCHS"], seen["SM_CHANNELS"]) == ("3", '["train"]')
    assert (seen["TRAINING_JOB_NAME"], seen["SM_NUM_GPUS"]) == ("digits-1", "0")
    assert json.loads((done.output / "input/config/hyperparameters.json").read_text())["epochs"] == "3"
    assert "secret" not in json.dumps(seen)
    assert seen["HOME"] != os.environ["HOME"]


def test_metrics_are_the_last_finite_values_that_were_printed(world: World) -> None:
    done = run(world, SHOWS_ITS_WORLD + LEAVES_A_MODEL)
    assert done.metrics == {"epoch": 3.0, "loss": 0.25, "validation:accuracy": 0.9}


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("accuracy=0.98", {"accuracy": 0.98}),
        ("lr=1e-3;loss=-2", {"lr": 0.001, "loss": -2.0}),
        ("url=http://x?a=1", {}),
        ("version=1.2.3", {}),
        ("loss=inf", {}),
        ("loss=1e999", {}),
    ],
)
def test_metrics_in(line: str, found: dict[str, float]) -> None:
    assert metrics_in(line) == found


def test_however_many_metrics_a_script_prints_the_outcome_fits_into_a_table(tmp_path: Path) -> None:
    with JobLog(tmp_path / "log", head_bytes=1000, tail_bytes=1000) as log:
        record = Record(log)
        record.take(f"{'n' * 201}=1".encode())
        for number in range(1500):
            record.take(f"m{number}={number}".encode())
        record.take(b"m0=7 m1400=7 m1=1e-200")
    assert len(record.metrics) == 1000
    assert (record.metrics["m0"], record.metrics["m1"], record.metrics["m999"]) == (7.0, 0.0, 999.0)


def test_the_log_and_the_callback_get_every_line_and_the_tail_the_last_ones(world: World) -> None:
    lines: list[str] = []
    script = "for number in range(100):\n    print('line', number)\nraise SystemExit(3)\n"
    runner = world.runner(on_line=lines.append)
    done = runner.run(request(world, {"train.py": script}), threading.Event())
    assert done.exit_code == 3
    assert lines[:100] == [f"line {number}" for number in range(100)]
    assert (done.output / "train.log").read_text().splitlines()[:100] == lines[:100]
    assert "line 99" in done.tail
    assert "line 59" not in done.tail


def test_a_raising_script_leaves_its_last_lines_and_a_failure_file(world: World) -> None:
    done = run(world, "import helper\nhelper.work()\n")
    assert done.exit_code == 1
    assert done.tail.endswith("ModuleNotFoundError: No module named 'helper'")
    failure = (done.output / "output/failure").read_text()
    assert 'File "train.py", line 1' in failure
    assert "launch.py" not in failure


def test_a_script_that_leaves_no_model_fails_with_what_to_do(world: World) -> None:
    done = run(world, "print('done')\n")
    assert done.exit_code == 1
    assert "InvalidModel: the script left no model" in done.tail
    assert "net.export" in done.tail


@pytest.mark.parametrize("mode", ["polite", "deaf"])
def test_the_deadline_ends_the_script_and_all_that_it_started(world: World, mode: str) -> None:
    done = run(world, WAITS_FOR_EVER, deadline_seconds=1, hyperparameters={"mode": mode})
    assert done.exit_code == (143 if mode == "polite" else 137)
    assert not done.stopped
    assert "isthmus: stopped at its deadline of 1.0 s" in done.tail
    assert running(done) == []


def test_a_stop_ends_the_script(world: World) -> None:
    stop = threading.Event()
    runner = world.runner(on_line=lambda line: stop.set() if line == "waiting" else None)
    done = runner.run(request(world, {"train.py": WAITS_FOR_EVER}), stop)
    assert done.stopped
    assert done.exit_code == 143
    assert "stopped on request" in done.tail


DEAF_FAMILY = """
import signal, subprocess, sys, threading
signal.signal(signal.SIGTERM, signal.SIG_IGN)
grandchild = "import signal, threading; signal.signal(signal.SIGTERM, signal.SIG_IGN); threading.Event().wait()"
child = (
    "import signal, subprocess, sys, threading; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "subprocess.Popen([sys.executable, '-c', %r], start_new_session=True); print('waiting', flush=True);"
    "threading.Event().wait()" % grandchild
)
subprocess.Popen([sys.executable, "-c", child])
threading.Event().wait()
"""


def test_a_stop_kills_a_family_that_does_not_listen_when_the_grace_is_over(world: World) -> None:
    stop = threading.Event()
    runner = world.runner(on_line=lambda line: stop.set() if line == "waiting" else None)
    done = runner.run(request(world, {"train.py": DEAF_FAMILY}), stop)
    assert (done.stopped, done.exit_code) == (True, 137)
    assert running(done) == []


def test_the_grace_between_sigterm_and_sigkill_is_sagemakers() -> None:
    assert GRACE_SECONDS == 120


def test_a_missing_entry_point_is_refused(world: World) -> None:
    with pytest.raises(InvalidJob, match=r"has no train\.py"):
        world.runner().run(request(world, {"other.py": ""}), threading.Event())


def running(done: TrainingRun) -> list[str]:
    """Return the processes whose environment names the run's folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environment = (process / "environ").read_bytes()
        except OSError:
            continue
        if RUN_ID.encode() in environment and str(done.output).encode() in environment:
            found.append(process.name)
    return found


def test_kill_run_of_an_unknown_run_kills_nothing() -> None:
    assert kill_run("no-such-run") == 0
