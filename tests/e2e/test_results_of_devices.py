"""Results of a device on a deployed stack: through a cut network and a killed core each arrives once, in order; what is
told of them; and nobody sends under another's name."""

from __future__ import annotations

import gzip
import http.client
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper

from demo.stamp import ROOT
from demo.system import CORE, System, wait_until
from isthmus.client.place import Outgoing
from isthmus.client.results import ApiResults
from isthmus.edge.outbox import Outbox
from isthmus.errors import PermissionMissing
from isthmus.model import layout
from isthmus.model.results import Batch, Numbered, Result
from tests.bad_line import BadLine
from tests.e2e import world
from tests.e2e.cleanup import client
from tests.e2e.permissions import removals
from tests.e2e.permissions.policies import roles

pytestmark = pytest.mark.e2e
MODEL = "answers"


def linear_classifier(path: Path, data: Path) -> None:
    """Write ``scores [n, 10] = 4 * (x [n, 64] W + b)``, fitted to the digits by least squares."""
    rows = np.loadtxt(data / "train/digits.csv", delimiter=",", dtype=np.float32)
    inputs = np.column_stack([rows[:, :64] / 16, np.ones(len(rows), np.float32)])
    fitted = np.linalg.lstsq(inputs, np.eye(10, dtype=np.float32)[rows[:, 64].astype(int)], rcond=None)[0] * 4
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["xw"]),
            helper.make_node("Add", ["xw", "b"], ["scores"]),
        ],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 64])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 10])],
        [
            numpy_helper.from_array(fitted[:64].astype(np.float32), "w"),
            numpy_helper.from_array(fitted[64].astype(np.float32), "b"),
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


@pytest.fixture(scope="module")
def in_service(system: System, digits: Path, tmp_path_factory: pytest.TempPathFactory) -> System:
    """A system with a classifier that was judged on the digits."""
    folder = tmp_path_factory.mktemp("linear")
    linear_classifier(folder / "linear.onnx", digits)
    job = yaml.safe_load((ROOT / "examples/digits/job.yaml").read_text())
    job["evaluation"]["minimum"] = 0.8
    job["preprocessing"] = job["preprocessing"][:1]
    chosen = {
        name: job[name]
        for name in ("raw_shape", "raw_dtype", "preprocessing", "postprocessing", "evaluation")
    }
    (folder / "job.yaml").write_text(yaml.safe_dump(chosen))
    words = ("--name", MODEL, "--data", digits, "--job", folder / "job.yaml", "--json")
    key = json.loads(system.isthmus("model", "import", folder / "linear.onnx", *words))["job_key"]
    ended = world.wait_for_end(system, key)
    assert ended["state"] == "DEPLOYED", ended
    return system


class Core:
    """``isthmus edge serve``, whose way to the cloud is a line that can be cut."""

    def __init__(self, system: System, folder: Path) -> None:
        self.system, self.folder = system, folder
        where = urlsplit(system.endpoint_url)
        self.line = BadLine((str(where.hostname), int(where.port or 80)), (), seed=1, one_in=0)
        self.env = {
            **system.env,
            "AWS_ENDPOINT_URL": "http://{}:{}".format(*self.line.address),
            "AWS_CA_BUNDLE": system.ca_bundle,
            "AWS_MAX_ATTEMPTS": "1",
        }
        (folder / "policy.yaml").write_text('zones: ["edge-*"]\nmay_leave: results\n')
        self.process: subprocess.Popen[bytes] | None = None
        self.port = 0

    def start(self) -> None:
        words = ("edge", "serve", MODEL, "--folder", self.folder / "device", "--port", "0", "--json")
        results = ("--results", self.system.folder / "core", "--results-seconds", "0.3")
        self.process = subprocess.Popen(
            [self.system.bin / "isthmus", *words, *results, "--policy", self.folder / "policy.yaml"],
            env=self.env,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=(self.folder / "core.log").open("ab"),
        )
        assert self.process.stdout is not None
        said = ""
        for line in self.process.stdout:
            said += line.decode()
            if line.startswith(b"}"):
                break
        assert said, (self.folder / "core.log").read_text()
        self.port = int(json.loads(said)["url"].rpartition(":")[2])

    def ask(self, rows: list[list[float]]) -> list[int]:
        """Return the class of each sample."""
        data = {"name": "raw", "shape": [len(rows), 64], "datatype": "FP32", "data": rows}
        asked = {"inputs": [data], "parameters": {"preprocess": True, "postprocess": True}}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("POST", f"/v2/models/{MODEL}/infer", json.dumps(asked))
        answer = json.loads(connection.getresponse().read())
        connection.close()
        return [
            int(each) for output in answer["outputs"] if output["name"] == "class" for each in output["data"]
        ]

    def held(self) -> int:
        outbox = Outbox(self.folder / "device/outbox", CORE)
        try:
            return outbox.state().held
        finally:
            outbox.close()

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


@pytest.fixture(scope="module")
def core(in_service: System, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Core]:
    found = Core(in_service, tmp_path_factory.mktemp("core"))
    try:
        found.start()
        yield found
    finally:
        found.kill()
        found.line.close()


def arrived(system: System) -> list[dict[str, Any]]:
    """Return the rows in the bucket, in the order of the objects' names."""
    s3, bucket = client(system, "s3"), world.outputs(system)["Bucket"]
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"results/device={CORE}/")
    names = sorted(entry["Key"] for page in pages for entry in page.get("Contents", []))
    raw = b"".join(gzip.decompress(s3.get_object(Bucket=bucket, Key=name)["Body"].read()) for name in names)
    return [json.loads(line) for line in raw.splitlines()]


def shown(system: System) -> dict[str, Any]:
    (found,) = json.loads(system.isthmus("edge", "results", MODEL, "--json"))
    return dict(found)


def test_each_result_arrives_once_and_in_order_through_a_cut_and_a_kill(core: Core, digits: Path) -> None:
    samples = np.loadtxt(digits / "test/digits.csv", delimiter=",")[:, :64].tolist()
    answers = [core.ask([sample]) for sample in samples[:5]]
    wait_until(lambda: len(arrived(core.system)) == 5, "the first results", 60)
    core.line.strike("cut", shut_seconds=3600)
    answers += [core.ask([sample]) for sample in samples[5:25]]
    wait_until(lambda: core.held() == 20, "what is answered offline to be kept", 30)
    core.kill()
    core.start()
    answers += [core.ask([sample]) for sample in samples[25:35]]
    wait_until(lambda: core.held() == 30, "what is answered after the kill to be kept", 30)
    core.line.mend()
    wait_until(lambda: core.held() == 0, "all to be sent", 60)
    rows = arrived(core.system)
    assert [row["sequence"] for row in rows] == list(range(1, 36))
    assert [[entry["index"] for entry in row["outputs"]["predictions"]] for row in rows] == answers
    assert {(row["model"], row["outputs"]["way"]) for row in rows} == {(MODEL, "local")}
    found = shown(core.system)
    assert (found["device"], found["results"], found["dropped"], found["outboxes"]) == (CORE, 35, 0, 1)
    assert found["models"][0]["answers"] == 35


def test_answers_that_drift_are_told_of(core: Core, digits: Path) -> None:
    before = shown(core.system)["results"]
    zero = np.loadtxt(digits / "test/digits.csv", delimiter=",")[:, :64].tolist()[0]
    for _ in range(2):
        core.ask([zero] * 150)
    wait_until(lambda: shown(core.system)["results"] == before + 2, "them to arrive", 60)
    (model,) = shown(core.system)["models"]
    assert model["drifted"] is True
    assert model["drift"]["classes"] > 1


def test_a_mark_that_is_lost_is_made_again_from_what_is_in_the_bucket(core: Core, digits: Path) -> None:
    table = world.outputs(core.system)["Table"]
    (row, *_), before = arrived(core.system), shown(core.system)
    key = {"pk": {"S": layout.RESULTS}, "sk": {"S": layout.results_sk(CORE, row["outbox"])}}
    client(core.system, "dynamodb").delete_item(TableName=table, Key=key)
    core.ask([np.loadtxt(digits / "test/digits.csv", delimiter=",")[0, :64].tolist()])
    wait_until(lambda: len(arrived(core.system)) > before["results"], "the next result to arrive", 60)
    wait_until(lambda: core.held() == 0, "it to be confirmed", 60)
    numbers = [entry["sequence"] for entry in arrived(core.system)]
    assert numbers == list(range(1, before["results"] + 2))
    assert shown(core.system)["results"] == before["results"] + 1


def test_nobody_sends_under_anothers_name(
    core: Core, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from isthmus.bootstrap_results import signed_as

    world.at_home(core.system, monkeypatch)
    monkeypatch.setenv("AWS_CA_BUNDLE", core.system.ca_bundle)
    sign = signed_as(core.system.folder / "core")
    result = Result(model=MODEL, release=1, at_ms=0, outputs=msgspec.Raw(b"{}"))
    batch = Batch(device="other", outbox="0" * 32, results=[Numbered(sequence=1, result=result)])
    sink = ApiResults(world.outputs(core.system)["ApiUrl"], lambda request: sign(request))
    end = removals.begin(core.system, roles(core.system)["Core"], "execute-api:Invoke")
    try:
        with pytest.raises(PermissionMissing, match="takes no results of other from this device"):
            sink.send(batch)
    finally:
        end()
    request = sign(Outgoing("POST", world.outputs(core.system)["ApiUrl"] + f"/results/{CORE}", {}, b"{}"))
    where = urlsplit(request.url)
    connection = http.client.HTTPConnection(where.netloc, timeout=30)
    connection.request("POST", where.path, request.body, dict(request.headers))
    answer = connection.getresponse()
    assert (answer.status, "the batch cannot be used" in answer.read().decode()) == (400, True)
