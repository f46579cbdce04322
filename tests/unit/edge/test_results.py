"""A core's answers become results beside the answers: whatever goes wrong there, the answer is the same."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from bundle_factory import LABELS, KeySigner, make_bundle

from isthmus.adapters.system import SystemThreads
from isthmus.bootstrap_results import device_name
from isthmus.edge.answered import Made, result_of
from isthmus.edge.core import EdgeCore, EdgeSettings
from isthmus.edge.outbox import Outbox
from isthmus.edge.result_settings import ResultSettings
from isthmus.edge.results import Results, open_results
from isthmus.edge.sender import Sender
from isthmus.errors import (
    EnvironmentProblem,
    InvalidDocument,
    IsthmusError,
    Unavailable,
)
from isthmus.inference.archive import pack_bundle
from isthmus.inference.http import HttpRequest, HttpResponse
from isthmus.model.results import Answered, Batch, Prediction, Result

INFER = "/v2/models/fashion/infer"
Core = Callable[..., EdgeCore]


def body(rows: list[list[float]], **parameters: object) -> bytes:
    data = {"name": "x", "datatype": "FP32", "shape": [len(rows), 4], "data": rows}
    return json.dumps({"inputs": [data], "parameters": parameters}).encode()


@pytest.fixture
def environment(tmp_path: Path, signer: KeySigner) -> dict[str, str]:
    make_bundle(tmp_path / "bundle", signer, release=7)
    (tmp_path / "inbox").mkdir()
    pack_bundle(tmp_path / "bundle", tmp_path / "inbox/model.zip")
    return {
        "ISTHMUS_MODEL_ARTIFACT": str(tmp_path / "inbox"),
        "ISTHMUS_EDGE_STORE": str(tmp_path / "store"),
        "ISTHMUS_PUBLIC_KEY": base64.b64encode(signer.public_key()).decode(),
        "ISTHMUS_EDGE_THREADS": "1",
        "ISTHMUS_EDGE_OUTBOX": str(tmp_path / "outbox"),
        "ISTHMUS_EDGE_POLICY": '{"may_leave":"results"}',
        "ISTHMUS_EDGE_DEVICE": "gate-1",
    }


class Cloud:
    """A sink that may be away: it fails as often as it is told to."""

    def __init__(self, failures: int = 0) -> None:
        self.failures, self.batches = failures, list[Batch]()

    def send(self, batch: Batch) -> int:
        if self.failures:
            self.failures -= 1
            raise Unavailable("no route")
        self.batches.append(batch)
        return batch.last


def started(environment: dict[str, str], sink: Cloud | None = None) -> tuple[EdgeCore, Results | None]:
    settings = EdgeSettings.from_env(environment)
    results = open_results(settings.results, sink, SystemThreads())
    core = EdgeCore(settings, None, results)
    core.start()
    return core, results


def ask(core: EdgeCore, rows: list[list[float]], **parameters: object) -> HttpResponse:
    return core.service.handle(
        HttpRequest("POST", INFER, {"content-type": "application/json"}, body(rows, **parameters))
    )


def kept(environment: dict[str, str]) -> list[Result]:
    outbox = Outbox(Path(environment["ISTHMUS_EDGE_OUTBOX"]), "gate-1")
    batch = outbox.batch()
    outbox.close()
    return [] if batch is None else [entry.result for entry in batch.results]


def test_each_answered_request_is_a_result(environment: dict[str, str]) -> None:
    core, _ = started(environment)
    first = ask(core, [[1, 2, 3, 4]], postprocess=True)
    ask(core, [[0, 0, 0, 0], [9, 0, 0, 0]])
    core.close()
    told = {output["name"]: output["data"] for output in json.loads(first.body)["outputs"]}
    one, two = kept(environment)
    assert (one.model, one.release) == ("fashion", 7)
    answered = msgspec.json.decode(one.outputs, type=Answered)
    assert answered.way == "local"
    assert answered.latency_ms > 0
    (found,) = answered.predictions
    assert (found.index, found.label) == (told["class"][0], told["label"][0])
    assert found.confidence == pytest.approx(told["score"][0], abs=1e-5)
    assert len(msgspec.json.decode(two.outputs, type=Answered).predictions) == 2


def test_what_is_refused_makes_no_result(environment: dict[str, str]) -> None:
    core, _ = started(environment)
    assert ask(core, [[1, 2, 3]]).status == 400
    asked = json.loads(body([[1, 2, 3, 4]])) | {"outputs": [{"name": "unknown"}]}
    refused = core.service.handle(HttpRequest("POST", INFER, {}, json.dumps(asked).encode()))
    assert refused.status == 400, "the model had run already"
    core.service.handle(HttpRequest("GET", "/v2/health/live"))
    core.close()
    assert kept(environment) == []


@pytest.mark.parametrize(
    "change", [{"ISTHMUS_EDGE_OUTBOX": ""}, {"ISTHMUS_EDGE_POLICY": '{"may_leave":"nothing"}'}]
)
def test_nothing_is_kept_unless_it_is_wanted_and_may_leave(
    environment: dict[str, str], tmp_path: Path, change: dict[str, str]
) -> None:
    cloud = Cloud()
    core, results = started({**environment, **change}, cloud)
    assert ask(core, [[1, 2, 3, 4]]).status == 200
    core.close()
    assert results is None
    assert not (tmp_path / "outbox").exists()
    assert cloud.batches == []


def test_a_disk_that_takes_nothing_changes_no_answer_and_is_told_of(
    environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "outbox").write_text("in the way of the folder")
    core, _ = started(environment)
    answers = [ask(core, [[1, 2, 3, number]]).status for number in range(5)]
    core.close()
    assert answers == [200] * 5
    told = json.loads((tmp_path / "store/status.json").read_text())["results"]
    assert told["missed"] == {"large": 0, "busy": 0, "unwritten": 5}
    assert "cannot be used" in told["problem"]


def test_a_result_that_is_too_large_is_counted(environment: dict[str, str], tmp_path: Path) -> None:
    core, _ = started(environment)
    assert ask(core, [[1, 2, 3, 4]] * 1000).status == 200
    assert ask(core, [[1, 2, 3, 4]] * 100_000).status == 200
    ask(core, [[1, 2, 3, 4]])
    core.close()
    told = json.loads((tmp_path / "store/status.json").read_text())["results"]
    assert told["missed"] == {"large": 2, "busy": 0, "unwritten": 0}
    assert told["held"] == 1


def test_a_process_sends_what_an_earlier_one_left(environment: dict[str, str]) -> None:
    core, _ = started(environment)
    for number in range(3):
        ask(core, [[1, 2, 3, number]])
    core.close()
    cloud = Cloud(failures=1)
    settings = EdgeSettings.from_env(environment).results
    assert settings is not None
    outbox = Outbox(settings.folder, settings.device)
    sender = Sender(outbox, cloud, SystemThreads())
    assert not sender.try_once()
    assert sender.problem == "no route"
    assert sender.try_once()
    assert (sender.sent, sender.problem, outbox.state().held) == (3, "", 0)
    assert [entry.sequence for batch in cloud.batches for entry in batch.results] == [1, 2, 3]
    outbox.close()


def test_answers_of_a_model_that_is_no_classifier_are_its_numbers(tmp_path: Path, signer: KeySigner) -> None:
    manifest = make_bundle(tmp_path / "bundle", signer).manifest
    outputs = {"logits": np.array([[1.5], [np.nan]], np.float32), "names": np.array(["a"], object)}
    found = result_of(Made(manifest, outputs, "split:2", 5, 1.25))
    answered = msgspec.json.decode(found.outputs, type=Answered)
    assert answered == Answered(way="split", latency_ms=1.25, values={"logits": [1.5, None]})
    assert found.priority == 0


def test_what_a_model_was_less_sure_of_is_kept_longer(tmp_path: Path, signer: KeySigner) -> None:
    manifest = make_bundle(tmp_path / "bundle", signer).manifest
    sure = result_of(Made(manifest, {"logits": np.array([[9.0, 0, 0]], np.float32)}, "", 0, 0))
    unsure = result_of(Made(manifest, {"logits": np.zeros((1, 3), np.float32)}, "", 0, 0))
    assert sure.priority < unsure.priority
    (found,) = msgspec.json.decode(unsure.outputs, type=Answered).predictions
    assert found == Prediction(index=0, label=LABELS[0], confidence=pytest.approx(1 / 3, abs=1e-6))


# ------------------------------------------------------------------------------------------ the settings


def test_settings_come_from_the_environment(environment: dict[str, str]) -> None:
    assert ResultSettings.from_env({}) is None
    named = {name: text for name, text in environment.items() if name != "ISTHMUS_EDGE_DEVICE"}
    more = {
        "ISTHMUS_EDGE_OUTBOX_MIB": "2",
        "ISTHMUS_EDGE_OUTBOX_DROP": "priority",
        "AWS_IOT_THING_NAME": "gate-2",
    }
    found = ResultSettings.from_env({**named, **more})
    assert found is not None
    assert (found.device, found.limit_bytes, found.drop, found.api) == ("gate-2", 2 << 20, "priority", "")


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"ISTHMUS_EDGE_POLICY": ""}, EnvironmentProblem, "must say what may leave"),
        ({"ISTHMUS_EDGE_DEVICE": ""}, InvalidDocument, "ISTHMUS_EDGE_DEVICE"),
        ({"ISTHMUS_EDGE_OUTBOX_DROP": "newest"}, EnvironmentProblem, "oldest or priority"),
        ({"ISTHMUS_EDGE_OUTBOX_MIB": "0"}, EnvironmentProblem, "a whole number from 1"),
        ({"ISTHMUS_EDGE_RESULTS_SECONDS": "soon"}, EnvironmentProblem, "a whole number from 1"),
    ],
)
def test_a_setting_that_cannot_be_is_one_sentence(
    environment: dict[str, str], change: dict[str, str], error: type[IsthmusError], said: str
) -> None:
    with pytest.raises(error, match=said):
        ResultSettings.from_env({**environment, **change})


# ------------------------------------------------------------------------------------------ who the device is


def test_the_device_is_whom_its_folder_holds_a_certificate_of(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="make this machine a core device"):
        device_name(tmp_path)
    (tmp_path / "isthmus-core.yaml").write_text("system: {thingName: gate-1}\n")
    with pytest.raises(EnvironmentProblem, match="write it anew with `isthmus edge join`"):
        device_name(tmp_path)
    told = {"awsRegion": "eu-west-1", "iotCredEndpoint": "cred.example", "iotRoleAlias": "shop-core"}
    files = {"certificateFilePath": "/c/abc/certificate.pem", "privateKeyPath": "/c/abc/private.key"}
    system = {"thingName": "gate-1", **files}
    found = {"system": system, "services": {"aws.greengrass.Nucleus": {"configuration": told}}}
    (tmp_path / "isthmus-core.yaml").write_text(json.dumps(found))
    assert device_name(tmp_path) == "gate-1"
