"""A dataset's whole path, and each way in which it may end. The tests run in this order."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import isthmus
from demo.samples import direct, held_out
from demo.system import RIG, CommandFailed, System, run
from tests.e2e import world
from tests.e2e.cleanup import client

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def first(system: System, digits: Path) -> dict[str, Any]:
    """The first model's job, ended."""
    return world.wait_for_end(system, system.push(digits, world.EXAMPLE / "job.yaml", "digits"))


@pytest.fixture(scope="module")
def bus(system: System) -> Iterator[str]:
    """A queue that hears everything that the stack's event bus carries; its URL."""
    sqs, events = client(system, "sqs"), client(system, "events")
    name = f"{system.stack}-events"
    url = sqs.create_queue(QueueName=name)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    rule = {"Name": name, "EventBusName": world.outputs(system)["EventBus"]}
    rule_arn = events.put_rule(**rule, EventPattern=json.dumps({"source": ["isthmus"]}))["RuleArn"]
    allow = {
        "Effect": "Allow",
        "Principal": {"Service": "events.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": arn,
        "Condition": {"ArnEquals": {"aws:SourceArn": rule_arn}},
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [allow]})
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})
    target = {"Rule": name, "EventBusName": rule["EventBusName"]}
    events.put_targets(**target, Targets=[{"Id": "tests", "Arn": arn}])
    yield url
    events.remove_targets(**target, Ids=["tests"])
    events.delete_rule(**rule)
    sqs.delete_queue(QueueUrl=url)


def heard(system: System, url: str, job_key: str) -> dict[str, Any]:
    """Return the event about a job."""
    sqs = client(system, "sqs")
    for _ in range(30):
        for message in sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=2).get(
            "Messages", []
        ):
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            event = json.loads(message["Body"])
            if event["detail"]["job_key"] == job_key:
                return dict(event)
    raise AssertionError(f"the bus carried no event about {job_key}")


def test_api_is_not_ready_before_the_first_model(
    system: System, bus: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert world.call(system, monkeypatch, "GET", "/v2/health/live").status == 200
    assert world.call(system, monkeypatch, "GET", "/v2/health/ready").status == 503
    with pytest.raises(CommandFailed, match="there is no model 'digits' in service"):
        world.ask(system, "digits", {"inputs": []}, system.folder)
    assert json.loads(system.isthmus("model", "list", "--json")) == []


def test_an_upload_ends_in_service(
    system: System, bus: str, first: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert first["state"] == "DEPLOYED", first
    assert first["candidate"] >= 0.98
    assert first["champion"] is None
    expected = [
        "RegisterDataset",
        "PlanTraining",
        "WaitForRig",
        "TrainOnRig",
        "EvaluateModel",
        "PackageModel",
    ]
    expected += ["RegisterModel", "DeployCloud", "DeployEdge"]
    assert world.steps_of(first)[: len(expected)] == expected
    assert heard(system, bus, first["job_key"])["detail-type"] == "isthmus job deployed"
    assert world.call(system, monkeypatch, "GET", "/v2/health/ready").status == 200
    metadata = json.loads(world.call(system, monkeypatch, "GET", "/v2/models/digits").body)
    assert (metadata["name"], metadata["versions"]) == ("digits", ["1"])


def test_the_release_is_in_the_model_registry(system: System, first: dict[str, Any]) -> None:
    group = world.outputs(system)["ModelGroup"]
    registry = client(system, "sagemaker")
    packages = registry.list_model_packages(ModelPackageGroupName=group)["ModelPackageSummaryList"]
    assert [package["ModelPackageDescription"] for package in packages] == ["digits release 1"]
    detail = registry.describe_model_package(ModelPackageName=packages[0]["ModelPackageArn"])
    assert detail["CustomerMetadataProperties"]["job_key"] == first["job_key"]


def test_cloud_and_edge_say_what_onnxruntime_says(
    system: System, digits: Path, first: dict[str, Any], with_core_device: bool, tmp_path: Path
) -> None:
    samples = held_out("digits", digits, 5)
    truth = direct("digits", _trained_model(system, first["job_key"], tmp_path), samples)
    _agrees(system, samples, truth, tmp_path)
    if with_core_device:
        _agrees(system, samples, truth, tmp_path, "--edge", system.edge_url)
        system.edge("cut")
        _agrees(system, samples, truth, tmp_path, "--edge", system.edge_url)
        system.edge("mend")


def _trained_model(system: System, job_key: str, folder: Path) -> Path:
    bucket = world.outputs(system)["Bucket"]
    listed = client(system, "s3").list_objects_v2(Bucket=bucket, Prefix=f"jobs/{job_key}/attempts/")[
        "Contents"
    ]
    key = next(entry["Key"] for entry in listed if entry["Key"].endswith("/model.onnx"))
    client(system, "s3").download_file(bucket, key, str(folder / "trained.onnx"))
    return folder / "trained.onnx"


def _agrees(
    system: System, samples: list[dict[str, Any]], truth: list[Any], folder: Path, *where: str
) -> None:
    for sample, expected in zip(samples, truth, strict=True):
        answer = world.ask(system, "digits", world.raw_request(sample), folder, *where)
        named = {output["name"]: output["data"] for output in answer["outputs"]}
        assert named["label"][0] == expected.label
        assert answer["outputs"][0]["data"] == pytest.approx(expected.logits, abs=1e-3)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"shape": [1, 63], "data": [0.0] * 63}, "raw"),
        ({"datatype": "FP64"}, "FP64"),
        ({"name": "pixels"}, "pixels"),
        ({"data": [0.0] * 10}, "64"),
    ],
    ids=["shape", "dtype", "name", "size"],
)
def test_a_wrong_request_is_answered_with_one_sentence(
    system: System, first: dict[str, Any], tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    tensor = {"name": "raw", "shape": [1, 64], "datatype": "FP32", "data": [0.0] * 64, **change}
    with pytest.raises(CommandFailed, match=r"HTTP 4\d\d") as error:
        world.ask(system, "digits", {"inputs": [tensor], "parameters": {"preprocess": True}}, tmp_path)
    assert said in str(error.value)


def test_the_same_upload_again_trains_nothing(system: System, digits: Path, first: dict[str, Any]) -> None:
    before = world.executions(system)
    assert system.push(digits, world.EXAMPLE / "job.yaml", "digits") == first["job_key"]
    # A later upload's execution is seen to start, so the earlier event has had its chance.
    other = system.push(
        digits, world.write_job(system.folder / "later", hyperparameters={"epochs": 14}), "digits"
    )
    ended = world.wait_for_end(system, other)
    assert ended["state"] in ("DEPLOYED", "REJECTED")
    assert set(world.executions(system)) == {*before, other}


def test_plain_s3_cp_starts_the_same_pipeline(
    system: System, digits: Path, first: dict[str, Any], tmp_path: Path
) -> None:
    job = world.write_job(tmp_path, hyperparameters={"epochs": 13})
    out = tmp_path / "upload"
    written = json.loads(
        system.isthmus("dataset", "manifest", digits, "--name", "digits", "--job", job, "--prefix", "v2",
                       "--out", out, "--json")
    )  # fmt: skip
    bucket = world.outputs(system)["Bucket"]
    manifest = Path(written["manifest_key"])
    world.aws(system, "s3", "cp", "--recursive", digits, f"s3://{bucket}/datasets/digits/v2/")
    world.aws(system, "s3", "cp", "--recursive", out, f"s3://{bucket}/", "--exclude", str(manifest))
    world.aws(system, "s3", "cp", out / manifest, f"s3://{bucket}/{manifest}")
    ended = world.wait_for_end(system, written["job_key"])
    assert ended["state"] in ("DEPLOYED", "REJECTED"), ended
    assert ended["candidate"] >= 0.97


def test_bad_manifests_fail_typed_and_train_nothing(
    system: System, digits: Path, first: dict[str, Any], tmp_path: Path
) -> None:
    bucket, s3 = world.outputs(system)["Bucket"], client(system, "s3")
    raw = json.loads(_manifest_of(system, digits, tmp_path))

    def upload(name: str, manifest: dict[str, Any]) -> None:
        body = json.dumps(manifest).encode()
        s3.put_object(Bucket=bucket, Key=f"datasets/digits/manifests/{name}.json", Body=body)

    before = set(world.executions(system))
    missing = {**raw["files"][0], "path": "train/gone.csv", "key": "v2/train/gone.csv"}
    wrong = {**raw["files"][0], "sha256": "1" * 64, "key": "v3/digits.csv", "size_bytes": 5}
    s3.put_object(Bucket=bucket, Key="datasets/digits/v3/digits.csv", Body=b"1,2,3")
    upload("malformed", {**raw, "files": "none"})
    upload("missing", {**raw, "files": [*raw["files"], missing]})
    upload(
        "wrong", {**raw, "files": [raw["files"][0], raw["files"][1], {**wrong, "path": "train/wrong.csv"}]}
    )
    ended = _new_executions(system, before, 3)
    jobs = [world.wait_for_end(system, name, 180) for name in ended]
    failures = {job["error"]: job for job in jobs}
    assert set(failures) == {"InvalidManifest", "MissingFile", "DigestMismatch"}, jobs
    assert "manifests/malformed.json" in failures["InvalidManifest"]["cause"]
    assert "train/gone.csv" in failures["MissingFile"]["cause"]
    assert "train/wrong.csv" in failures["DigestMismatch"]["cause"]
    assert all(job["state"] == "FAILED" and "PlanTraining" not in world.steps_of(job) for job in jobs)


def _manifest_of(system: System, digits: Path, folder: Path) -> str:
    job = world.write_job(folder, hyperparameters={"epochs": 12})
    out = folder / "manifest"
    arguments = ("--name", "digits", "--job", job, "--prefix", "v2", "--out", out, "--json")
    written = json.loads(system.isthmus("dataset", "manifest", digits, *arguments))
    bucket = world.outputs(system)["Bucket"]
    world.aws(system, "s3", "cp", "--recursive", out, f"s3://{bucket}/", "--exclude", written["manifest_key"])
    return (out / written["manifest_key"]).read_text()


def _new_executions(system: System, before: set[str], count: int) -> list[str]:
    from demo.system import wait_until

    wait_until(lambda: len(set(world.executions(system)) - before) >= count, f"{count} executions", 60)
    return sorted(set(world.executions(system)) - before)


def test_a_raising_script_fails_with_its_own_last_lines(
    system: System, bus: str, digits: Path, first: dict[str, Any], tmp_path: Path
) -> None:
    served = world.champion(system, "digits")
    script = "print('about to read the labels')\nraise ValueError('the labels are upside down')\n"
    ended = world.wait_for_end(
        system, system.push(digits, world.write_job(tmp_path, script=script), "digits")
    )
    assert (ended["state"], ended["error"]) == ("FAILED", "TrainingFailed")
    assert "the labels are upside down" in ended["cause"]
    assert "about to read the labels" in ended["cause"]
    event = heard(system, bus, ended["job_key"])
    assert event["detail-type"] == "isthmus job failed"
    assert "the labels are upside down" in event["detail"]["cause"]
    assert world.champion(system, "digits") == served


def test_a_worse_candidate_is_rejected_with_both_scores(
    system: System, digits: Path, first: dict[str, Any], tmp_path: Path
) -> None:
    served = world.champion(system, "digits")
    job = world.write_job(
        tmp_path, hyperparameters={"epochs": 1, "learning-rate": 1e-5}, evaluation={"minimum": 0.0}
    )
    ended = world.wait_for_end(system, system.push(digits, job, "digits"))
    assert ended["state"] == "REJECTED", ended
    assert ended["candidate"] < ended["champion"] - 0.005
    assert "worse than the champion" in ended["reason"]
    assert "PackageModel" not in world.steps_of(ended)
    assert world.champion(system, "digits") == served


def test_a_stopped_job_is_an_end_on_record(
    system: System, bus: str, digits: Path, first: dict[str, Any], tmp_path: Path
) -> None:
    script = "import time\nprint('asleep loss=0.5', flush=True)\ntime.sleep(120)\n"
    key = system.push(digits, world.write_job(tmp_path, script=script), "digits")
    _await_line(system, "asleep")
    _is_seen_at_work(system, key)
    system.isthmus("job", "stop", key)
    assert heard(system, bus, key)["detail-type"] == "isthmus job aborted"
    assert world.wait_for_end(system, key)["state"] == "ABORTED"
    retried = system.isthmus("job", "retry", key)
    assert key in retried
    world.wait_for_step(system, key, "TrainOnRig")
    system.isthmus("job", "stop", key)
    assert world.wait_for_end(system, key)["state"] == "ABORTED"


def _is_seen_at_work(system: System, key: str) -> None:
    """A training's news and its rig's are there within seconds; the rig listens to nobody, and its agent is small."""
    from demo.system import wait_until

    def news() -> dict[str, Any]:
        return dict(json.loads(system.isthmus("pipeline", "show", key, "--json"))["metrics"])

    wait_until(lambda: news() == {"loss": 0.5}, "the training's metrics", 15)
    rig = json.loads(system.isthmus("rig", "status", RIG, "--json"))
    (agent,) = [agent for agent in rig["agents"] if agent["state"] == "running"]
    assert agent["job_key"] == key
    processes = world.descendants(system.agent_pid)
    assert len(processes) > 1, "the agent and its training"
    assert world.listening(processes) == []
    assert world.resident_bytes(system.agent_pid) < 150 * 2**20


def test_a_killed_rig_loses_nothing_and_versions_run_side_by_side(
    system: System, digits: Path, first: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "one").mkdir()
    slow = "import time\nprint('slow start', flush=True)\ntime.sleep(6)\n"
    source = {"offline_tolerance_seconds": 8}
    job = world.write_job(tmp_path / "one", script=slow, source=source)
    killed = system.push(digits, job, "digits")
    world.wait_for_step(system, killed, "TrainOnRig")
    _await_line(system, "slow start")
    system.kill_agent()
    second = tmp_path / "second"
    shutil.copytree(digits, second)
    with (second / "train/digits.csv").open("a") as stream:
        stream.write((second / "train/digits.csv").read_text().splitlines()[0] + "\n")
    other = system.push(second, world.EXAMPLE / "job.yaml", "digits")
    world.wait_for_step(system, other, "WaitForRig")
    running = [name for name, status in world.executions(system).items() if status == "RUNNING"]
    assert {killed, other} <= set(running)
    system.start_agent()
    ended = world.wait_for_end(system, killed)
    assert ended["state"] in ("DEPLOYED", "REJECTED"), ended
    assert world.steps_of(ended).count("TrainOnRig") == 2
    assert world.wait_for_end(system, other)["state"] in ("DEPLOYED", "REJECTED")


def _await_line(system: System, line: str) -> None:
    from demo.system import wait_until

    log = system.folder / "logs/rig.log"
    wait_until(lambda: line in log.read_text(), f"the script to print {line!r}", 60)


def test_an_imported_model_takes_the_same_steps(system: System, tmp_path: Path) -> None:
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = np.arange(6, dtype=np.float32).reshape(3, 2)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "scores",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, tmp_path / "scores.onnx")
    answer = json.loads(
        system.isthmus("model", "import", tmp_path / "scores.onnx", "--name", "scores", "--json")
    )
    ended = world.wait_for_end(system, answer["job_key"])
    assert ended["state"] == "DEPLOYED", ended
    assert "PlanTraining" not in world.steps_of(ended)
    tensor = {"name": "x", "shape": [2, 3], "datatype": "FP32", "data": [1, 0, 0, 0, 0, 1]}
    given = world.ask(system, "scores", {"inputs": [tensor]}, tmp_path)
    assert given["outputs"][0]["data"] == [0, 1, 4, 5]


def test_clients_at_once_each_get_their_own_answer(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    """32 of them, to the model that was imported; a small part of the benchmark ``api_concurrency``."""
    from benchmarks.api_concurrency import CLIENTS, ask_all

    world.at_home(system, monkeypatch)
    url = world.outputs(system)["ApiUrl"]
    counted = ask_all(lambda: isthmus.Client(api=url, attempts=1), requests=1000, clients=CLIENTS)
    assert (counted.requests, counted.mixed_up) == (1000, 0)
    assert counted.errors == 0, counted.kinds


def test_a_deploy_leaves_the_model_and_new_code_takes_the_same_proof(
    system: System, digits: Path, first: dict[str, Any], tmp_path: Path
) -> None:
    sample = held_out("digits", digits, 1)[0]
    before = world.champion(system, "digits")
    system.deploy()
    assert world.champion(system, "digits") == before
    rolled_out = set(world.executions(system, "DeployCloudMachine"))

    project = _changed_copy(tmp_path)
    run([system.bin / "sam", "build", "--config-env", "local"], system.env, cwd=project)
    failures: list[str] = []
    stop = threading.Event()
    asker = threading.Thread(target=_keep_asking, args=(system, sample, tmp_path, stop, failures))
    asker.start()
    try:
        system.deploy(project=project)
        new = sorted(set(world.executions(system, "DeployCloudMachine")) - rolled_out)
        assert any(name.startswith("digits-") for name in new), new
        from demo.system import wait_until

        wait_until(
            lambda: all(world.executions(system, "DeployCloudMachine")[name] != "RUNNING" for name in new),
            "the new code to be rolled out",
            180,
        )
    finally:
        stop.set()
        asker.join()
    states = world.executions(system, "DeployCloudMachine")
    assert {states[name] for name in new} == {"SUCCEEDED"}
    after = world.champion(system, "digits")
    assert (after["bundle"], after["release"]) == (before["bundle"], before["release"])
    assert int(after["version"]) > int(before["version"])
    assert not failures, failures[:3]


def _changed_copy(folder: Path) -> Path:
    """Copy what is built, with a change of the serving code."""
    from demo.stamp import READ, ROOT

    project = folder / "project"
    for name in READ:
        source, target = ROOT / name, project / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    for name in (".tools", ".venv"):
        (project / name).symlink_to(ROOT / name)
    app = project / "functions/serve_model/app.py"
    app.write_text(app.read_text() + "\n# A change that a deploy brings.\n")
    return project


def _keep_asking(
    system: System, sample: dict[str, Any], folder: Path, stop: threading.Event, failures: list[str]
) -> None:
    while not stop.wait(1):
        try:
            world.ask(system, "digits", world.raw_request(sample), folder)
        except CommandFailed as error:
            failures.append(str(error))
