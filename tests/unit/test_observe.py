"""What a function says: log lines about the right thing, spans only when sampled, metrics as registered.

Handlers run in an interpreter of their own, as in Lambda: what they log goes to its stdout.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from isthmus.observe import METRICS, correlation_id, emit

JOB = "a" * 40
HANDLER = """
import sys
from isthmus.errors import EnvironmentProblem, NoPlacement, PermissionMissing
from isthmus.observe import emit, observed

@observed
def handler(event, context):
    {body}
"""
RUN = """
import json, sys
sys.path.insert(0, sys.argv[1])
class Context:
    function_name = "shop-plan"; function_version = "1"; memory_limit_in_mb = 512
    invoked_function_arn = "arn:aws:lambda:eu-west-1:1:function:shop-plan"; aws_request_id = "r-1"
import plan_training.app as app
for event in json.loads(sys.argv[2]):
    try:
        print(json.dumps({"answer": app.handler(event, Context())}))
    except Exception as error:
        print(json.dumps({"raised": type(error).__name__}))
heavy = [name for name in sys.modules if name in ("aws_xray_sdk", "botocore.session")]
print(json.dumps({"modules": heavy}))
"""


@dataclass(frozen=True)
class Said:
    """What one call printed: each line that is a JSON object."""

    lines: list[dict[str, Any]]
    text: str

    def level(self, level: str) -> dict[str, Any]:
        (found,) = [line for line in self.lines if line.get("level") == level]
        return found

    def field(self, name: str) -> Any:
        return next(line[name] for line in self.lines if name in line)


def call(folder: Path, body: str, *events: dict[str, Any], **env: str) -> Said:
    """Run a handler ``plan_training`` with this body on each event."""
    (folder / "plan_training").mkdir()
    (folder / "plan_training/app.py").write_text(HANDLER.format(body=body))
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(folder), json.dumps(events)],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"], "POWERTOOLS_SERVICE_NAME": "isthmus", **env},
    )
    assert done.returncode == 0, done.stderr
    return Said([json.loads(line) for line in done.stdout.splitlines()], done.stdout + done.stderr)


def test_a_call_says_whom_it_was_about_and_nothing_of_its_payload(tmp_path: Path) -> None:
    event = {"job_key": JOB, "fencing": 2, "token": "secret-token", "body": "a person's picture"}
    said = call(tmp_path, "return 1", event)
    line = said.level("INFO")
    assert (line["job_key"], line["fencing"], line["correlation_id"]) == (JOB, 2, JOB)
    assert line["function_name"] == "shop-plan"
    assert line["milliseconds"] >= 0
    assert "secret-token" not in said.text
    assert "picture" not in said.text


def test_keys_do_not_stay_for_the_next_call(tmp_path: Path) -> None:
    said = call(tmp_path, "return 1", {"job_key": JOB}, {"id": "e-2"})
    first, second = [line for line in said.lines if line.get("message") == "done"]
    assert first["job_key"] == JOB
    assert second["correlation_id"] == "e-2"
    assert "job_key" not in second


def test_a_failure_with_a_name_is_a_warning(tmp_path: Path) -> None:
    said = call(tmp_path, "raise NoPlacement('no device may')", {"job_key": JOB})
    line = said.level("WARNING")
    assert (line["error"], line["cause"], line["job_key"]) == ("NoPlacement", "no device may", JOB)
    assert said.field("raised") == "NoPlacement"
    assert not [entry for entry in said.lines if entry.get("level") == "ERROR"], (
        "no alarm: it is answered for"
    )


@pytest.mark.parametrize("fault", ["PermissionMissing", "EnvironmentProblem"])
def test_a_fault_of_the_deployment_is_an_error_with_its_cause(tmp_path: Path, fault: str) -> None:
    said = call(tmp_path, f"raise {fault}('the role may not')", {"job_key": JOB})
    line = said.level("ERROR")
    assert (line["error"], line["cause"], line["job_key"]) == (fault, "the role may not", JOB)
    assert said.field("raised") == fault


def test_any_other_failure_is_an_error(tmp_path: Path) -> None:
    said = call(tmp_path, "return event['missing']", {"job_key": JOB})
    line = said.level("ERROR")
    assert "KeyError" in line["exception"]
    assert said.field("raised") == "KeyError"


def test_libraries_do_not_talk_in_between(tmp_path: Path) -> None:
    body = "import logging; logging.getLogger('botocore.credentials').info('found them'); return 1"
    said = call(tmp_path, "import logging; logging.basicConfig(level='INFO'); " + body, {"job_key": JOB})
    assert "found them" not in said.text
    assert said.field("answer") == 1


def test_a_request_leaves_no_line_of_its_own(tmp_path: Path) -> None:
    said = call(tmp_path, "return 1", {"httpMethod": "GET", "path": "/v2"})
    assert [line for line in said.lines if "level" in line] == []


TRACE = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled={sampled}"


def test_a_call_that_is_not_sampled_loads_no_tracing(tmp_path: Path) -> None:
    env = {"_X_AMZN_TRACE_ID": TRACE.format(sampled=0), "LAMBDA_TASK_ROOT": str(tmp_path)}
    assert call(tmp_path, "return 1", {"job_key": JOB}, **env).field("modules") == []


def test_a_sampled_call_sends_a_span_with_its_job_and_without_its_answer(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as daemon:
        daemon.bind(("127.0.0.1", 0))
        daemon.settimeout(10)
        env = {
            "_X_AMZN_TRACE_ID": TRACE.format(sampled=1),
            "LAMBDA_TASK_ROOT": str(tmp_path),
            "AWS_XRAY_DAEMON_ADDRESS": f"127.0.0.1:{daemon.getsockname()[1]}",
        }
        said = call(tmp_path, "return 'a private answer'", {"job_key": JOB, "fencing": 2}, **env)
        datagram = daemon.recv(65536).decode()
    span = json.loads(datagram.partition("\n")[2])
    assert span["name"] == "## plan_training"
    assert span["trace_id"] == "1-5759e988-bd862e3fe1be46a994272793"
    assert span["annotations"]["job_key"] == JOB
    assert "private" not in datagram
    assert said.field("answer") == "a private answer"


def test_a_sampled_call_without_anybody_who_listens_is_silent(tmp_path: Path) -> None:
    env = {
        "_X_AMZN_TRACE_ID": TRACE.format(sampled=1),
        "LAMBDA_TASK_ROOT": str(tmp_path),
        "AWS_XRAY_DAEMON_ADDRESS": "127.0.0.1:1",
    }
    said = call(tmp_path, "return 1", {"job_key": JOB}, **env)
    assert said.field("answer") == 1
    assert [line["message"] for line in said.lines if "level" in line] == ["done"]


def emitted(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    line: dict[str, Any] = json.loads(capsys.readouterr().out)
    return line


def test_a_metric_is_a_line_in_the_embedded_format(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POWERTOOLS_METRICS_NAMESPACE", "shop")
    monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", "isthmus")
    emit({"RequestLatency": 12.5, "RequestFailed": 0}, facts={"status": 200}, model="digits")
    line = emitted(capsys)
    (directive,) = line["_aws"]["CloudWatchMetrics"]
    assert directive["Namespace"] == "shop"
    assert sorted(directive["Dimensions"][0]) == ["model", "service"]
    assert {entry["Name"]: entry["Unit"] for entry in directive["Metrics"]} == {
        "RequestLatency": "Milliseconds",
        "RequestFailed": "Count",
    }
    assert (line["model"], line["RequestLatency"], line["status"]) == ("digits", [12.5], 200)


def test_a_metric_that_is_not_registered_is_refused() -> None:
    with pytest.raises(KeyError):
        emit({"Invented": 1})


@pytest.mark.parametrize("dimensions", [{}, {"model": "m", "state": "s"}, {"user": "u"}])
def test_dimensions_that_are_not_the_metrics_are_refused(dimensions: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="RequestLatency has the dimensions"):
        emit({"RequestLatency": 1}, **dimensions)


def test_few_metrics_have_dimensions() -> None:
    """Each value of a dimension costs as a metric of its own: an argument for each, please."""
    assert {name: names for name, (_, names) in METRICS.items() if names} == {
        "PipelineEnded": ("state",),
        "RequestLatency": ("model",),
        "RequestFailed": ("model",),
        # Of a model with a baseline, once in so many requests; of a model with a shadow, while it has one.
        "InputDrift": ("model",),
        "InputShift": ("model",),
        # Of a model that devices send results of, once in some hundred answers of one of them.
        "AnswerDrift": ("model",),
        "ConfidenceDrift": ("model",),
        "ShadowLatency": ("model",),
        "ShadowFailed": ("model",),
        "ShadowDifference": ("model",),
    }


EVENTS = [
    ({"job_key": JOB, "model": "m"}, JOB),
    ({"rollout": "r-1", "model": "m"}, "r-1"),
    ({"requestContext": {"requestId": "q-1"}, "httpMethod": "GET"}, "q-1"),
    ({"id": "e-1", "detail": {"name": JOB, "status": "ABORTED"}}, JOB),
    ({"id": "e-1", "detail": {"object": {"key": "k"}}}, "e-1"),
    ({"RequestId": "c-1", "RequestType": "Update"}, "c-1"),
    ({"ping": True}, ""),
]


@pytest.mark.parametrize(("event", "expected"), EVENTS)
def test_what_ties_a_call_to_the_others(event: dict[str, Any], expected: str) -> None:
    assert correlation_id(event) == expected
