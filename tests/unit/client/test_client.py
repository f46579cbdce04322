"""Both clients against real servers on loopback: an edge server, and one that does what it is told."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import numpy as np
import pytest
from bundle_factory import LABELS, WEIGHTS
from scripted import Reply, ScriptedServer, answer

import isthmus
from isthmus.client import calls, wire
from isthmus.client.answer import Answer
from isthmus.errors import (
    DeadlineExceeded,
    EnvironmentProblem,
    InvalidAnswer,
    InvalidInput,
    InvalidRequest,
    IsthmusError,
    PayloadTooLarge,
    Unavailable,
    UnknownModel,
)

ROW = np.array([[1, 2, 3, 4]], np.float32)
PIXELS = np.array([[[0, 51], [102, 255]]], np.uint8)
Ask = Callable[..., Any]


def ask_in_a_thread(settings: dict[str, Any], verb: str, *arguments: Any, **more: Any) -> Any:
    with isthmus.Client(**settings) as client:
        return getattr(client, verb)(*arguments, **more)


def ask_in_a_loop(settings: dict[str, Any], verb: str, *arguments: Any, **more: Any) -> Any:
    async def ask() -> Any:
        async with isthmus.AsyncClient(**settings) as client:
            return await getattr(client, verb)(*arguments, **more)

    return asyncio.run(ask())


@pytest.fixture(params=[ask_in_a_thread, ask_in_a_loop], ids=["sync", "async"])
def ask(request: pytest.FixtureRequest) -> Ask:
    found: Ask = request.param
    return found


@pytest.fixture
def nobody() -> str:
    """An address at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


def cloud(server: ScriptedServer) -> dict[str, str]:
    return {"api": server.url + "/v", "token": "secret"}


@pytest.mark.parametrize("binary", [None, True, False])
def test_a_model_answers_with_arrays(edge: str, ask: Ask, binary: bool | None) -> None:
    found: Answer = ask({"edge": edge}, "infer", "fashion", {"x": ROW}, binary=binary)
    np.testing.assert_allclose(found["logits"], ROW @ WEIGHTS, rtol=1e-6)
    assert found["logits"].dtype == np.float32
    assert (found.model, found.version, found.place, found.attempts) == ("fashion", "1", "edge", 1)


def test_raw_pixels_come_back_as_labels(edge: str, ask: Ask) -> None:
    given = {"pixels": PIXELS}
    found: Answer = ask({"edge": edge}, "infer", "fashion", given, preprocess=True, postprocess=True)
    assert found["label"].tolist() == [[LABELS[2], LABELS[1]]]
    wanted: Answer = ask(
        {"edge": edge}, "infer", "fashion", given, preprocess=True, postprocess=True, outputs=["label"]
    )
    assert set(wanted.outputs) == {"label"}


def test_a_model_says_what_it_takes(edge: str, ask: Ask) -> None:
    found = ask({"edge": edge}, "metadata", "fashion")
    assert [(spec.name, spec.datatype, spec.shape) for spec in found.inputs] == [("x", "FP32", (-1, 4))]


def test_a_request_of_ones_own_goes_the_same_way(edge: str, ask: Ask) -> None:
    response, trip = ask({"edge": edge}, "send", "GET", "/v2/health/ready")
    assert (msgspec.json.decode(response.body), trip.place) == ({"ready": True}, "edge")


@pytest.mark.parametrize(
    ("arguments", "more", "kind", "said"),
    [
        (("gone", {"x": ROW}), {}, UnknownModel, "HTTP 404: model 'gone' is not in service"),
        (("fashion", {"x": ROW}), {"version": "7"}, UnknownModel, "as version 1, not '7'"),
        (("fashion", {"x": ROW.astype(np.float64)}), {}, InvalidRequest, "must be FP32, not FP64"),
        (("fashion", {"x": np.zeros((1 << 17, 4), np.float32)}), {}, PayloadTooLarge, "HTTP 413"),
        (("fashion", {"x": np.array([1j])}), {}, InvalidInput, "complex128"),
    ],
)
def test_a_refusal_is_one_sentence(
    edge: str,
    ask: Ask,
    arguments: tuple[Any, ...],
    more: dict[str, Any],
    kind: type[IsthmusError],
    said: str,
) -> None:
    with pytest.raises(kind, match=said):
        ask({"edge": edge}, "infer", *arguments, **more)


def test_a_dead_edge_gives_way_to_the_cloud(scripted: ScriptedServer, nobody: str, ask: Ask) -> None:
    scripted.script = [answer(7)]
    found: Answer = ask({"edge": nobody, **cloud(scripted)}, "infer", "m", {"x": ROW})
    assert (found["y"].tolist(), found.place, found.attempts) == ([7.0], "cloud", 2)
    ((method, path, headers, _),) = scripted.seen
    assert (method, path) == ("POST", "/v/v2/models/m/infer")
    assert headers["authorization"] == "Bearer secret"


def test_a_dead_edge_alone_is_said(nobody: str, ask: Ask) -> None:
    with pytest.raises(Unavailable, match=r"the edge did not answer: no connection \(Connection refused\)"):
        ask({"edge": nobody, "attempts": 2}, "infer", "m", {"x": ROW})


def test_a_live_edge_keeps_the_request_from_the_cloud(edge: str, scripted: ScriptedServer, ask: Ask) -> None:
    found: Answer = ask({"edge": edge, **cloud(scripted)}, "infer", "fashion", {"x": ROW})
    assert (found.place, scripted.seen) == ("edge", [])


@pytest.mark.parametrize("slow", [Reply(hangs=True), Reply(drips=True)], ids=["hangs", "drips"])
def test_the_deadline_ends_a_slow_answer(scripted: ScriptedServer, ask: Ask, slow: Reply) -> None:
    scripted.script = [slow]
    with pytest.raises(DeadlineExceeded, match=r"no answer within 0\.3 s, after 1 request: the edge"):
        ask({"edge": scripted.url, "deadline_seconds": 30.0}, "infer", "m", {"x": ROW}, deadline_seconds=0.3)


def test_a_slow_edge_leaves_time_for_the_cloud(scripted: ScriptedServer, ask: Ask) -> None:
    scripted.script = [Reply(hangs=True), answer(7)]
    settings = {"edge": scripted.url, "deadline_seconds": 0.8, **cloud(scripted)}
    found: Answer = ask(settings, "infer", "m", {"x": ROW})
    assert (found["y"].tolist(), found.place) == ([7.0], "cloud")


@pytest.mark.parametrize(
    "trouble",
    [
        Reply(503, {"error": "busy"}),
        Reply(429, {"error": "full"}, {"retry-after": "0"}),
        Reply(200, b"<html>a hotel's page</html>"),
        Reply(200, b'{"outputs": [', short=True),
        Reply(200, answer(1).body({"id": "somebody else's"})),
    ],
    ids=["503", "429", "garbage", "cut", "mixed up"],
)
def test_what_went_wrong_is_asked_again(scripted: ScriptedServer, ask: Ask, trouble: Reply) -> None:
    scripted.script = [trouble, answer(7)]
    found: Answer = ask({"edge": scripted.url}, "infer", "m", {"x": ROW})
    assert (found["y"].tolist(), found.attempts) == ([7.0], 2)


def test_an_answer_that_stays_wrong_is_said(scripted: ScriptedServer, ask: Ask) -> None:
    scripted.script = [Reply(200, {"outputs": "none"})]
    with pytest.raises(InvalidAnswer, match="the edge gave a wrong answer: it is no answer"):
        ask({"edge": scripted.url, "attempts": 2}, "infer", "m", {"x": ROW})
    assert len(scripted.seen) == 2


def test_a_redirect_is_not_followed(scripted: ScriptedServer, ask: Ask) -> None:
    scripted.script = [Reply(307, b"", {"location": scripted.url + "/elsewhere"})]
    with pytest.raises(InvalidAnswer, match="HTTP 307"):
        ask(cloud(scripted), "infer", "m", {"x": ROW})
    assert len(scripted.seen) == 1


LARGE = np.zeros((1200, 1000), np.float32)


def offer(server: ScriptedServer) -> Reply:
    body = {
        "id": "17-1-a",
        "method": "PUT",
        "url": server.url + "/store/in?signed=1",
        "headers": {"x-sum": "s"},
    }
    return Reply(body={**body, "expires_at": 17})


def kept(server: ScriptedServer, body: bytes, **changes: Any) -> Reply:
    told = {
        "url": server.url + "/store/out",
        "size_bytes": len(body),
        "sha256": hashlib.sha256(body).hexdigest(),
    }
    told |= {"expires_at": 17, "headers": {"content-type": "application/json"}, **changes}
    return Reply(303, {"handover": told}, {"location": server.url + "/elsewhere"})


def test_a_large_body_goes_through_the_bucket(scripted: ScriptedServer, ask: Ask) -> None:
    metadata = Reply(body={"name": "s", "version": "1", "extensions": ["binary_tensor_data"]})
    scripted.script = [metadata, offer(scripted), Reply(), answer(7), answer(7)]
    # The request has no body to take the id from: whatever the server says is taken by this test's model.
    with pytest.raises(InvalidAnswer, match="answers the request None"):
        ask({**cloud(scripted), "attempts": 1}, "infer", "m", {"x": LARGE})
    _, asked, put, inferred = scripted.seen
    wish = msgspec.json.decode(asked[3])
    assert (asked[0], asked[1]) == ("POST", "/v/v2/models/m/handover")
    assert wish == {"size_bytes": len(put[3]), "sha256": hashlib.sha256(put[3]).hexdigest()}
    assert (put[0], put[1], put[2]["x-sum"]) == ("PUT", "/store/in?signed=1", "s")
    assert "authorization" not in put[2]
    assert put[3].endswith(LARGE.tobytes())
    assert (inferred[1], inferred[2]["isthmus-handover"], inferred[3]) == (
        "/v/v2/models/m/infer",
        "17-1-a",
        b"",
    )
    assert int(inferred[2]["inference-header-content-length"]) == len(put[3]) - LARGE.nbytes


def test_a_large_answer_comes_through_the_bucket(scripted: ScriptedServer) -> None:
    body = msgspec.json.encode(answer(7).body({}))
    with isthmus.Client(**cloud(scripted)) as client:  # type: ignore[arg-type]
        scripted.script = [Reply(413, {"error": "too large"}), kept(scripted, body), Reply(200, body)]
        asking = calls.infer("m", {"x": ROW}, version=None, outputs=(), parameters={}, binary=False)
        asking = dataclasses.replace(asking, read=lambda response: wire.read_answer(response, id=None))
        (_, arrays), _ = client._run(asking, None)
        assert arrays["y"].tolist() == [7.0]
        headers = [seen[2] for seen in scripted.seen]
        assert ["isthmus-handover-answer" in each for each in headers] == [False, True, False]
        assert "authorization" not in headers[2]
        # From then on it is asked for at once.
        scripted.script = [kept(scripted, body), Reply(200, body)]
        client._run(asking, None)
        assert scripted.seen[3][2]["isthmus-handover-answer"] == "allowed"


@pytest.mark.parametrize("changes", [{"size_bytes": 1}, {"sha256": "0" * 64}])
def test_other_bytes_than_were_kept_are_no_answer(
    scripted: ScriptedServer, ask: Ask, changes: dict[str, Any]
) -> None:
    scripted.script = [kept(scripted, b"{}", **changes), Reply(200, b"{}")]
    with pytest.raises(InvalidAnswer, match="gave other bytes than were put there"):
        ask({**cloud(scripted), "attempts": 1}, "infer", "m", {"x": ROW})


def test_what_is_refused_even_through_the_bucket_is_said(scripted: ScriptedServer, ask: Ask) -> None:
    scripted.script = [Reply(413, {"error": "the answer is 70 MB"})]
    with pytest.raises(PayloadTooLarge, match="the answer is 70 MB"):
        ask(cloud(scripted), "infer", "m", {"x": ROW})
    assert len(scripted.seen) == 2


def test_a_picture_is_sent_as_it_is(scripted: ScriptedServer, ask: Ask) -> None:
    guesses = [{"index": 2, "score": 0.9, "label": "bag"}, {"index": 0, "score": 0.1}]
    scripted.script = [Reply(body={"model_name": "m", "model_version": "4", "classes": guesses})]
    picture = b"\x89PNG\r\n\x1a\nrest"
    found = ask(cloud(scripted), "classify", "m", picture, top_k=2)
    assert [(guess.label, guess.score) for guess in found.classes] == [("bag", 0.9), (None, 0.1)]
    ((_, path, headers, body),) = scripted.seen
    assert (path, headers["content-type"], body) == (
        "/v/v2/models/m/classify?top_k=2",
        "image/png",
        picture,
    )
    with pytest.raises(InvalidInput, match="PNG or a JPEG"):
        ask(cloud(scripted), "classify", "m", b"GIF89a")


def test_names_that_need_it_are_escaped(scripted: ScriptedServer, ask: Ask) -> None:
    scripted.script = [answer(7)]
    ask(cloud(scripted), "infer", "a/b c", {"x": ROW}, version="1/2")
    assert scripted.seen[0][1] == "/v/v2/models/a%2Fb%20c/versions/1%2F2/infer"


def test_requests_to_the_api_are_signed_by_default(
    scripted: ScriptedServer, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_EXECUTE_API", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    scripted.script = [answer(7)]
    ask({"api": scripted.url}, "infer", "m", {"x": ROW})
    headers = scripted.seen[0][2]
    assert headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=key/")
    assert "SignedHeaders=content-type;host;x-amz-date" in headers["authorization"]


def test_without_credentials_the_edge_still_answers(
    edge: str, nobody: str, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    both = {"edge": edge, "api": nobody}
    assert ask(both, "infer", "fashion", {"x": ROW}).place == "edge"
    with pytest.raises(EnvironmentProblem, match="no AWS credentials"):
        ask({"api": nobody}, "infer", "fashion", {"x": ROW})


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"edge": "127.0.0.1:8770"}, "must begin with http"),
        ({"edge": "ftp://there"}, "must begin with http"),
        ({"api": "https://a/v?x=1"}, "must begin with http"),
        ({"api": "https://a/v", "stack": "s"}, "not both"),
        ({"edge": "http://127.0.0.1:1", "token": "t"}, "a token is for the API"),
        ({"api": "https://a/v", "token": "t\r\nx-evil: 1"}, "printable ASCII"),
        ({"api": "https://a/v", "token": ""}, "printable ASCII"),
        ({"edge": "http://127.0.0.1:1", "api_key": "k"}, "an API key is for the API"),
        ({"api": "https://a/v", "api_key": "k\r\nx-evil: 1"}, "the API key must be printable ASCII"),
    ],
)
@pytest.mark.parametrize("kind", ["Client", "AsyncClient"])
def test_settings_that_cannot_be_meant_are_refused(kind: str, settings: dict[str, str], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        getattr(isthmus, kind)(**settings)


def test_a_token_never_travels_in_the_clear(ask: Ask) -> None:
    with pytest.raises(InvalidInput, match=r"not sent to example\.com without TLS"):
        ask({"api": "http://example.com/v", "token": "t"}, "infer", "m", {"x": ROW})


def test_an_api_key_never_travels_in_the_clear(ask: Ask) -> None:
    with pytest.raises(InvalidInput, match=r"API key is not sent to example\.com without TLS"):
        ask({"api": "http://example.com/v", "token": "t", "api_key": "k"}, "infer", "m", {"x": ROW})


def test_an_api_key_goes_along_with_a_token(scripted: ScriptedServer, ask: Ask) -> None:
    scripted.script = [answer(7)]
    ask({**cloud(scripted), "api_key": "k" * 20}, "infer", "m", {"x": ROW})
    for _, _, headers, _ in scripted.seen:
        found = {name.lower(): value for name, value in headers.items()}
        assert (found["authorization"], found["x-api-key"]) == ("Bearer secret", "k" * 20)


def test_an_api_key_is_part_of_what_is_signed(
    scripted: ScriptedServer, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    scripted.script = [answer(7)]
    ask({"api": scripted.url + "/v", "api_key": "k" * 20}, "infer", "m", {"x": ROW})
    for _, _, headers, _ in scripted.seen:
        found = {name.lower(): value for name, value in headers.items()}
        assert found["x-api-key"] == "k" * 20
        assert "x-api-key" in found["authorization"].partition("SignedHeaders=")[2].partition(",")[0]


def test_connections_are_used_again(scripted: ScriptedServer) -> None:
    scripted.script = [answer(7)]
    with isthmus.Client(edge=scripted.url) as client:
        for _ in range(5):
            client.infer("m", {"x": ROW})
    assert len(scripted.connections) == 1

    async def ask() -> None:
        async with isthmus.AsyncClient(edge=scripted.url) as client:
            for _ in range(5):
                await client.infer("m", {"x": ROW})

    asyncio.run(ask())
    assert len(scripted.connections) == 2


def test_one_client_serves_many_threads_without_mixing_answers(edge: str) -> None:
    with isthmus.Client(edge=edge) as client, ThreadPoolExecutor(16) as threads:

        def one(number: int) -> bool:
            row = np.array([[number, 0, 0, 0]], np.float32)
            return bool(np.allclose(client.infer("fashion", {"x": row})["logits"], row @ WEIGHTS))

        assert all(threads.map(one, range(200)))


def test_one_async_client_serves_many_tasks_without_mixing_answers(edge: str) -> None:
    async def one(client: isthmus.AsyncClient, number: int) -> bool:
        row = np.array([[number, 0, 0, 0]], np.float32)
        answered = await client.infer("fashion", {"x": row})
        return bool(np.allclose(answered["logits"], row @ WEIGHTS))

    async def every() -> list[bool]:
        async with isthmus.AsyncClient(edge=edge, connections=16) as client:
            return await asyncio.gather(*(one(client, number) for number in range(200)))

    assert all(asyncio.run(every()))


def test_threads_do_not_all_wait_for_a_hanging_edge(scripted: ScriptedServer, edge: str) -> None:
    scripted.script = [Reply(hangs=True)]
    with isthmus.Client(edge=scripted.url, api=edge, token="t", deadline_seconds=0.6) as client:
        for _ in range(2):
            client.infer("fashion", {"x": ROW})
        barrier = threading.Barrier(8)

        def one(_: int) -> str:
            barrier.wait()
            return client.infer("fashion", {"x": ROW}).place

        with ThreadPoolExecutor(8) as threads:
            assert set(threads.map(one, range(8))) == {"cloud"}
    # Two found out; after the rest one more may have looked.
    assert len(scripted.seen) <= 3


def test_naming_the_package_loads_no_client() -> None:
    code = (
        "import sys, isthmus; assert 'isthmus.client' not in sys.modules; isthmus.Client;"
        "print([name for name in ('numpy', 'boto3', 'aiohttp', 'onnxruntime') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        isthmus.Nothing  # noqa: B018
