"""Deciding a record again: what was refused, what was never used, and what nothing would miss."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from isthmus_localcloud.iam.calls import MISSING_OBJECT, Check
from isthmus_localcloud.iam.policies import Decision
from isthmus_localcloud.iam.record import Recorder
from isthmus_localcloud.iam.replay import read

JOBS = "arn:aws:s3:::b/jobs/1"
WHO = {"kind": "role", "identity": "worker", "arn": "arn:aws:sts::0:assumed-role/worker/s"}


def recorded(folder: Path, *checks: tuple[Check, Decision]) -> Path:
    file = folder / "iam.jsonl"
    recorder = Recorder(file)
    for check, decision in checks:
        recorder.add(WHO, check, decision, "s3:GetObject")
    recorder.flush()
    return file


def audit(folder: Path, file: Path, *statements: dict[str, Any]) -> dict[str, Any]:
    policies = folder / "policies.json"
    policies.write_text(json.dumps({"worker": [{"Statement": list(statements)}], "idle": []}))
    command = [sys.executable, "-m", "isthmus_localcloud.iam.replay", str(file), str(policies)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def grant(action: str | list[str], resource: str = "*", **condition: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": resource, "Condition": condition}


def test_a_right_that_was_used_and_is_needed_is_not_complained_of(tmp_path: Path) -> None:
    file = recorded(tmp_path, (Check("s3:GetObject", JOBS), Decision.ALLOWED))
    found = audit(tmp_path, file, grant("s3:GetObject", "arn:aws:s3:::b/jobs/*"))
    assert found == {"refused": [], "unused": [], "needless": []}


def test_refusals_unused_rights_and_needless_ones_are_told_apart(tmp_path: Path) -> None:
    file = recorded(
        tmp_path,
        (Check("s3:GetObject", JOBS), Decision.ALLOWED),
        (Check("s3:PutObject", JOBS), Decision.NOT_ALLOWED),
    )
    found = audit(tmp_path, file, grant(["s3:GetObject", "s3:ListBucket"]), grant("s3:Get*", JOBS))
    worker = {"identity": "worker"}
    assert found["refused"] == [
        {**worker, "action": "s3:PutObject", "resource": JOBS, "operation": "s3:GetObject"}
    ]
    assert found["needless"] == [{**worker, "action": "s3:GetObject"}], "s3:Get* allows it as well"
    assert {"identity": "worker", "action": "s3:ListBucket"} in found["unused"]


def test_a_call_that_was_refused_for_another_reason_is_no_missing_permission(tmp_path: Path) -> None:
    listing = Check("s3:ListBucket", "arn:aws:s3:::b", implied=MISSING_OBJECT)
    taken_away = Check("s3:GetObject", JOBS)
    file = recorded(tmp_path, (listing, Decision.NOT_ALLOWED), (taken_away, Decision.NOT_ALLOWED))
    assert audit(tmp_path, file, grant("s3:GetObject"))["refused"] == []
    assert [entry["action"] for entry in audit(tmp_path, file)["refused"]] == ["s3:GetObject"]


def test_a_call_counts_only_where_the_grant_covers_it(tmp_path: Path) -> None:
    keys = {"dynamodb:LeadingKeys": ["MODELS"]}
    file = recorded(tmp_path, (Check("dynamodb:GetItem", "arn:t", keys), Decision.ALLOWED))
    held = {"ForAllValues:StringLike": {"dynamodb:LeadingKeys": ["JOB#*"]}}
    assert audit(tmp_path, file, grant("dynamodb:GetItem", "arn:t", **held))["unused"]
    held = {"ForAllValues:StringLike": {"dynamodb:LeadingKeys": ["MODELS"]}}
    assert not audit(tmp_path, file, grant("dynamodb:GetItem", "arn:t", **held))["unused"]


def test_what_a_resources_policy_allowed_needs_no_right_of_the_identity(tmp_path: Path) -> None:
    file = recorded(tmp_path, (Check("s3:GetObject", JOBS), Decision.ALLOWED_BY_RESOURCE))
    assert audit(tmp_path, file, grant("s3:GetObject"))["unused"]


def test_the_record_is_bounded_and_keeps_the_newest(tmp_path: Path) -> None:
    file = tmp_path / "iam.jsonl"
    recorder = Recorder(file, max_bytes=2000)
    for number in range(50):
        recorder.add(WHO, Check("s3:GetObject", f"{JOBS}{number}"), Decision.ALLOWED, "s3:GetObject")
        recorder.flush()
    found = [line["resource"] for line in read(file)]
    assert found[-1] == f"{JOBS}49" and found[0] != f"{JOBS}0"
    assert sum(part.stat().st_size for part in tmp_path.iterdir()) < 3 * 2000


def test_the_same_kind_of_call_is_read_once(tmp_path: Path) -> None:
    line = (Check("s3:GetObject", JOBS), Decision.ALLOWED)
    began = time.time()
    found = list(read(recorded(tmp_path, line, line, line)))
    assert len(found) == 1 and found[0]["time"] >= began
