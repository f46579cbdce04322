"""What every transport does: what one end sends, the other receives, each message once and in order."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isthmus.adapters.aws.blobs import S3BlobStore
from isthmus.adapters.aws.session import client
from isthmus.adapters.local.blobs import DirectoryBlobStore
from isthmus.adapters.shared_folder import SharedFolder
from isthmus.errors import ChannelClosed, DeadlineExceeded, InvalidInput, PayloadTooLarge
from isthmus.model.sliced import Cast
from isthmus.ports import BlobStore
from isthmus.transport.asking import serve
from isthmus.transport.direct import DirectListener, DirectTransport, Terms
from isthmus.transport.https import InferenceTransport, answering
from isthmus.transport.inprocess import channel_pair
from isthmus.transport.ports import Channel, within
from isthmus.transport.relay import RelayTransport
from isthmus.transport.relay_stream import RelayCaller, RelayListener, RelayTerms
from isthmus.transport.session import Window
from tests.certificates import Authority

Answer = Callable[[dict[str, Any]], dict[str, Any]]
Ends = tuple[Channel, Channel]
MakeEnds = Callable[..., Ends]
SYMMETRIC = [
    "in process",
    "direct",
    "direct under TLS",
    "relay",
    "relay through s3",
    "relayed stream",
    "relayed stream through s3",
]
LARGE = 3 * 2**20
MAX_BYTES = 2**22


symmetric = pytest.mark.parametrize("way", SYMMETRIC, indirect=True)


@pytest.fixture(params=[*SYMMETRIC, "inference protocol"])
def way(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if name.endswith("through s3"):
        request.getfixturevalue("aws")
        client("s3").create_bucket(
            Bucket="data", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
        )
    return name


def _store(way: str, folder: Path) -> BlobStore:
    return S3BlobStore("data") if way.endswith("through s3") else DirectoryBlobStore(folder / "store")


@pytest.fixture
def make_ends(way: str, tmp_path: Path) -> Iterator[MakeEnds]:
    """Makes both ends of a channel: who asks, and who answers."""
    opened: list[Any] = []

    def make(cast: Cast = "", messages: int = 16) -> Ends:
        window = Window(messages=messages)
        if way == "in process":
            ends: Ends = channel_pair(cast=cast, max_bytes=MAX_BYTES, window=window)
        elif way.startswith("relayed stream"):
            relay_terms = RelayTerms(cast=cast, max_bytes=MAX_BYTES, window=window)
            objects = SharedFolder(tmp_path) if way == "relayed stream" else S3BlobStore("data")
            called = RelayListener(objects, "relay/worker-0", relay_terms)
            calling = RelayCaller(objects, "relay/worker-0", relay_terms)
            ends = calling.connect(deadline=within(20)), called.accept(deadline=within(20))
        elif way.startswith("relay"):
            store = _store(way, tmp_path)
            asks, answers = (
                RelayTransport(store, "relay/cut", side, cast=cast, max_bytes=MAX_BYTES, window=window)
                for side in ("ask", "answer")
            )
            ends = asks.connect(deadline=within(20)), answers.connect(deadline=within(20))
        else:
            ours = theirs = None
            if way == "direct under TLS":
                authority = Authority(tmp_path)
                ours, theirs = authority.tls("head", "tail"), authority.tls("tail", "head")
            terms = Terms(cast=cast, max_bytes=MAX_BYTES, window=window)
            listener = DirectListener(("127.0.0.1", 0), tls=theirs, terms=terms)
            opened.append(listener)
            asking = DirectTransport(listener.address, tls=ours, terms=terms).connect(deadline=within(20))
            ends = asking, listener.accept(deadline=within(20))
        opened.extend(ends)
        return ends

    yield make
    # At once: each waits a moment for the other to have taken what it sent.
    closing = [threading.Thread(target=each.close) for each in opened]
    for thread in closing:
        thread.start()
    for thread in closing:
        thread.join()


@pytest.fixture
def make_asking(way: str, request: pytest.FixtureRequest) -> Iterator[Callable[..., Channel]]:
    """Makes the asking end of a channel at whose other end a function answers."""
    if way == "inference protocol":

        def asking(answer: Answer, cast: Cast = "", messages: int = 16) -> Channel:
            serving = answering(answer)
            return InferenceTransport(
                lambda sent, seconds: serving(sent),
                "tail",
                cast=cast,
                max_bytes=MAX_BYTES,
                window=Window(messages),
            ).connect(deadline=within(20))

        yield asking
        return
    make: MakeEnds = request.getfixturevalue("make_ends")
    serving: list[threading.Thread] = []
    asked: list[Channel] = []

    def served(answer: Answer, cast: Cast = "", messages: int = 16) -> Channel:
        asks, answers = make(cast, messages)
        serving.append(threading.Thread(target=serve, args=(answers, answer)))
        serving[-1].start()
        asked.append(asks)
        return asks

    yield served
    for channel in asked:
        channel.close()
    for thread in serving:
        thread.join()


def echo(question: dict[str, Any]) -> dict[str, Any]:
    return question


def same(found: dict[str, Any], sent: dict[str, Any]) -> bool:
    return list(found) == list(sent) and all(
        found[name].dtype == array.dtype
        and found[name].shape == array.shape
        and np.array_equal(found[name], array, equal_nan=array.dtype.kind == "f")
        for name, array in sent.items()
    )


def test_arrays_of_every_kind_come_back_as_they_went(make_asking: Callable[..., Channel]) -> None:
    noise = np.random.default_rng(1)
    kinds = [
        "bool",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
        "int8",
        "int16",
        "int32",
        "int64",
        "f2",
        "f4",
        "f8",
    ]
    sent: dict[str, Any] = {kind: noise.integers(0, 2, size=(2, 3)).astype(kind) for kind in kinds}
    sent |= {
        "large": noise.normal(size=LARGE // 4).astype("f4"),
        "single": np.array([7], "f4"),
        "not a number": np.array([np.nan, np.inf, -0.0], "f4"),
        "turned": np.asfortranarray(noise.normal(size=(5, 7)).astype("f4")),
        "every other": np.arange(10, dtype="i8")[::2],
        "naïve / name": np.array([[1]], "i4"),
    }
    channel = make_asking(echo)
    channel.send(sent, deadline=within(20))
    assert same(channel.receive(deadline=within(20)), sent)
    channel.close()


def test_each_message_comes_once_and_in_order(make_asking: Callable[..., Channel]) -> None:
    channel = make_asking(lambda question: {"y": question["x"] + 1}, messages=4)
    answers = []
    for number in range(24):
        channel.send({"x": np.full(100 + number, number)}, deadline=within(20))
        if number >= 3:
            answers.append(channel.receive(deadline=within(20))["y"])
    answers += [channel.receive(deadline=within(20))["y"] for _ in range(3)]
    assert [(len(found), set(found.tolist())) for found in answers] == [(100 + n, {n + 1}) for n in range(24)]
    channel.close()


@pytest.mark.parametrize(("cast", "most"), [("float16", 2**-11), ("int8", 1 / 508)])
def test_32_bit_floats_may_go_in_fewer_bits(
    make_asking: Callable[..., Channel], cast: Cast, most: float
) -> None:
    noise = np.random.default_rng(2)
    cut = noise.normal(size=(4, 8, 9, 9)).astype("f4") * np.logspace(-3, 3, 8, dtype="f4").reshape(1, 8, 1, 1)
    sent = {
        "cut": cut,
        "relu": np.maximum(cut, 0),
        "same": np.full((4, 4), 3.25, "f4"),
        "single": np.array([1.5], "f4"),
        "beyond": np.array([1e30, 1.0], "f4") if cast == "float16" else np.array([np.inf, 1.0], "f4"),
        "whole": np.arange(5),
        "double": noise.normal(size=3),
        "none": np.zeros((0, 3), "f4"),
    }
    seen: dict[str, Any] = {}

    def look(question: dict[str, Any]) -> dict[str, Any]:
        seen.update(question)
        return {"ok": np.array([True])}

    channel = make_asking(look, cast)
    if "inference" in type(channel).__name__.lower():
        sent.pop("none")
    channel.send(sent, deadline=within(20))
    assert channel.receive(deadline=within(20))["ok"].all()
    for name in ("same", "single", "beyond", "whole", "double"):
        assert same({name: seen[name]}, {name: sent[name]}), name
    for channel_number in range(8):
        found, right = seen["cut"][:, channel_number], cut[:, channel_number]
        span = float(right.max() - right.min()) if cast == "int8" else 2 * float(np.abs(right).max())
        assert np.abs(found - right).max() <= span * most * 1.001, "each channel has its own range"
    assert (seen["relu"][sent["relu"] == 0] == 0).all(), "zero after a ReLU stays zero"
    assert {seen[name].dtype for name in ("cut", "relu")} == {np.dtype("f4")}
    channel.close()


def test_what_cannot_be_sent_is_refused_and_the_next_message_goes(
    make_asking: Callable[..., Channel],
) -> None:
    channel = make_asking(echo)
    with pytest.raises(InvalidInput, match="'names'"):
        channel.send({"names": np.array(["a"], dtype=object)}, deadline=within(20))
    with pytest.raises(InvalidInput, match="'when'"):
        channel.send({"when": np.array(["2026-01-01"], dtype="datetime64[D]")}, deadline=within(20))
    with pytest.raises(PayloadTooLarge, match=r"at most 4.0 MiB"):
        channel.send({"x": np.zeros(MAX_BYTES + 1, "u1")}, deadline=within(20))
    sent = {"x": np.arange(3)}
    channel.send(sent, deadline=within(20))
    assert same(channel.receive(deadline=within(20)), sent)
    channel.close()


@symmetric
def test_a_deadline_holds_and_the_message_after_it_comes(make_ends: MakeEnds) -> None:
    asks, answers = make_ends()
    for end in (asks, answers):
        with pytest.raises(DeadlineExceeded):
            end.receive(deadline=within(0.01))
    sent = {"x": np.arange(1000)}
    asks.send(sent, deadline=within(20))
    assert same(answers.receive(deadline=within(20)), sent)
    answers.send(sent, deadline=within(20))
    assert same(asks.receive(deadline=within(20)), sent)


@symmetric
def test_a_sender_waits_for_who_does_not_take(make_ends: MakeEnds) -> None:
    asks, answers = make_ends(messages=2)
    for number in range(2):
        asks.send({"x": np.array([number])}, deadline=within(20))
    with pytest.raises(DeadlineExceeded):
        asks.send({"x": np.array([2])}, deadline=within(0.05))
    taken = threading.Thread(target=lambda: [answers.receive(deadline=within(20)) for _ in range(3)])
    taken.start()
    asks.send({"x": np.array([2])}, deadline=within(20))
    taken.join()


@symmetric
def test_what_was_sent_before_the_end_arrives_and_then_the_end(make_ends: MakeEnds) -> None:
    asks, answers = make_ends()
    asks.send({"x": np.arange(2)}, deadline=within(20))
    asks.send({"x": np.arange(3)}, deadline=within(20))
    closing = threading.Thread(target=asks.close)
    closing.start()
    assert [len(answers.receive(deadline=within(20))["x"]) for _ in range(2)] == [2, 3]
    with pytest.raises(ChannelClosed, match="the other side closed"):
        answers.receive(deadline=within(20))
    closing.join()
    with pytest.raises(ChannelClosed, match="this side closed"):
        asks.send({"x": np.arange(2)}, deadline=within(20))
    asks.close()


@symmetric
def test_what_was_received_is_the_receivers_own(make_ends: MakeEnds) -> None:
    asks, answers = make_ends()
    kept = []
    for number in range(6):
        asks.send({"x": np.full(LARGE // 8, number)}, deadline=within(20))
        kept.append(answers.receive(deadline=within(20))["x"])
    assert [set(each.tolist()) for each in kept] == [{number} for number in range(6)]
