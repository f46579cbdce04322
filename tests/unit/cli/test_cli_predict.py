"""``isthmus predict`` against a real edge server, as a user types it."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "inference"))
sys.path.insert(0, str(Path(__file__).parents[1] / "client"))

from bundle_factory import LABELS, WEIGHTS, KeySigner, make_bundle
from scripted import Reply, ScriptedServer

from isthmus.cli.main import main
from isthmus.edge.server import EdgeServer
from isthmus.inference.service import ModelService, served

ROW = [[1.0, 2.0, 3.0, 4.0]]
PIXELS = np.array([[[0, 51], [102, 255]]], np.uint8)


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    bundle = make_bundle(tmp_path_factory.mktemp("predict") / "bundle", KeySigner())
    server = EdgeServer(ModelService([served(bundle, threads=1)]), 0, max_request_bytes=1 << 20)
    server.start()
    yield f"http://127.0.0.1:{server.port}"
    server.close()


@pytest.fixture
def scripted() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        yield server


@pytest.fixture
def predict(edge: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    def run(name: str, data: bytes, *options: str, where: str = edge) -> tuple[int, str, str]:
        (tmp_path / name).write_bytes(data)
        code = main(["predict", "fashion", str(tmp_path / name), "--edge", where, *options])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def npy(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()


def npz(**arrays: Any) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def request(**changes: Any) -> bytes:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": ROW}
    return json.dumps({"inputs": [tensor], **changes}).encode()


@pytest.fixture(params=["PNG", "JPEG"])
def picture(request: pytest.FixtureRequest) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(np.full((8, 8), 200, np.uint8)).save(stream, request.param)
    return stream.getvalue()


def test_a_picture_gets_labels(predict: Any, picture: bytes) -> None:
    # Neither the name nor the ending says what it is.
    code, out, _ = predict("thing", picture, "--top", "2")
    lines = out.splitlines()
    assert code == 0
    assert lines[0].startswith("fashion release 1, from the edge in ")
    assert [line.split()[:2] for line in lines[1:]] == [["1", LABELS[2]], ["2", LABELS[1]]]
    code, out, _ = predict("thing", picture, "--json")
    found = json.loads(out)
    assert [guess["label"] for guess in found["classes"]] == [LABELS[2], LABELS[1], LABELS[0]]
    assert (found["place"], found["attempts"]) == ("edge", 1)


@pytest.mark.parametrize(
    "data",
    [npy(PIXELS), npy(PIXELS[0]), npz(pixels=PIXELS)],
    ids=["npy", "without a batch axis", "npz"],
)
def test_an_array_in_the_raw_form_gets_labels(predict: Any, data: bytes) -> None:
    code, out, err = predict("pixels", data)
    assert (code, out.splitlines()[1].split()[:2]) == (0, ["1", LABELS[2]])
    assert err.startswith("asking http://127.0.0.1:")


@pytest.mark.parametrize(
    "data",
    [npy(np.array(ROW, np.float32)), npy(np.array(ROW[0], np.float32)), npz(x=np.array(ROW, np.float32))],
    ids=["npy", "without a batch axis", "npz"],
)
def test_an_array_of_the_models_own_form_is_sent_as_it_is(predict: Any, data: bytes) -> None:
    code, out, _ = predict("row", data, "--json")
    named = {tensor["name"]: tensor for tensor in json.loads(out)["outputs"]}
    assert code == 0
    np.testing.assert_allclose(named["logits"]["data"], (np.array(ROW) @ WEIGHTS)[0], rtol=1e-6)
    assert named["label"]["data"][0] == LABELS[2]


def test_many_samples_are_shown_one_by_one_and_not_all(predict: Any) -> None:
    _, out, _ = predict("pixels", npy(np.repeat(PIXELS, 12, axis=0)), "--top", "1")
    assert out.splitlines()[1:3] == ["sample 0", out.splitlines()[2]]
    assert out.splitlines()[-1] == "and 2 samples more; --json shows all"


def test_a_request_is_sent_as_it_is(predict: Any) -> None:
    code, out, _ = predict("request.json", request(id="mine"), "--json")
    found = json.loads(out)
    assert (code, found["id"], found["model_version"]) == (0, "mine", "1")
    assert found["outputs"][0]["data"] == pytest.approx((np.array(ROW) @ WEIGHTS)[0].tolist())
    code, out, _ = predict("request.json", request())
    assert (code, "logits float32 [1, 3]: [[" in out) == (0, True)


def test_bytes_that_a_request_asks_for_are_shown_as_numbers(predict: Any) -> None:
    _, out, _ = predict("request.json", request(parameters={"binary_data_output": True}), "--json")
    assert json.loads(out)["outputs"][0]["data"] == pytest.approx((np.array(ROW) @ WEIGHTS)[0].tolist())


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"GIF89a", "must be a PNG or JPEG picture, .npy, .npz, or a request as JSON"),
        (b"", "must be a PNG or JPEG picture"),
        (b"{}", 'needs "inputs"'),
        (b"[1]", 'needs "inputs"'),
        (b"PK\x03\x04rest", "holds no arrays"),
        (npy(np.zeros(3))[:-4], "holds no arrays"),
        (
            b"\x93NUMPY\x01\x00v\x00"
            + b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }".ljust(118),
            "Object",
        ),
        (
            npy(np.zeros((1, 4))),
            r"the array is float64 [1, 4]; model 'fashion' takes x FP32 [-1, 4], pixels UINT8 [-1, 2, 2]",
        ),
    ],
)
def test_what_cannot_be_sent_is_one_sentence(predict: Any, data: bytes, said: str) -> None:
    code, out, err = predict("input", data)
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.strip().splitlines()[-1].split("isthmus: ")) == 2


def test_what_the_server_refuses_is_one_sentence(predict: Any) -> None:
    code, _, err = predict("request.json", request(inputs=[]))
    assert code == 2
    assert "isthmus: the edge answered HTTP 400: input 'x' is missing" in err
    code, out, _ = predict("request.json", request(), "--version-of-model", "9", "--json")
    assert (code, json.loads(out)["error"]) == (2, "UnknownModel")


def test_an_answer_that_is_none_is_said(predict: Any, scripted: ScriptedServer) -> None:
    scripted.script = [Reply(200, b"<html>")]
    code, _, err = predict("request.json", request(), where=scripted.url)
    assert code == 1
    assert "it is no answer to an inference request" in err


def test_the_deadline_is_the_users(predict: Any, scripted: ScriptedServer) -> None:
    scripted.script = [Reply(hangs=True)]
    code, _, err = predict("request.json", request(), "--deadline", "0.2", where=scripted.url)
    assert (code, "no answer within 0.2 s" in err) == (1, True)


def test_the_api_is_asked_where_the_device_does_not_answer(predict: Any, edge: str, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret\n")
    where = ("--api", edge, "--token-file", str(tmp_path / "token"))
    code, out, _ = predict("request.json", request(), "--json", *where, where="http://127.0.0.1:9")
    assert (code, json.loads(out)["place"], json.loads(out)["attempts"]) == (0, "cloud", 2)


def test_an_api_key_of_a_file_goes_along(predict: Any, scripted: ScriptedServer, tmp_path: Path) -> None:
    scripted.script = [Reply(403, {"error": "another key"})]
    for name, text in (("token", "secret\n"), ("key", "k" * 20 + "\n")):
        (tmp_path / name).write_text(text)
    files = ("--token-file", str(tmp_path / "token"), "--api-key-file", str(tmp_path / "key"))
    where = ("--api", scripted.url, *files)
    code, _, err = predict("request.json", request(), *where, where="http://127.0.0.1:9")
    assert (code, "another key" in err) == (1, True)
    for _, _, headers, _ in scripted.seen:
        assert {name.lower(): value for name, value in headers.items()}["x-api-key"] == "k" * 20
    assert scripted.seen


def test_without_numpy_requests_are_sent_and_arrays_are_refused(edge: str, tmp_path: Path) -> None:
    (tmp_path / "request.json").write_bytes(request(id="mine"))
    (tmp_path / "row.npy").write_bytes(npy(np.array(ROW, np.float32)))
    code = "import sys; sys.modules['numpy'] = None; from isthmus.cli.main import main; sys.exit(main())"

    def run(name: str) -> subprocess.CompletedProcess[str]:
        command = [
            sys.executable,
            "-c",
            code,
            "predict",
            "fashion",
            str(tmp_path / name),
            "--edge",
            edge,
            "--json",
        ]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert json.loads(run("request.json").stdout)["id"] == "mine"
    refused = run("row.npy")
    assert refused.returncode == 1
    assert json.loads(refused.stdout)["message"].startswith("arrays need numpy; install")
    assert refused.stderr == ""
