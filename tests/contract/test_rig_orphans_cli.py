"""``isthmus rig orphans`` as it is typed: late results are listed, claimed and discarded, against AWS's interfaces."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from isthmus import bootstrap
from isthmus.adapters.aws.session import client
from isthmus.cli.main import main
from isthmus.rig import orphans
from isthmus.rig.contract import Layout
from isthmus.rig.spool import Orphan, Spool, folder_name
from tests.contract.formation import REGION, Formation, outputs_of

pytestmark = pytest.mark.usefixtures("aws")

KEY, OTHER = "0123456789012345678901234567890123456789", "ab" * 20


@pytest.fixture
def folder(aws: None, tmp_path: Path) -> Path:
    """A rig's folder with two results that came too late; the table knows of both."""
    outputs = outputs_of("shop")
    client("dynamodb").create_table(
        TableName=outputs["Table"],
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk")],
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
    )
    client("s3").create_bucket(
        Bucket=outputs["Bucket"], CreateBucketConfiguration={"LocationConstraint": REGION}
    )
    Formation({"shop": []}).install()
    spool, records = Spool(tmp_path / "rig"), bootstrap.records(outputs["Table"])
    for job_key in (KEY, OTHER):
        late = Orphan(
            job_key=job_key,
            fencing=1,
            rig="lab-1",
            cause="attempt 2 has the lease",
            since="2026-01-01T00:00:00+00:00",
            metrics={"loss": 0.5},
        )
        kept = tmp_path / "rig/results" / folder_name(late)
        Layout(kept).model.mkdir(parents=True)
        (Layout(kept).model / "model.onnx").write_bytes(job_key.encode())
        orphan = msgspec.structs.replace(late, path=str(kept))
        spool.keep(orphan)
        orphans.tell(orphan, spool, records)
    return tmp_path / "rig"


def typed(capsys: pytest.CaptureFixture[str], folder: Path, *options: str | Path) -> Any:
    arguments = ["rig", "orphans", "lab-1", "--stack", "shop", "--folder", folder, *options, "--json"]
    assert main([str(argument) for argument in arguments]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_late_result_is_listed_claimed_and_gone(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = typed(capsys, folder)
    assert [(entry["job_key"], entry["cause"]) for entry in listed] == [
        (KEY, "attempt 2 has the lease"),
        (OTHER, "attempt 2 has the lease"),
    ]
    elsewhere = typed(capsys, tmp_path / "another machine")
    assert [(entry["job_key"], entry["path"]) for entry in elsewhere] == [(KEY, ""), (OTHER, "")]
    claimed = typed(capsys, folder, "--claim", KEY[:6], "--to", tmp_path / "mine")
    assert claimed == {"job_key": KEY, "attempt": 1, "files": ["model.onnx"]}
    assert (tmp_path / "mine/model.onnx").read_bytes() == KEY.encode()
    assert [entry["job_key"] for entry in typed(capsys, folder)] == [OTHER]
    assert typed(capsys, folder, "--discard", OTHER) == {"job_key": OTHER, "attempt": 1}
    assert typed(capsys, folder) == []
    assert typed(capsys, tmp_path / "another machine") == []
    assert list((folder / "results").iterdir()) == []


def test_what_is_not_here_is_refused_and_stays(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["rig", "orphans", "lab-1", "--stack", "shop", "--folder"]
    assert main([*command, str(folder), "--claim", "ffff", "--to", str(tmp_path / "mine")]) == 1
    assert f"there is no orphan of job ffff here; there are: {KEY}, {OTHER}" in capsys.readouterr().err
    assert main([*command, str(tmp_path / "another machine"), "--discard", KEY]) == 1
    assert f"there is no orphan of job {KEY} here" in capsys.readouterr().err
    assert len(typed(capsys, folder)) == 2
