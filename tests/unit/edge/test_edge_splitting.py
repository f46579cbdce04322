"""A core device that asks a real server on loopback for the rest of a model: whatever becomes of that server, each
request is answered once, and as onnxruntime answers it on the whole."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from bundle_factory import KeySigner
from split_factory import SIDE, make_sliced, make_whole, whole_answers, write_document

import isthmus
from isthmus.client.part import CloudPart
from isthmus.edge.balancer import Option
from isthmus.edge.core import EdgeCore, EdgeSettings
from isthmus.edge.race import Errand
from isthmus.edge.server import EdgeServer
from isthmus.edge.slices import open_slices, prove_here
from isthmus.edge.ways import Prices
from isthmus.errors import InvalidInput, InvalidModel, InvalidRequest, Unavailable
from isthmus.inference.archive import pack_bundle
from isthmus.inference.bundle import open_bundle
from isthmus.inference.engine import OnnxEngine
from isthmus.inference.files import sha256_file
from isthmus.inference.http import HttpRequest, HttpResponse
from isthmus.inference.service import ModelService, served

ACTIVATIONS = {"zones": ["edge-*"], "may_leave": "activations"}
EVERYTHING = {"zones": ["edge-*"], "may_leave": "everything"}
MOST_BYTES = 1 << 24
Misbehave = Callable[[HttpRequest, HttpResponse], HttpResponse]


@dataclass
class Peer:
    """The cloud's side, in this process: what it was asked for, and what it makes of its answers."""

    service: ModelService
    misbehave: Misbehave = lambda request, response: response
    asked: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    def handle(self, request: HttpRequest) -> HttpResponse:
        if request.method == "GET":
            return self.service.handle(request)
        self.asked.append(request.path)
        self.bodies.append(request.body)
        return self.misbehave(request, self.service.handle(request))


@dataclass
class Place:
    """A folder with a whole bundle, its slices, and where to find them."""

    root: Path
    signer: KeySigner

    @property
    def model(self) -> Path:
        return self.root / "whole/model.onnx"

    def service(self) -> ModelService:
        folders = [self.root / "whole", *(self.root / f"slices/small-{number}" for number in range(3))]
        return ModelService(
            [served(open_bundle(folder, None), threads=1) for folder in folders],
            max_request_bytes=MOST_BYTES,
            max_response_bytes=MOST_BYTES,
        )

    def core(self, cloud: str, policy: dict[str, Any] = ACTIVATIONS, **more: str) -> EdgeCore:
        environment = {
            "ISTHMUS_MODEL_ARTIFACT": str(self.root / "model.zip"),
            "ISTHMUS_EDGE_STORE": str(self.root / "store"),
            "ISTHMUS_PUBLIC_KEY": base64.b64encode(self.signer.public_key()).decode(),
            "ISTHMUS_EDGE_PORT": "0",
            "ISTHMUS_EDGE_THREADS": "1",
            "ISTHMUS_EDGE_SLICES": str(self.root / "slices"),
            "ISTHMUS_EDGE_CLOUD": cloud,
            "ISTHMUS_EDGE_POLICY": json.dumps(policy),
            **more,
        }
        core = EdgeCore(EdgeSettings.from_env(environment), CloudPart(cloud) if cloud else None)
        core.start()
        return core

    def status(self) -> Any:
        return json.loads((self.root / "store/status.json").read_text())


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    root, signer = tmp_path_factory.mktemp("split"), KeySigner()
    make_whole(root / "whole", signer)
    pack_bundle(root / "whole", root / "model.zip")
    make_sliced(root / "slices", root / "whole/model.onnx", signer)
    return Place(root, signer)


@pytest.fixture
def peer(place: Place) -> Peer:
    return Peer(place.service())


@pytest.fixture
def cloud(peer: Peer) -> Iterator[str]:
    server = EdgeServer(peer, 0, max_request_bytes=MOST_BYTES)
    server.start()
    yield f"http://127.0.0.1:{server.port}"
    server.close()


@pytest.fixture
def opened() -> Iterator[list[EdgeCore]]:
    found: list[EdgeCore] = []
    yield found
    for core in found:
        core.close()


@pytest.fixture
def edge(place: Place, cloud: str, opened: list[EdgeCore]) -> EdgeCore:
    opened.append(place.core(cloud))
    return opened[-1]


def pictures(count: int = 1, seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).random((count, 3, SIDE, SIDE)).astype("float32")


def ask(
    core: EdgeCore, x: np.ndarray, placement: str | None = None, **more: Any
) -> isthmus.client.answer.Answer:
    parameters = {**({"isthmus_placement": placement} if placement else {}), **more}
    with isthmus.Client(edge=f"http://127.0.0.1:{core.server.port}", attempts=1) as client:
        return client.infer("small", {"x": x}, parameters=parameters)


def check(place: Place, answer: isthmus.client.answer.Answer, x: np.ndarray) -> None:
    """As onnxruntime on the whole, to two millionths of the range."""
    expected = whole_answers(place.model, x)
    assert answer["scores"].shape == expected.shape
    assert np.abs(answer["scores"] - expected).max() <= 2e-6 * np.ptp(expected)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(
    ("placement", "paths"),
    [
        ("local", []),
        ("split:1", ["/v2/models/small-1/infer", "/v2/models/small-2/infer"]),
        ("split:2", ["/v2/models/small-2/infer"]),
        ("split", ["/v2/models/small-1/infer", "/v2/models/small-2/infer"]),
    ],
)
def test_the_answer_is_the_wholes_wherever_it_runs(
    place: Place, peer: Peer, edge: EdgeCore, placement: str, paths: list[str], batch: int
) -> None:
    x = pictures(batch)
    answer = ask(edge, x, placement)
    check(place, answer, x)
    assert peer.asked == paths
    assert answer.parameters["isthmus_placement"] == ("split:1" if placement == "split" else placement)
    assert answer.parameters["isthmus_reason"] == "as the request wishes"


def test_a_middle_that_was_planned_for_the_cloud_comes_back_for_the_rest(
    tmp_path: Path, signer: KeySigner, cloud: str, peer: Peer
) -> None:
    make_whole(tmp_path / "whole", signer)
    pack_bundle(tmp_path / "whole", tmp_path / "model.zip")
    document = make_sliced(tmp_path / "slices", tmp_path / "whole/model.onnx", signer)
    last = msgspec.structs.replace(document.slices[2], places=document.slices[0].places)
    write_document(
        tmp_path / "slices", msgspec.structs.replace(document, slices=(*document.slices[:2], last)), signer
    )
    place = Place(tmp_path, signer)
    peer.service = place.service()
    core = place.core(cloud)
    try:
        x = pictures(2)
        for wish in ("split", "split:1-2"):
            answer = ask(core, x, wish)
            assert answer.parameters["isthmus_placement"] == "split:1-2"
            check(place, answer, x)
        assert peer.asked == 2 * ["/v2/models/small-1/infer"]
        peer.misbehave = failing
        check(place, ask(core, x, "split:1-2"), x)
    finally:
        core.close()


def test_all_may_run_in_the_cloud_where_everything_may_leave(
    place: Place, peer: Peer, cloud: str, opened: list[EdgeCore]
) -> None:
    opened.append(place.core(cloud, EVERYTHING))
    x = pictures()
    answer = ask(opened[0], x, "cloud")
    check(place, answer, x)
    assert peer.asked == ["/v2/models/small/versions/1/infer"]
    assert answer.parameters["isthmus_placement"] == "cloud"


@pytest.mark.parametrize(("cast", "share", "off"), [("float16", 0.5, 1e-3), ("int8", 0.25, 2e-2)])
def test_what_crosses_may_take_fewer_bits_where_the_slices_were_proven_so(
    tmp_path: Path, signer: KeySigner, cloud: str, peer: Peer, cast: str, share: float, off: float
) -> None:
    make_whole(tmp_path / "whole", signer)
    pack_bundle(tmp_path / "whole", tmp_path / "model.zip")
    document = make_sliced(tmp_path / "slices", tmp_path / "whole/model.onnx", signer)
    write_document(tmp_path / "slices", msgspec.structs.replace(document, cast=cast), signer)
    peer.service = Place(tmp_path, signer).service()
    core = Place(tmp_path, signer).core(cloud)
    try:
        x = pictures(4)
        answer = ask(core, x, "split:2")
        expected = whole_answers(tmp_path / "whole/model.onnx", x)
        assert answer.parameters["isthmus_placement"] == "split:2"
        assert 0 < np.abs(answer["scores"] - expected).max() <= off * np.ptp(expected)
        (spec,) = document.slices[2].inputs
        full = 4 * 4 * int(np.prod(spec.shape[1:]))
        assert share * full < len(peer.bodies[0]) < share * full + 1000
        # What is finished here was never narrow.
        peer.misbehave = failing
        check(Place(tmp_path, signer), ask(core, x, "split:2"), x)
    finally:
        core.close()


def test_a_raw_input_that_later_slices_read_is_not_cast(
    place: Place, peer: Peer, cloud: str, opened: list[EdgeCore]
) -> None:
    opened.append(place.core(cloud, EVERYTHING))
    slices, x = opened[0].split.ways.slices, pictures()
    document = slices.document
    last = msgspec.structs.replace(document.slices[2], inputs=(*document.slices[2].inputs, *document.inputs))
    slices.document = msgspec.structs.replace(document, cast="int8", slices=(*document.slices[:2], last))
    with pytest.raises(
        InvalidRequest, match="the raw input 'x' would be sent as int8, which the proof did not do"
    ):
        ask(opened[0], x, "split:2")
    check(place, ask(opened[0], x, "cloud"), x)
    assert peer.asked == ["/v2/models/small/versions/1/infer"]


@pytest.mark.parametrize("allowed", [0.0, 1e-3])
def test_slices_are_compared_here_as_their_proof_compared_them(place: Place, allowed: float) -> None:
    slices = open_slices(
        place.root / "slices", place.signer.public_key(), sha256_file(place.model), threads=1
    )
    proof = msgspec.structs.replace(slices.document.proof, allowed=allowed)
    slices.document = msgspec.structs.replace(slices.document, proof=proof)

    def differs(change: Callable[[np.ndarray], np.ndarray], also_here: bool = False) -> bool:
        last = Changed(OnnxEngine(place.root / "slices/small-2/model.onnx"), change)
        slices.engines = [*slices.engines[:2], last if also_here else slices.engines[2]]
        try:
            prove_here(slices, Changed(OnnxEngine(place.model), change), time.perf_counter)
        except InvalidModel:
            return True
        return False

    original = slices.engines
    assert not differs(lambda scores: scores)
    assert differs(lambda scores: scores + 1e-3 * np.ptp(scores)) == (allowed < 1e-3)
    assert differs(lambda scores: scores + 0.1 * np.ptp(scores))
    assert differs(lambda scores: np.where(scores == scores.max(), np.inf, scores))
    assert differs(lambda scores: scores[:, :1])
    for value in (np.nan, np.inf):
        slices.engines = original
        assert not differs(lambda scores, value=value: np.where(scores == scores.max(), value, scores), True)


@dataclass
class Changed:
    """An engine whose outputs become something else."""

    engine: OnnxEngine
    change: Callable[[np.ndarray], np.ndarray]

    def run(self, inputs: Any) -> dict[str, Any]:
        return {name: self.change(array) for name, array in self.engine.run(inputs).items()}


def test_without_a_wish_it_runs_where_it_is_fastest_and_says_why(place: Place, edge: EdgeCore) -> None:
    x = pictures()
    for _ in range(3):
        answer = ask(edge, x)
        check(place, answer, x)
    # Nothing over HTTP beats 70 microseconds.
    assert answer.parameters["isthmus_placement"] == "local"
    assert " ms, local " in answer.parameters["isthmus_reason"]


def test_raw_inputs_never_leave_where_the_policy_keeps_them(place: Place, peer: Peer, edge: EdgeCore) -> None:
    x = pictures()
    with pytest.raises(InvalidRequest, match=r"cannot run as 'cloud': the policy keeps the raw input 'x'"):
        ask(edge, x, "cloud")
    for placement in ("split:1", "split:2", None):
        check(place, ask(edge, x, placement), x)
    assert not [body for body in peer.bodies if x.tobytes()[:64] in body]


@pytest.mark.parametrize(
    ("policy", "why"),
    [
        ({"zones": ["edge-*"], "may_leave": "results"}, "the policy lets results leave, not activations"),
        ({"zones": ["edge-*"], "may_leave": "nothing"}, "the policy lets nothing leave, not activations"),
        ({**ACTIVATIONS, "max_leakage_r2": 0.9}, "R² 0.9, and p1 was not measured"),
    ],
)
def test_what_may_not_leave_runs_here(
    place: Place, peer: Peer, cloud: str, opened: list[EdgeCore], policy: dict[str, Any], why: str
) -> None:
    opened.append(place.core(cloud, policy))
    x = pictures()
    answer = ask(opened[0], x)
    check(place, answer, x)
    assert (answer.parameters["isthmus_placement"], peer.asked) == ("local", [])
    with pytest.raises(InvalidRequest, match=why):
        ask(opened[0], x, "split:1")


def test_the_policy_is_asked_again_right_before_bytes_move(place: Place, peer: Peer, edge: EdgeCore) -> None:
    """As if the choice had been made without it."""
    count = edge.split.ways.slices.count
    edge.split.ways.options = lambda now, rows: [  # type: ignore[method-assign]
        Option("local", count, 60.0),
        Option("cloud", 0, 0.0, 60.0, 0.001, 1000),
    ]
    x = pictures()
    answer = ask(edge, x)
    check(place, answer, x)
    assert peer.asked == []
    assert answer.parameters["isthmus_placement"] == "local"
    assert "not sent: the policy keeps the raw input 'x'" in answer.parameters["isthmus_reason"]


def flipped(where: float) -> Misbehave:
    """Flip a bit of an answer's body, so far into it."""

    def misbehave(request: HttpRequest, response: HttpResponse) -> HttpResponse:
        body = bytearray(response.body)
        body[int(where * (len(body) - 1))] ^= 0x04
        return HttpResponse(response.status, bytes(body), response.headers)

    return misbehave


def replaced(body: bytes, status: int = 200) -> Misbehave:
    return lambda request, response: HttpResponse(status, body, {"content-type": "application/json"})


def failing(request: HttpRequest, response: HttpResponse) -> HttpResponse:
    raise RuntimeError("a fault of the server's")


def other_model(request: HttpRequest, response: HttpResponse) -> HttpResponse:
    """The answer of a peer that serves something else under that name: right in form, wrong in shape."""
    head = json.loads(response.body[: int(response.headers["inference-header-content-length"])])
    output = head["outputs"][0]
    output |= {"datatype": "FP32", "shape": [1, 1], "data": [0.5], "parameters": {"isthmus_crc32": 0}}
    return HttpResponse(200, json.dumps(head).encode())


@pytest.mark.parametrize(
    "misbehave",
    [
        *(pytest.param(flipped(where), id=f"a bit flipped at {where}") for where in (0, 0.3, 0.6, 0.9, 1)),
        pytest.param(replaced(b"{}"), id="another document"),
        pytest.param(replaced(b'{"error":"busy"}', 503), id="busy"),
        pytest.param(replaced(b'{"error":"no"}', 403), id="forbidden"),
        pytest.param(replaced(b'{"error":"no such model"}', 404), id="not served"),
        pytest.param(failing, id="a fault"),
        pytest.param(other_model, id="another model"),
    ],
)
def test_a_wrong_answer_is_finished_here(
    place: Place, peer: Peer, edge: EdgeCore, misbehave: Misbehave
) -> None:
    peer.misbehave = misbehave
    x = pictures()
    answer = ask(edge, x, "split:1")
    check(place, answer, x)
    assert answer.parameters["isthmus_placement"] == "local"
    assert answer.parameters["isthmus_reason"].startswith("the cloud failed: ")


def test_what_the_cloud_does_not_serve_is_not_asked_for_again_at_once(
    place: Place, peer: Peer, edge: EdgeCore
) -> None:
    peer.misbehave = replaced(b'{"error":"no such model"}', 404)
    check(place, ask(edge, pictures(), "split:1"), pictures())
    with pytest.raises(InvalidRequest, match="cannot run as 'split:1': the cloud does not serve 'small-1'"):
        ask(edge, pictures(), "split:1")
    peer.misbehave = lambda request, response: response
    assert ask(edge, pictures(), "split:2").parameters["isthmus_placement"] == "split:2"


def test_values_that_the_cloud_refuses_are_not_a_fault_of_the_link(
    place: Place, peer: Peer, edge: EdgeCore
) -> None:
    peer.misbehave = replaced(b'{"error":"input p1 holds a NaN"}', 400)
    check(place, ask(edge, pictures(), "split:1"), pictures())
    status = edge.split.status()
    assert (len(peer.asked), status["asked_in_vain"], status["cloud_rests"]) == (1, 0, False)


def test_prices_and_bytes_are_those_of_all_that_is_asked_for(place: Place, edge: EdgeCore) -> None:
    ways = edge.split.ways
    ways.prices = Prices(usd_per_request=0.5, usd_per_second=2.0)
    ways.cloud_seconds = {"small": 0.25, "small-1": 0.5, "small-2": 0.125}
    local, whole, first, second = ways.options(0.0, 3)
    assert [option.name for option in (local, whole, first, second)] == [
        "local",
        "cloud",
        "split:1",
        "split:2",
    ]
    assert [option.usd for option in (local, whole, first, second)] == [0, 2.0, 4.75, 1.25]
    assert first.moved_bytes - second.moved_bytes == 1500 + 2 * 4 * 3 * 8 * 8 * 8
    assert (whole.refused != "", first.refused, second.refused) == (True, "", "")


def test_what_arrives_damaged_is_not_worked_on(place: Place, peer: Peer, edge: EdgeCore) -> None:
    through = peer.service.handle
    peer.service.handle = (
        lambda request: through(  # type: ignore[method-assign]
            msgspec.structs.replace(
                request, body=request.body[:-5] + bytes([request.body[-5] ^ 1]) + request.body[-4:]
            )
        )
    )
    x = pictures()
    answer = ask(edge, x, "split:2")
    check(place, answer, x)
    assert "are not those that were sent" in answer.parameters["isthmus_reason"]


def test_a_late_answer_is_not_waited_for(place: Place, peer: Peer, edge: EdgeCore) -> None:
    go_on = threading.Event()

    def late(request: HttpRequest, response: HttpResponse) -> HttpResponse:
        go_on.wait(10)
        return response

    peer.misbehave = late
    edge.split.ways.whole_seconds = 60.0  # so that it is worth asking
    x = pictures()
    answer = ask(edge, x)
    go_on.set()
    check(place, answer, x)
    assert answer.parameters["isthmus_placement"] == "local"
    assert answer.parameters["isthmus_reason"].startswith("the cloud was late")


def test_a_peer_that_is_killed_amid_a_request_costs_nothing_but_time(
    place: Place, opened: list[EdgeCore], tmp_path: Path
) -> None:
    folders = [str(place.root / f"slices/small-{number}") for number in (1, 2)]
    program = [sys.executable, str(Path(__file__).with_name("split_peer.py")), "hangs", *folders]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        opened.append(place.core(f"http://127.0.0.1:{process.stdout.readline().strip()}"))
        x, answers = pictures(), []
        opened[0].split.clock = lambda: 1000.0  # no rest ends while this machine is busy
        # Longer than the test may take: only the peer's death can end the wait.
        opened[0].split.ways.slices.seconds[2] = 60.0
        asking = threading.Thread(target=lambda: answers.append(ask(opened[0], x, "split:2")))
        asking.start()
        assert process.stdout.readline() == "asked\n"
        process.kill()
        asking.join(30)
    (answer,) = answers
    check(place, answer, x)
    assert answer.parameters["isthmus_reason"].startswith("the cloud failed: the cloud did not answer")
    # It is gone: what comes next does not wait for it.
    again = ask(opened[0], x)
    check(place, again, x)
    assert again.parameters["isthmus_reason"] == "the cloud did not answer, and rests"


def test_many_at_once_get_their_own_answers_while_the_peer_misbehaves_at_random(
    place: Place, peer: Peer, edge: EdgeCore
) -> None:
    source, lock = np.random.default_rng(11), threading.Lock()
    faults = [flipped(0.5), flipped(0.97), replaced(b""), replaced(b'{"error":"busy"}', 503), failing]

    def sometimes(request: HttpRequest, response: HttpResponse) -> HttpResponse:
        with lock:
            at = int(source.integers(0, 2 * len(faults)))
        return faults[at](request, response) if at < len(faults) else response

    peer.misbehave = sometimes
    answers: dict[int, Any] = {}

    def run(number: int) -> None:
        x = pictures(1 + number % 3, seed=number)
        answers[number] = (x, ask(edge, x, ("split:1", "split:2", "local")[number % 3]))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == list(range(24))
    for x, answer in answers.values():
        check(place, answer, x)
    assert sum(edge.split.status()["answered"].values()) == 24


def test_offline_all_is_local_and_nothing_is_tried_at_each_request(
    place: Place, opened: list[EdgeCore]
) -> None:
    with EdgeServer(Peer(place.service()), 0, max_request_bytes=1) as nobody:
        address = f"http://127.0.0.1:{nobody.port}"
    opened.append(place.core(address))
    opened[0].split.clock = lambda: 1000.0  # no rest ends while this machine is busy
    x = pictures()
    for _ in range(3):
        check(place, ask(opened[0], x), x)
    opened.pop().close()
    status = place.status()["split"]
    assert status["answered"] == {"local": 3}
    assert status["asked_in_vain"] <= 1


def test_a_deadline_is_a_positive_number_and_a_place_is_one_that_exists(edge: EdgeCore) -> None:
    for value in (0, -1, "soon", True):
        with pytest.raises(InvalidRequest, match="isthmus_deadline_seconds"):
            ask(edge, pictures(), isthmus_deadline_seconds=value)
    with pytest.raises(InvalidRequest, match="must be one of local, cloud, split:1, split:2, not 'moon'"):
        ask(edge, pictures(), "moon")


def test_a_deadline_ends_the_wait_in_time_to_finish_here(place: Place, peer: Peer, edge: EdgeCore) -> None:
    go_on = threading.Event()

    def late(request: HttpRequest, response: HttpResponse) -> HttpResponse:
        go_on.wait(20)
        return response

    peer.misbehave = late
    x = pictures()
    answer = ask(edge, x, "split:2", isthmus_deadline_seconds=0.2)
    go_on.set()
    check(place, answer, x)
    assert answer.parameters["isthmus_placement"] == "local"


def test_wrong_inputs_are_refused_as_without_slices(edge: EdgeCore) -> None:
    with pytest.raises(InvalidRequest, match="must have shape"):
        ask(edge, pictures()[:, :, :3], "split:1")


@pytest.mark.parametrize("what", ["signature", "model", "slice", "nothing"])
def test_slices_that_cannot_be_trusted_leave_the_whole_in_service(
    tmp_path: Path, signer: KeySigner, what: str
) -> None:
    make_whole(tmp_path / "whole", signer)
    pack_bundle(tmp_path / "whole", tmp_path / "model.zip")
    document = make_sliced(tmp_path / "slices", tmp_path / "whole/model.onnx", signer)
    place = Place(tmp_path, signer)
    if what == "signature":
        write_document(tmp_path / "slices", document, KeySigner())
    elif what == "model":
        write_document(tmp_path / "slices", msgspec.structs.replace(document, model_sha256="7" * 64), signer)
    elif what == "slice":
        (tmp_path / "slices/small-0/model.onnx").write_bytes(b"another")
    else:
        (tmp_path / "slices/sliced.json").unlink()
    core = place.core("http://127.0.0.1:9")
    try:
        x = pictures()
        answer = ask(core, x)
        check(place, answer, x)
        assert answer.parameters == {}
        expected = {
            "signature": "SignatureInvalid",
            "model": "InvalidModel: the slices are of the model 777777777777",
            "slice": "DigestMismatch",
            "nothing": "InvalidModel: there is no sliced.json",
        }
        assert place.status()["split"]["refused"].startswith(expected[what])
    finally:
        core.close()


def test_without_the_setting_nothing_is_different(place: Place, opened: list[EdgeCore]) -> None:
    opened.append(place.core("", ISTHMUS_EDGE_SLICES=""))
    answer = ask(opened[0], pictures())
    assert (answer.parameters, "split" in place.status()) == ({}, False)


def test_a_device_without_the_later_slices_asks_for_them_and_falls_back_on_the_whole(
    tmp_path: Path, signer: KeySigner, cloud: str, peer: Peer
) -> None:
    make_whole(tmp_path / "whole", signer)
    pack_bundle(tmp_path / "whole", tmp_path / "model.zip")
    document = make_sliced(tmp_path / "slices", tmp_path / "whole/model.onnx", signer)
    peer.service = Place(tmp_path, signer).service()
    last = msgspec.structs.replace(document.slices[2], folder="")
    write_document(
        tmp_path / "slices", msgspec.structs.replace(document, slices=(*document.slices[:2], last)), signer
    )
    place = Place(tmp_path, signer)
    core = place.core(cloud)
    try:
        x = pictures()
        answer = ask(core, x, "split:2")
        assert answer.parameters["isthmus_placement"] == "split:2"
        check(place, answer, x)
        peer.misbehave = failing
        check(place, ask(core, x, "split:2"), x)
    finally:
        core.close()


def test_the_way_to_the_cloud_says_what_went_wrong(place: Place, peer: Peer, cloud: str) -> None:
    part, x = CloudPart(cloud), {"x": pictures()}
    assert part("small", "1", x, timeout_seconds=5).seconds is not None
    with pytest.raises(InvalidRequest, match="in service as version 1"):
        part("small", "2", x, timeout_seconds=5)
    peer.misbehave = failing
    with pytest.raises(Unavailable, match="HTTP 500"):
        part("small", None, x, timeout_seconds=5)
    with pytest.raises(Unavailable, match="did not answer"):
        CloudPart("http://127.0.0.1:9")("small", None, x, timeout_seconds=0.5)
    with pytest.raises(InvalidInput, match="without TLS"):
        CloudPart("http://example.com", "secret", "token")("small", None, x, timeout_seconds=0.5)
    part.close()


def test_latency_is_that_of_a_request_without_bytes(cloud: str) -> None:
    assert 0 < CloudPart(cloud).latency(timeout_seconds=5) < 5
    with pytest.raises(Unavailable, match="does not say that it lives"):
        CloudPart("http://127.0.0.1:9").latency(timeout_seconds=0.5)


def test_what_is_given_up_leaves_the_link_at_once(place: Place, peer: Peer, cloud: str) -> None:
    there, go_on = threading.Event(), threading.Event()

    def late(request: HttpRequest, response: HttpResponse) -> HttpResponse:
        there.set()
        go_on.wait(20)
        return response

    peer.misbehave = late
    errand: Errand = Errand()
    failures: list[Exception] = []

    def run() -> None:
        try:
            CloudPart(cloud)("small", None, {"x": pictures()}, timeout_seconds=60, errand=errand)
        except Unavailable as error:
            failures.append(error)

    asking = threading.Thread(target=run)
    asking.start()
    assert there.wait(10)
    errand.give_up()
    asking.join(10)
    go_on.set()
    assert [str(failure) for failure in failures] == [
        "the cloud did not answer: the connection broke (RemoteDisconnected)"
    ]


def test_an_idle_connection_that_the_server_closed_is_opened_anew(place: Place, peer: Peer) -> None:
    first = EdgeServer(peer, 0, max_request_bytes=MOST_BYTES)
    first.start()
    part, x = CloudPart(f"http://127.0.0.1:{first.port}"), {"x": pictures()}
    part("small", None, x, timeout_seconds=5)
    ((_, connection),) = part._idle
    connection.sock.shutdown(2)
    part("small", None, x, timeout_seconds=5)
    first.close()
