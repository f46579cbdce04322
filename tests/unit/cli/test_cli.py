"""The command line in an interpreter of its own, and in this one where that shows the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from isthmus.cli.job import describe
from isthmus.cli.main import main
from isthmus.cli.output import table
from isthmus.workflows.follow_job import JobStatus

NOWHERE = "http://127.0.0.1:9"
"""The discard port: nothing listens, so a connection is refused at once."""

JOB = """
model: digits
source:
  kind: training
  framework: {name: mxnet, version: 1.9.1}
  entry_point: train.py
  code: code
evaluation:
  inputs: {path: test/x.csv, decode: {format: csv}}
  labels: {path: test/y.csv, decode: {format: csv}}
"""


@pytest.fixture(autouse=True)
def no_account(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", NOWHERE)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.delenv("AWS_PROFILE", raising=False)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name, text in (
        ("data/test/x.csv", "1,2\n"),
        ("data/test/y.csv", "1\n"),
        ("code/train.py", ""),
        ("job.yaml", JOB),
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def isthmus(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "import sys; from isthmus.cli.main import main; sys.exit(main())", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env=dict(os.environ),
        timeout=60,
    )


def manifest_arguments(project: Path) -> list[str]:
    out = str(project / "out")
    job = str(project / "job.yaml")
    folder = str(project / "data")
    return [
        "dataset",
        "manifest",
        folder,
        "--name",
        "digits",
        "--job",
        job,
        "--prefix",
        "files",
        "--out",
        out,
    ]


def test_bare_it_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    said = capsys.readouterr().out
    for command in ("dataset", "job", "pipeline", "model", "predict", "rig", "policy", "local"):
        assert command in said


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["--version"])
    assert exit_.value.code == 0
    assert capsys.readouterr().out.startswith("isthmus ")


def test_json_is_exactly_one_document(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*manifest_arguments(project), "--json"]) == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert set(document) == {"job_key", "manifest_key"}
    assert captured.err == ""
    assert (project / "out" / document["manifest_key"]).is_file()


def test_what_manifest_writes_is_all_but_the_data(project: Path) -> None:
    assert main(manifest_arguments(project)) == 0
    written = [path.relative_to(project / "out").as_posix() for path in (project / "out").rglob("*.*")]
    kinds = sorted(name.split("/")[-2] if name.startswith("datasets") else "code" for name in written)
    assert kinds == ["code", "jobs", "manifests"]


def test_an_error_is_one_json_document_too(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "job.yaml").write_text("model: [")
    assert main([*manifest_arguments(project), "--json"]) == 2
    document = json.loads(capsys.readouterr().out)
    assert set(document) == {"error", "message"}
    assert document["error"] == "InvalidJob"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model: [", "is not YAML"),
        ("- a\n- b\n", "must hold a mapping, not list"),
        ("", "must hold a mapping, not NoneType"),
        ("model: digits\n", "needs a `source`"),
        (JOB.replace("model: digits", "modle: digits"), "modle"),
        (JOB.replace("1.9.1", "1.9"), "$.source.framework.version"),
        (JOB.replace("train.py", "gone.py"), "no entry point 'gone.py'"),
        (JOB.replace("kind: training", "kind: trainning"), "kind `training` or `import`"),
        (JOB.replace("format: csv", "format: parquet"), "parquet"),
        (JOB.replace("model: digits", "model: My Model"), "model"),
        ("a: \x00\n", "is not YAML"),
    ],
)
def test_a_mistake_in_the_job_is_one_sentence(
    project: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    (project / "job.yaml").write_text(text)
    code = main(manifest_arguments(project))
    captured = capsys.readouterr()
    assert code == 2
    assert said in captured.err
    assert captured.err.startswith("isthmus: ")
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_a_job_that_is_not_there(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "job.yaml").unlink()
    assert main(manifest_arguments(project)) == 2
    assert "job.yaml cannot be read: No such file" in capsys.readouterr().err


def test_a_bad_dataset_name_is_refused(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["../up" if entry == "digits" else entry for entry in manifest_arguments(project)]
    assert main(arguments) == 2
    assert not (project / "out").exists()
    assert "dataset" in capsys.readouterr().err


@pytest.mark.slow
def test_no_answer_from_aws_is_one_sentence_without_a_traceback() -> None:
    done = isthmus("job", "show", "k")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("isthmus: AWS could not be reached")
    assert "Traceback" not in done.stderr


def test_the_edge_that_does_not_answer_is_said(tmp_path: Path) -> None:
    (tmp_path / "request.json").write_text('{"inputs": []}')
    done = isthmus("predict", "digits", str(tmp_path / "request.json"), "--edge", NOWHERE, "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"] == "Unavailable"
    assert "Traceback" not in done.stderr


def test_a_request_that_is_not_there_is_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "digits", "/nowhere/request.json", "--edge", NOWHERE]) == 2
    assert "/nowhere/request.json cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["destroy", "--keep", "tables"], "--keep takes data, models, records, logs"),
        (["collect", "--keep", "0"], "--keep must be at least 1"),
    ],
)
def test_a_wrong_keep_is_bad_input_before_any_call(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert said in capsys.readouterr().err


@pytest.mark.slow
def test_the_doctor_without_aws_says_what_lacks_and_exits_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 1
    found = {entry["check"]: entry["level"] for entry in json.loads(capsys.readouterr().out)}
    assert found["credentials"] == "missing"
    assert found["permissions"] == "unknown"


def test_an_unknown_command_is_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["dance"])
    assert exit_.value.code == 2
    assert "invalid choice" in capsys.readouterr().err


def test_the_local_cloud_that_is_not_there_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ISTHMUS_LOCALCLOUD", str(tmp_path))
    assert main(["local", "up"]) == 1
    assert "run this in a clone of the repository" in capsys.readouterr().err
    (tmp_path / "pyproject.toml").touch()
    assert main(["local", "up", "--json"]) == 1
    assert "make localcloud" in json.loads(capsys.readouterr().out)["message"]


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        ({"state": "RUNNING", "step": "TrainOnRig"}, ["job k: RUNNING at TrainOnRig"]),
        (
            {"state": "REJECTED", "candidate": 0.9, "champion": 0.95, "reason": "worse"},
            ["job k: REJECTED", "accuracy 0.9000, champion's 0.9500: worse"],
        ),
        (
            {"state": "FAILED", "error": "MissingFile", "cause": "x is gone"},
            ["job k: FAILED", "MissingFile: x is gone"],
        ),
    ],
)
def test_a_jobs_status_as_text(changes: dict[str, Any], lines: list[str]) -> None:
    assert describe(JobStatus(job_key="k", **changes)).splitlines() == lines


def test_tables_line_up() -> None:
    rows = [{"name": "rig-1", "gpus": 2}, {"name": "r"}]
    assert table(rows, ("name", "gpus")).splitlines() == ["NAME   GPUS", "rig-1  2", "r      -"]
    assert table([], ("name",)) == "NAME"
