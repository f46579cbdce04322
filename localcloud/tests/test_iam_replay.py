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
from isthmus_localcloud.iam.replay import once, read

JOBS = "arn:aws:s3:::b/jobs/1"
WHO = {"kind": "role", "identity": "worker", "arn": "arn:aws:sts::0:assumed-role/worker/s"}


def recorded(folder: Path, *checks: tuple[Check, Decision], who: dict[str, str] = WHO) -> Path:
    file = folder / "iam.jsonl"
    recorder = Recorder(file)
    for check, decision in checks:
        recorder.add(who, check, decision, "s3:GetObject")
    recorder.flush()
    return file


def audit(
    folder: Path, file: Path, *statements: dict[str, Any], removals: list[dict[str, Any]] | None = None
) -> dict[str, Any]:
    policies, removed = folder / "policies.json", folder / "removals.jsonl"
    policies.write_text(json.dumps({"worker": [{"Statement": list(statements)}], "idle": []}))
    removed.write_text("".join(json.dumps(removal) + "\n" for removal in removals or []))
    command = [sys.executable, "-m", "isthmus_localcloud.iam.replay", str(file), str(policies), str(removed)]
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
        {
            **worker,
            "action": "s3:PutObject",
            "resource": JOBS,
            "operation": "s3:GetObject",
            "decision": "not allowed",
        }
    ]
    assert found["needless"] == [{**worker, "action": "s3:GetObject"}], "s3:Get* allows it as well"
    assert {"identity": "worker", "action": "s3:ListBucket"} in found["unused"]


def refused(found: dict[str, Any]) -> list[tuple[str, str]]:
    return [(entry["action"], entry["decision"]) for entry in found["refused"]]


def test_a_refusal_by_another_policy_than_the_identitys_is_told(tmp_path: Path) -> None:
    """A key's policy that consents to nobody, a boundary, a bucket's explicit deny."""
    decrypt, read_one = Check("kms:Decrypt", "arn:k"), Check("s3:GetObject", JOBS)
    file = recorded(tmp_path, (decrypt, Decision.NOT_ALLOWED), (read_one, Decision.DENIED))
    found = audit(tmp_path, file, grant(["kms:Decrypt", "s3:GetObject"]))
    assert refused(found) == [("kms:Decrypt", "not allowed"), ("s3:GetObject", "denied")]


def test_a_refused_delivery_of_a_service_is_told_and_a_stranger_is_not(tmp_path: Path) -> None:
    events = {"kind": "service", "identity": "events.amazonaws.com", "arn": "events.amazonaws.com"}
    stranger = {"kind": "user", "identity": "stranger", "arn": "arn:aws:iam::0:user/stranger"}
    send = (Check("sqs:SendMessage", "arn:q"), Decision.NOT_ALLOWED)
    file = recorded(tmp_path, send, who=events)
    recorded(tmp_path, send, who=stranger)
    found = audit(tmp_path, file)["refused"]
    assert [entry["identity"] for entry in found] == ["events.amazonaws.com"]


def test_a_missing_object_that_nobody_may_be_told_of_is_no_missing_permission(tmp_path: Path) -> None:
    listing = Check("s3:ListBucket", "arn:aws:s3:::b", implied=MISSING_OBJECT)
    file = recorded(tmp_path, (listing, Decision.NOT_ALLOWED))
    assert refused(audit(tmp_path, file)) == []
    file = recorded(tmp_path, (listing, Decision.DENIED))
    assert refused(audit(tmp_path, file)) == [("s3:ListBucket", "denied")]


def test_what_was_taken_away_on_purpose_is_no_refusal_while_it_was_away(tmp_path: Path) -> None:
    began = time.time()
    file = recorded(tmp_path, (Check("s3:GetObject", JOBS), Decision.NOT_ALLOWED))
    removal = {"identity": "worker", "actions": ["s3:GetObject"], "since": began, "until": time.time()}
    assert refused(audit(tmp_path, file, removals=[removal])) == []
    others = [
        {**removal, "identity": "idle"},
        {**removal, "actions": ["s3:PutObject"]},
        {**removal, "until": began},
        {**removal, "since": time.time() + 1, "until": time.time() + 2},
    ]
    assert refused(audit(tmp_path, file, removals=others)) == [("s3:GetObject", "not allowed")]


def test_the_same_refusal_after_it_was_given_back_is_told(tmp_path: Path) -> None:
    began, missing = time.time(), (Check("s3:GetObject", JOBS), Decision.NOT_ALLOWED)
    file = recorded(tmp_path, missing)
    removal = {"identity": "worker", "actions": ["s3:GetObject"], "since": began, "until": time.time()}
    recorded(tmp_path, missing)
    assert refused(audit(tmp_path, file, removals=[removal])) == [("s3:GetObject", "not allowed")]


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


def test_the_same_kind_of_call_counts_once(tmp_path: Path) -> None:
    line = (Check("s3:GetObject", JOBS), Decision.ALLOWED)
    began = time.time()
    found = list(once(read(recorded(tmp_path, line, line, line))))
    assert len(found) == 1 and found[0]["time"] >= began
