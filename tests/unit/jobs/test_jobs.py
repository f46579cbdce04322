"""Jobs from Python: what ``isthmus.submit`` makes of its arguments, and what it returns."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest

import isthmus
from isthmus.adapters.local.blobs import DirectoryBlobStore
from isthmus.adapters.local.pipeline import MemoryPipeline, run_of
from isthmus.adapters.local.queue import ManualClock
from isthmus.adapters.local.records import MemoryRecords
from isthmus.errors import InvalidInput, InvalidJob, MissingFile
from isthmus.jobs import StackHandle
from isthmus.jobs.starting import job_of
from isthmus.model import layout
from isthmus.sync.run_folder import MARKER

KEY = "a" * 40
SCRIPT = """
import os
import onnx
from onnx import TensorProto, helper

print("rate=" + os.environ["SM_HP_RATE"], flush=True)
print(open(os.path.join(os.environ["SM_CHANNEL_TRAIN"], "a.csv")).read(), flush=True)
open(os.path.join(os.environ["SM_OUTPUT_DATA_DIR"], "seen.txt"), "w").write("seen")
{more}
x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 2])
y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2])
graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "tiny", [x], [y])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
onnx.save(model, os.path.join(os.environ["SM_MODEL_DIR"], "model.onnx"))
"""
JOB: dict[str, Any] = {
    "model": "tiny",
    "source": {"framework": {"name": "mxnet", "version": "1.9.1"}, "hyperparameters": {"rate": 0.5}},
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a dataset; what runs here works below it."""
    (tmp_path / "data/train").mkdir(parents=True)
    (tmp_path / "data/train/a.csv").write_text("1,2\n")
    (tmp_path / "code").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def here(project: Path, more: str = "", **options: Any) -> Any:
    script = project / "code/train.py"
    script.write_text(SCRIPT.format(more=more))
    given: dict[str, Any] = {
        "job": JOB,
        "data": "data",
        "name": "tiny",
        "on": "local",
        "python": sys.executable,
    }
    return isthmus.submit(script, **(given | options))


def test_importing_isthmus_loads_nothing_of_it() -> None:
    code = "import sys, isthmus; print([m for m in sys.modules if m.startswith(('isthmus.', 'boto'))])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_script_runs_here_and_leaves_what_a_rig_would(project: Path) -> None:
    lines: list[str] = []
    handle = here(project, parameters={"rate": 0.25}, say=lines.append, out="out")
    assert handle.wait(progress=False) == "SUCCEEDED", handle.error
    assert {"rate=0.25", "1,2"} <= set(lines)
    assert handle.metrics["rate"] == 0.25
    names = {
        path.relative_to(project / "out").as_posix()
        for path in (project / "out").rglob("*")
        if path.is_file()
    }
    left = {"model.onnx", "export.json", "metrics.json", "curves.json", "train.log", "data/seen.txt"}
    assert names == left | {MARKER}
    assert json.loads((project / "out/curves.json").read_text())["curves"]["rate"]["values"] == [0.25]
    with pytest.raises(MissingFile, match=r"train\.py is a script"):
        handle.notebook()
    assert not list((project / ".isthmus/training").glob("run-*"))


def test_a_run_here_that_fails_says_why_and_keeps_what_it_left(project: Path) -> None:
    handle = here(project, "raise ValueError('no such digit')")
    assert handle.wait(progress=False) == "FAILED"
    assert "ValueError: no such digit" in handle.error
    assert (project / "train.run/data/seen.txt").read_text() == "seen"


def test_what_an_earlier_run_left_is_not_taken_for_this_ones_and_nothing_else_is_removed(
    project: Path,
) -> None:
    assert here(project, out="out").wait(progress=False) == "SUCCEEDED"
    (project / "out/mine.txt").write_text("mine")
    assert here(project, "raise ValueError", out="out").wait(progress=False) == "FAILED"
    assert not (project / "out/model.onnx").exists()
    assert (project / "out/data/seen.txt").exists()
    assert (project / "out/mine.txt").read_text() == "mine"


def test_the_notebook_of_an_earlier_run_is_not_this_ones(project: Path) -> None:
    notebook = {"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    (project / "code/n.ipynb").write_text(json.dumps(notebook))
    (project / "out/data").mkdir(parents=True)
    (project / "out/data/n.ipynb").write_text("an earlier one")
    nowhere = project / "no-such-python"
    handle = isthmus.submit(
        project / "code/n.ipynb",
        job={"model": "tiny", "source": {"framework": {"name": "mxnet", "version": "1.9.1"}}},
        data="data",
        name="tiny",
        on="local",
        python=nowhere,
        out="out",
    )
    assert handle.wait(progress=False) == "FAILED"
    with pytest.raises(MissingFile, match=r"n\.ipynb left no executed notebook in out"):
        handle.notebook()


@pytest.mark.parametrize("out", ["code", "code/helpers"])
def test_what_a_run_leaves_does_not_lie_among_the_code(project: Path, out: str) -> None:
    (project / "code/helpers").mkdir()
    (project / "code/helpers/a.py").write_text("")
    with pytest.raises(InvalidInput, match="needs a folder of its own"):
        here(project, out=out)


def test_data_are_streamed_here_too(project: Path) -> None:
    (project / "data/train/b.csv").write_text("3,4\n")
    script = """
    import os
    for epoch in range(2):
        with open(os.environ["SM_CHANNEL_TRAIN"] + f"_{epoch}") as pipe:
            print("read " + pipe.read().replace("\\n", " "), flush=True)
    """
    (project / "code/train.py").write_text(textwrap.dedent(script))
    job = {**JOB, "source": {**JOB["source"], "input_mode": "Pipe"}}
    lines: list[str] = []
    handle = isthmus.submit(
        "code/train.py",
        job=job,
        data="data",
        name="tiny",
        on="local",
        python=sys.executable,
        say=lines.append,
    )
    handle.wait(progress=False)
    assert lines[:2] == ["read 1,2 3,4 "] * 2, handle.error


def test_a_run_here_can_be_stopped(project: Path) -> None:
    began = threading.Event()
    handle = here(project, "import threading; threading.Event().wait()", say=lambda line: began.set())
    assert began.wait(60)
    assert handle.status == "RUNNING"
    handle.stop()
    assert handle.wait(progress=False) == "ABORTED"


def test_a_job_that_does_not_fit_starts_nothing_and_leaves_nothing(project: Path) -> None:
    with pytest.raises(InvalidJob, match="model"):
        here(project, job={"source": JOB["source"]})
    assert not list((project / ".isthmus/training").glob("run-*"))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"on": "laptop"}, "'laptop' is none of them"),
        ({"in_place": "clinic"}, "in_place is for jobs of a stack"),
        ({"on": "rig"}, "python is for jobs on this machine"),
    ],
)
def test_arguments_that_do_not_go_together_are_refused(
    project: Path, options: dict[str, Any], reason: str
) -> None:
    with pytest.raises(InvalidInput, match=reason):
        here(project, **options)


def test_a_job_names_the_entry_point_or_leaves_it_out(project: Path) -> None:
    entry = project / "code/n.ipynb"
    entry.write_text("{}")
    made, base = job_of(entry, JOB, {}, "rig")
    assert (made["source"]["entry_point"], made["wishes"]) == ("n.ipynb", {"run_on": "rig"})
    assert (base / made["source"]["code"]).resolve() == entry.parent
    written = project / "job.yaml"
    written.write_text("model: m\nsource: {code: code, entry_point: n.ipynb}\n")
    assert job_of(entry, written, {}, None)[0]["source"]["kind"] == "training"
    with pytest.raises(InvalidJob, match=r"the job runs .*, and not"):
        job_of(entry, {**JOB, "source": {**JOB["source"], "entry_point": "other.ipynb"}}, {}, None)


def test_parameters_go_over_hyperparameters_by_the_names_of_python(project: Path) -> None:
    job = {**JOB, "source": {**JOB["source"], "hyperparameters": {"learning-rate": 0.1, "epochs": 3}}}
    made, _ = job_of(project / "code/n.ipynb", job, {"learning_rate": 0.2, "seed": 1}, "local")
    assert made["source"]["hyperparameters"] == {"learning-rate": 0.2, "epochs": 3, "seed": 1}
    assert "wishes" not in made


# ------------------------------------------------------------------ a job of a stack


class Stack:
    """A control plane in memory, and the handle of a notebook's job."""

    def __init__(self, folder: Path) -> None:
        self.pipeline, self.records = MemoryPipeline(), MemoryRecords()
        self.blobs = DirectoryBlobStore(folder / "bucket")
        self.handle = StackHandle(
            KEY, "n.ipynb", folder / "out", self.pipeline, self.records, self.blobs, ManualClock()
        )

    def ends(self, state: str, files: dict[str, bytes], **outcome: Any) -> None:
        """Let the job run, print a metric, and end."""
        status = "SUCCEEDED" if state == "DEPLOYED" else "FAILED"
        self.pipeline.script[KEY] = [None, run_of(KEY, "RUNNING"), run_of(KEY, status)]
        pk, prefix = layout.job_pk(KEY), layout.attempt_output(KEY, 1)
        self.records.next_number(pk, "FENCING")
        told = {"state": "SUCCEEDED", "output": prefix, "metrics": {"loss": 0.5}, **outcome}
        self.records.update(pk, layout.LEASE, {"fencing": 1, "rig": "lab-1", "outcome": told})
        self.records.update(pk, layout.STATE, {"state": state, "model": "m", "dataset": "d"})
        listed = []
        for name, data in files.items():
            self.blobs.put(prefix + name, data)
            listed.append({"path": name, "sha256": self.blobs.sha256(prefix + name), "size_bytes": len(data)})
        self.blobs.put(f"{prefix}output.json", json.dumps({"files": listed}).encode())


def test_a_job_of_a_stack_is_followed_to_its_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stack = Stack(tmp_path)
    stack.ends("DEPLOYED", {"data/n.ipynb": b"{}", "train.log": b""})
    assert stack.handle.wait() == "DEPLOYED"
    assert (stack.handle.metrics, stack.handle.error) == ({"loss": 0.5}, "")
    assert stack.handle.notebook() == tmp_path / "out/data/n.ipynb"
    assert "n.ipynb" in capsys.readouterr().err


def test_a_notebook_that_lies_there_of_an_earlier_job_is_not_this_ones(tmp_path: Path) -> None:
    stack = Stack(tmp_path)
    stack.ends("DEPLOYED", {"train.log": b""})
    (tmp_path / "out/data").mkdir(parents=True)
    (tmp_path / "out/data/n.ipynb").write_bytes(b"an earlier one")
    with pytest.raises(MissingFile, match="left no executed notebook"):
        stack.handle.notebook()


def test_a_notebook_that_may_not_leave_its_rig_is_not_fetched_and_the_place_is_said(tmp_path: Path) -> None:
    stack = Stack(tmp_path)
    stack.ends("DEPLOYED", {"model.onnx": b"model"}, withheld="/srv/isthmus/withheld/a-1")
    stack.handle.wait(progress=False)
    with pytest.raises(MissingFile, match="it stays on lab-1, in /srv/isthmus/withheld/a-1"):
        stack.handle.notebook()


def test_a_job_of_a_stack_can_be_stopped(tmp_path: Path) -> None:
    stack = Stack(tmp_path)
    stack.pipeline.script[KEY] = [run_of(KEY, "RUNNING")]
    stack.handle.stop("enough")
    assert stack.pipeline.stopped == {KEY: "enough"}
