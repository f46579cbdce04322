"""All cuts between two devices: figures, which are best, and their picture."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import msgspec
import pytest

from isthmus.errors import InvalidCase
from isthmus.model.device import DeviceDescriptor
from isthmus.model.leakage import Leakage, LeakageReport
from isthmus.model.network import NetworkProfile, Operator, Tensor
from isthmus.model.policy import DataPolicy
from isthmus.planning.slicing.frontier import CutFigures, Frontier, crossings, frontier
from isthmus.planning.slicing.frontier_picture import SHADES, UNKNOWN, shade, to_png, to_svg
from isthmus.planning.slicing.planner import make_plan
from isthmus.planning.slicing.request import Request

SECONDS = {"near": (1.0, 1.0, 9.0, 9.0), "far": (5.0, 5.0, 0.5, 0.5)}
SIZES = (8000, 8000, 100, 8000, 8)
FAR = 1000.0
"""Bytes a second of the link, which has no latency."""


def network() -> NetworkProfile:
    """Four operators in a row, and a short cut from the second tensor to the last operator."""
    operators = tuple(
        Operator(
            name=f"op{k}",
            kind="Conv",
            rate_class="conv",
            inputs=(f"t{k}", *(("t1",) if k == 3 else ())),
            outputs=(f"t{k + 1}",),
            seconds={name: seconds[k] for name, seconds in SECONDS.items()},
        )
        for k in range(4)
    )
    tensors = tuple(Tensor(name=f"t{k}", sample_bytes=size) for k, size in enumerate(SIZES))
    return NetworkProfile(
        name="toy", digest="a" * 64, inputs=("t0",), outputs=("t4",), operators=operators, tensors=tensors
    )


def devices(**changes: object) -> list[DeviceDescriptor]:
    values = {
        "kind": "edge", "zone": "here", "arch": "x86_64", "cores": 1, "memory_bytes": 1 << 30,
        "disk_free_bytes": 1 << 30, "usage": ("inference",),
    }  # fmt: skip
    return [
        msgspec.convert(
            {
                **values,
                **changes,
                "id": name,
                "links": [{"to": other, "bytes_per_second": FAR, "latency_seconds": 0}],
            },
            DeviceDescriptor,
        )
        for name, other in (("near", "far"), ("far", "near"))
    ]


def report(**r2: float) -> LeakageReport:
    """``t1_t2=0.5``: of these two together."""
    cuts = tuple(
        Leakage(
            tensors=tuple(names.split("_")), r2=value, decoder="ridge", tried={"ridge": value}, elements=1
        )
        for names, value in r2.items()
    )
    return LeakageReport(
        model="toy", model_digest="a" * 64, samples_digest="b" * 64, fit_samples=1000, held_out_samples=200, seed=0,
        cuts=cuts,
    )  # fmt: skip


def test_what_crosses_is_what_was_made_before_and_is_read_after() -> None:
    assert list(crossings(network())) == [("t0",), ("t1",), ("t1", "t2"), ("t1", "t3"), ()]


def test_each_cut_has_the_seconds_that_a_plan_would_have() -> None:
    found = frontier(network(), devices())
    sent = [cut.size_bytes for cut in found.cuts]
    assert sent == [8000, 8000, 8100, 16000, 0]
    computed = [11.0, 7.0, 3.0, 11.5, 20.0]
    back = 8 / FAR
    expected = [
        c + s / FAR + (back if at < 4 else 0) for at, (c, s) in enumerate(zip(computed, sent, strict=True))
    ]
    assert [cut.latency_seconds for cut in found.cuts] == pytest.approx(expected)
    plan = make_plan(network(), devices(), Request(policy=DataPolicy(may_leave="everything")))
    assert plan.value == pytest.approx(min(cut.latency_seconds or 0 for cut in found.cuts))
    assert [cut.after for cut in found.cuts] == ["", "op0", "op1", "op2", "op3"]


def test_what_a_cut_tells_is_what_was_measured_of_all_of_it() -> None:
    found = frontier(network(), devices(), report(t1=0.75, t1_t2=0.5, t3=0.1))
    assert [cut.leakage_r2 for cut in found.cuts] == [1.0, 0.75, 0.5, None, 0.0]
    none = frontier(network(), devices())
    assert [cut.leakage_r2 for cut in none.cuts] == [1.0, None, None, None, 0.0]


def test_the_best_are_those_that_no_other_is_better_than() -> None:
    found = frontier(network(), devices(), report(t1=0.75, t1_t2=0.5))
    assert [cut.at for cut in found.cuts if cut.best] == [1, 2, 4]
    for cut in found.cuts:
        worse = [
            other
            for other in found.cuts
            if None not in (other.leakage_r2, cut.leakage_r2)
            and (other.latency_seconds or 0) <= (cut.latency_seconds or 0)
            and other.size_bytes <= cut.size_bytes
            and (other.leakage_r2 or 0) <= (cut.leakage_r2 or 0)
            and other != cut
        ]
        assert not (cut.best and worse)


def test_a_cast_sends_less_and_a_batch_more() -> None:
    found = frontier(network(), devices(), batch=3, cast="int8")
    assert [cut.size_bytes for cut in found.cuts] == [6000, 6000, 6075, 12000, 0]
    assert (found.batch, found.cast) == (3, "int8")


def test_a_part_that_a_device_cannot_hold_has_no_seconds() -> None:
    near, far = devices()
    small = msgspec.structs.replace(far, memory_bytes=20_000)
    operators = tuple(
        msgspec.structs.replace(entry, parameters=({"name": f"w{k}", "size_bytes": 5000},))
        for k, entry in enumerate(network().operators)
    )
    heavy = msgspec.convert(
        msgspec.to_builtins(msgspec.structs.replace(network(), operators=operators)), NetworkProfile
    )
    found = frontier(heavy, [near, msgspec.structs.replace(small, memory_bytes=36_000)])
    assert [cut.latency_seconds is None for cut in found.cuts] == [True, False, False, False, False]
    assert not found.cuts[0].best
    assert b"1 are not drawn: a device cannot hold its part" in to_svg(found)


def test_two_devices_are_needed_and_figures_of_this_network() -> None:
    with pytest.raises(
        InvalidCase, match="needs two devices, the first where the raw input lies; there are 1"
    ):
        frontier(network(), devices()[:1])
    other = msgspec.structs.replace(report(t1=0.5), model_digest="c" * 64)
    with pytest.raises(InvalidCase, match="measure that"):
        frontier(network(), devices(), other)


def test_the_picture_shows_each_cut_and_names_the_best() -> None:
    found = frontier(network(), devices(), report(t1=0.75, t1_t2=0.5))
    svg = to_svg(found)
    assert svg == to_svg(found)
    ET.fromstring(svg)
    text = svg.decode()
    assert "toy: near, then far: 3 cuts, and all on either" in text
    assert "4: after op3, 20.0 s, R² 0.00" in text
    assert "not measured" in text
    assert to_png(found).startswith(b"\x89PNG")


def test_a_picture_of_one_point_can_be_drawn() -> None:
    cut = CutFigures(
        at=1, after="only", tensors=(), size_bytes=0, latency_seconds=0.0, leakage_r2=0.0, best=True
    )
    lone = Frontier(network="n", network_digest="", batch=1, cast="", first="a", second="b", cuts=(cut, cut))
    ET.fromstring(to_svg(lone))


def test_colours_run_from_nothing_to_all() -> None:
    assert (shade(0.0), shade(1.0), shade(None), shade(-3.0)) == (SHADES[0], SHADES[-1], UNKNOWN, SHADES[0])
