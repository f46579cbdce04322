from __future__ import annotations

import base64
import http.client
import importlib.util
import json
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bundle_factory import KeySigner, make_bundle

from isthmus.edge.core import EdgeCore, EdgeSettings
from isthmus.edge.server import EdgeServer
from isthmus.errors import EnvironmentProblem, ProofFailed
from isthmus.inference.archive import pack_bundle
from isthmus.inference.http import HttpRequest, HttpResponse, json_response
from isthmus.inference.lambda_handler import answer
from isthmus.inference.service import ModelService

BODY = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]})
INFER = "/v2/models/fashion/infer"


@pytest.fixture
def environment(tmp_path: Path, signer: KeySigner) -> dict[str, str]:
    make_bundle(tmp_path / "bundle", signer)
    (tmp_path / "inbox").mkdir()
    pack_bundle(tmp_path / "bundle", tmp_path / "inbox/model.zip")
    return {
        "ISTHMUS_MODEL_ARTIFACT": str(tmp_path / "inbox"),
        "ISTHMUS_EDGE_STORE": str(tmp_path / "store"),
        "ISTHMUS_PUBLIC_KEY": base64.b64encode(signer.public_key()).decode(),
        "ISTHMUS_EDGE_PORT": "0",
        "ISTHMUS_EDGE_THREADS": "1",
    }


@pytest.fixture
def core(environment: dict[str, str]) -> Iterator[EdgeCore]:
    started = EdgeCore(EdgeSettings.from_env(environment))
    started.start()
    yield started
    started.close()


@pytest.fixture
def connection(core: EdgeCore) -> Iterator[http.client.HTTPConnection]:
    opened = http.client.HTTPConnection("127.0.0.1", core.server.port, timeout=5)
    yield opened
    opened.close()


def ask(connection: http.client.HTTPConnection, *arguments: Any, **more: Any) -> tuple[int, Any]:
    connection.request(*arguments, **more)
    response = connection.getresponse()
    return response.status, json.loads(response.read())


def talk(core: EdgeCore, data: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", core.server.port), timeout=5) as raw:
        raw.sendall(data)
        raw.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: raw.recv(65536), b""))


def test_it_answers_on_one_kept_alive_connection(connection: http.client.HTTPConnection) -> None:
    assert ask(connection, "GET", "/v2/health/ready") == (200, {"ready": True})
    first = connection.sock
    status, body = ask(connection, "POST", INFER, body=BODY, headers={"Content-Type": "application/json"})
    assert (status, body["outputs"][0]["shape"]) == (200, [1, 3])
    assert ask(connection, "PUT", INFER, body=b"{}")[0] == 405
    assert ask(connection, "GET", "/v2/models/other")[0] == 404
    assert connection.sock is first


def test_warm_requests_wait_for_no_timer(connection: http.client.HTTPConnection) -> None:
    seconds = []
    for _ in range(20):
        began = time.perf_counter()
        ask(connection, "POST", INFER, body=BODY)
        seconds.append(time.perf_counter() - began)
    # A delayed ACK would show as 40 ms in each.
    assert min(seconds) < 0.02


def test_concurrent_requests_get_their_own_answers(core: EdgeCore) -> None:
    answers: dict[int, Any] = {}

    def one(number: int) -> None:
        own = http.client.HTTPConnection("127.0.0.1", core.server.port, timeout=5)
        answers[number] = ask(own, "POST", INFER, body=json.dumps({**json.loads(BODY), "id": str(number)}))
        own.close()

    threads = [threading.Thread(target=one, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {number: (status, body["id"]) for number, (status, body) in answers.items()} == {
        number: (200, str(number)) for number in range(16)
    }


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"POST /v2 HTTP/1.1\r\nhost: a\r\n\r\n", 411),
        (b"POST /v2 HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 411),
        (b"POST /v2 HTTP/1.1\r\ncontent-length: -1\r\n\r\n", 400),
        (b"POST /v2 HTTP/1.1\r\ncontent-length: " + b"9" * 5000 + b"\r\n\r\n", 400),
        (b"GET /v2\r\n\r\n", 400),
        (b"POST /v2 HTTP/1.1\r\ncontent-length: 1_0\r\n\r\n0123456789", 400),
        (b"POST /v2 HTTP/1.1\r\ncontent-length: 10\r\n\r\nshort", 400),
        (b"POST /v2 HTTP/1.1\r\ncontent-length: 99999999999\r\n\r\n", 413),
        (b"nonsense\r\n\r\n", 400),
        (b"BREW /v2 HTTP/1.1\r\nhost: localhost\r\n\r\n", 405),
        (b"GET /v2 HTTP/3.0\r\n\r\n", 400),
        (b"GET /" + b"a" * 70000 + b" HTTP/1.1\r\n\r\n", 414),
    ],
)
def test_bad_transfers_are_refused_as_json_and_closed(core: EdgeCore, data: bytes, status: int) -> None:
    answered = talk(core, data)
    head, _, body = answered.partition(b"\r\n\r\n")
    assert str(status).encode() in answered[:60]
    assert b"error" in json.dumps(json.loads(body or answered)).encode()
    assert b"Python" not in head


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "localhost"}, 200),
        ({"Host": "LOCALHOST:8770", "Origin": "http://localhost:8770", "Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Host": "evil.example"}, 403),
        ({"Host": "evil.example:8770", "Origin": "http://evil.example:8770"}, 403),
        ({"Host": "127.0.0.1.evil.example"}, 403),
        ({"Host": ""}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Host": "localhost:8770", "Origin": "http://localhost:3000"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
    ],
)
def test_no_web_page_is_answered(
    connection: http.client.HTTPConnection, headers: dict[str, str], status: int
) -> None:
    """A page that a browser on the device shows must not ask its models, whatever name it gives to it."""
    found, body = ask(connection, "POST", INFER, body=BODY, headers=headers)
    assert (found, "error" in body) == (status, status == 403)


def test_an_answer_to_head_has_no_body(core: EdgeCore) -> None:
    head, _, body = talk(core, b"HEAD /v2 HTTP/1.1\r\nhost: localhost\r\n\r\n").partition(b"\r\n\r\n")
    assert (head.split(b"\r\n")[0], body) == (b"HTTP/1.1 405 Method Not Allowed", b"")
    assert b"allow: GET" in head


def test_expect_continue_is_answered_at_once(core: EdgeCore) -> None:
    head = f"POST {INFER} HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\n"
    head += f"content-length: {len(BODY)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", core.server.port), timeout=5) as raw:
        raw.sendall(head.encode())
        assert raw.recv(100).startswith(b"HTTP/1.1 100")
        raw.sendall(BODY.encode())
        assert raw.recv(100).startswith(b"HTTP/1.1 200")


class Slow(ModelService):
    """A service that is in the middle of an answer until it is told to go on."""

    def __init__(self) -> None:
        super().__init__([])
        self.entered, self.go_on = threading.Event(), threading.Event()

    def handle(self, request: HttpRequest) -> HttpResponse:
        if request.path == "/broken":
            raise ZeroDivisionError("secret")
        self.entered.set()
        self.go_on.wait(5)
        return json_response({"done": True})


def test_the_end_waits_for_answers_and_not_for_idle_connections() -> None:
    service = Slow()
    server = EdgeServer(service, 0, max_request_bytes=100)
    server.start()
    idle, busy = (http.client.HTTPConnection("127.0.0.1", server.port, timeout=5) for _ in range(2))
    idle.connect()
    busy.request("GET", "/v2")
    assert service.entered.wait(5)
    ended: list[bool] = []
    closing = threading.Thread(target=lambda: ended.append(server.close()))
    closing.start()
    service.go_on.set()
    assert json.loads(busy.getresponse().read()) == {"done": True}
    closing.join(5)
    assert ended == [True]
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", server.port), timeout=1)


def test_a_surprise_is_a_500_without_details() -> None:
    server = EdgeServer(Slow(), 0, max_request_bytes=100)
    server.start()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    assert ask(connection, "GET", "/broken") == (500, {"error": "the server failed; its log says why"})
    server.close()


def test_status_says_what_serves(core: EdgeCore, tmp_path: Path) -> None:
    status = json.loads((tmp_path / "store/status.json").read_text())
    assert (status["model"], status["release"], status["refused"]) == ("fashion", 1, "")


def test_a_restart_serves_again_without_the_artifact(environment: dict[str, str], tmp_path: Path) -> None:
    settings = EdgeSettings.from_env({k: v for k, v in environment.items() if k != "ISTHMUS_EDGE_PORT"})
    EdgeCore(settings)
    (tmp_path / "inbox/model.zip").unlink()
    again = EdgeCore(settings)
    again.start()
    assert again.server is None
    event = {"httpMethod": "POST", "path": INFER, "body": BODY}
    assert answer(event, again.service)["statusCode"] == 200


def test_a_refused_model_fails_the_start_where_that_is_asked_for(
    environment: dict[str, str], tmp_path: Path
) -> None:
    EdgeCore(EdgeSettings.from_env(environment))
    (tmp_path / "inbox/model.zip").write_bytes(b"damaged on its way")
    kept = EdgeCore(EdgeSettings.from_env(environment))
    assert kept.in_service.refused.startswith("InvalidInput")
    with pytest.raises(ProofFailed, match="the deployed model was refused: InvalidInput"):
        EdgeCore(EdgeSettings.from_env({**environment, "ISTHMUS_EDGE_ON_REFUSAL": "fail"}))
    assert "zip" in json.loads((tmp_path / "store/status.json").read_text())["refused"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"ISTHMUS_EDGE_ON_REFUSAL": "ignore"}, "ISTHMUS_EDGE_ON_REFUSAL must be serve or fail"),
        ({"ISTHMUS_EDGE_PORT": "x"}, "ISTHMUS_EDGE_PORT must be a number from 0 to 65535"),
        ({"ISTHMUS_EDGE_PORT": "70000"}, "ISTHMUS_EDGE_PORT"),
        ({"ISTHMUS_EDGE_THREADS": "0"}, "ISTHMUS_EDGE_THREADS"),
        ({"ISTHMUS_EDGE_STORE": ""}, "ISTHMUS_EDGE_STORE must be set"),
        ({"ISTHMUS_MODEL_ARTIFACT": ""}, "ISTHMUS_MODEL_ARTIFACT must be set"),
        ({"ISTHMUS_PUBLIC_KEY": ""}, "ISTHMUS_PUBLIC_KEY"),
    ],
)
def test_settings_name_what_is_wrong(environment: dict[str, str], changes: dict[str, str], says: str) -> None:
    with pytest.raises(EnvironmentProblem, match=says):
        EdgeSettings.from_env({**environment, **changes})


def load_app(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> Any:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    path = Path(__file__).parents[3] / "edge_lambda/app.py"
    spec = importlib.util.spec_from_file_location("edge_app", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_importing_the_app_does_nothing_without_a_port(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], tmp_path: Path
) -> None:
    monkeypatch.delenv("ISTHMUS_EDGE_PORT", raising=False)
    app = load_app(monkeypatch, {k: v for k, v in environment.items() if k != "ISTHMUS_EDGE_PORT"})
    assert not (tmp_path / "store").exists()
    event = {"httpMethod": "GET", "path": "/v2/models/fashion"}
    assert app.handler(event, None)["statusCode"] == 200


def test_with_a_port_the_app_serves_from_its_import_on(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    app = load_app(monkeypatch, environment)
    connection = http.client.HTTPConnection("127.0.0.1", app.core().server.port, timeout=5)
    assert ask(connection, "POST", INFER, body=BODY)[0] == 200
    app.core().close()


def test_the_edge_imports_no_boto3() -> None:
    import subprocess

    code = "import sys, isthmus.edge.core; print([m for m in sys.modules if m.startswith(('boto', 'numpy', 'onnx'))])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
