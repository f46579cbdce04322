"""A plan as a table, as one line that parses back, in time, and as a picture."""

from __future__ import annotations

import re
import struct
import sys
import xml.etree.ElementTree as ET

import pytest
from msgspec.structs import replace
from slicing_plans import alone, back_and_forth, latency, pipeline, replica

from isthmus.errors import EnvironmentProblem, InvalidDocument
from isthmus.model.slicing import Alternative, Slice, SlicePlan
from isthmus.planning.slicing import wording
from isthmus.planning.slicing.arrows import through_time
from isthmus.planning.slicing.lanes import Lanes
from isthmus.planning.slicing.picture import to_png, to_svg
from isthmus.planning.slicing.render import parse_summary, pays, summarise, summary, table
from isthmus.planning.slicing.sheet import text_width
from isthmus.planning.slicing.timeline import bottleneck, lanes, timeline

LATENCY = """\
resnet50, batch 1: latency 0.0203 s
bound 0.0203 s, gap 0%, exact; by minimum cut in 4.10 ms
proof: a flow of 0.0203 s equals the cut

SLICE  LAYERS   OPERATORS                              DEVICE  SHARE  COMPUTE     BUSY  MEMORY
0      [0,12)   conv1 .. /layer1/layer…elu_activation  edge-1   100%  4.20 ms  12.5 ms  300.0 MiB of 2.0 GiB
1      [12,30)  /layer2/conv1/Conv .. pool             rig-1    100%  3.10 ms  14.0 ms  1.0 GiB of 8.0 GiB
2      [30,40)  fc .. softmax                          cloud    100%  2.10 ms  4.70 ms  100.0 MiB

TRANSFER  FROM    TO     TENSORS                          SIZE     TIME  BY      AS           R2
0 -> 1    edge-1  rig-1  layer1_out                    1.2 MiB  8.30 ms  direct  float16   0.310  <-- bottleneck
1 -> 2    rig-1   cloud  pool_out, skip_7_out +1 more  8.0 KiB  2.60 ms  relay   as it is      -

predicted: a request in 20.3 ms, 71.4 samples/s, $0.0042 per 1,000 requests
splitting pays: 0.0203 s, against 0.0312 s on edge-1, the best single device (1.54 times)
all of it on one device:
  edge-1  0.0312 s
  rig-1   cannot: raw data may not leave onprem-*

why each device is used or not:
  edge-1  used      holds the raw input
  rig-1   used      computes [12,30) 3 times as fast as edge-1
  cloud   used      runs what rig-1 cannot
  rig-9   not used  its link of 1.0 MiB/s would add 1.2 s"""

PIPELINE = """\
vit, batch 8: throughput 185.2 samples/s
bound 188.9 samples/s, gap 2%, not exact; by CP-SAT in 60.0 s
given up: the search stopped at 60 s

SLICE  LAYERS   OPERATORS                       DEVICE  SHARE  COMPUTE     BUSY  MEMORY
0      [0,5)    block0.attention .. block0.mlp  rig-0    100%  3.50 ms  4.00 ms  1.0 GiB of 8.0 GiB
1      [5,10)   block1.attention .. block1.mlp  rig-1     60%  4.10 ms  4.40 ms  1.0 GiB of 8.0 GiB
                                                edge-7    40%  4.10 ms  4.30 ms  1.0 GiB of 8.0 GiB
2      [10,15)  block2.attention .. block2.mlp  rig-2    100%  4.70 ms  5.40 ms  1.0 GiB of 8.0 GiB  <-- bottleneck

TRANSFER  FROM            TO              TENSORS     SIZE    TIME  BY      AS        R2
0 -> 1    rig-0           rig-1 + edge-7  block0   1.0 MiB  500 µs  direct  as it is   -
1 -> 2    rig-1 + edge-7  rig-2           block1   1.0 MiB  500 µs  direct  as it is   -

predicted: a request in 30.0 ms, 185.2 samples/s
splitting pays: 185.2 samples/s, against 80 samples/s on rig-0, the best single device (2.31 times)
all of it on one device:
  rig-0  80 samples/s

why each device is used or not:
  rig-0   used  works
  rig-1   used  works
  edge-7  used  works
  rig-2   used  works"""


@pytest.mark.parametrize(("plan", "golden"), [(latency(), LATENCY), (pipeline(), PIPELINE)])
def test_a_table_says_it_all(plan: SlicePlan, golden: str) -> None:
    assert table(plan) == golden


SUMMARIES = [
    (
        latency(),
        "edge-1[0,12) -> rig-1[12,30) -> cloud[30,40)  latency 0.0203 s (bound 0.0203, exact, minimum cut)",
    ),
    (
        pipeline(),
        "rig-0[0,5) -> rig-1*0.6+edge-7*0.4[5,10) -> rig-2[10,15)  "
        "throughput 185.185 samples/s (bound 188.889, gap 0.02, CP-SAT)",
    ),
    (
        back_and_forth(method="HiGHS (1,204 binaries), warm-started"),
        "edge-1[0,2)[5,11) -> cloud[2,5)  "
        "latency 0.0125 s (bound 0.0125, exact, HiGHS (1,204 binaries), warm-started)",
    ),
    (
        alone(
            objective="cost", unit="USD/1000 requests", value=1.5e-7, bound=0.0, gap=float("inf"), exact=False
        ),
        "edge-1[0,40)  cost 1.5e-07 USD/1000 requests (bound 0, gap inf, minimum cut)",
    ),
]


@pytest.mark.parametrize(("plan", "line"), SUMMARIES)
def test_a_summary_parses_back(plan: SlicePlan, line: str) -> None:
    assert summary(plan) == line
    assert parse_summary(line) == summarise(plan)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "edge-1[0,12)",
        "edge-1[0,12)  latency 0.02 samples/s (bound 0.02, exact, minimum cut)",
        "edge-1[0,12)  speed 0.02 s (bound 0.02, exact, minimum cut)",
        "edge-1[0,12)  latency fast s (bound 0.02, exact, minimum cut)",
        "edge-1(0,12)  latency 0.02 s (bound 0.02, exact, minimum cut)",
        "[0,12)  latency 0.02 s (bound 0.02, exact, minimum cut)",
        "a*much[0,12)  latency 0.02 s (bound 0.02, exact, minimum cut)",
    ],
)
def test_what_is_no_summary_is_refused(line: str) -> None:
    with pytest.raises(InvalidDocument):
        parse_summary(line)


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        (
            alone(),
            "splitting does not pay: 0.0312 s on edge-1 alone, against 0.131 s for the best split, edge-1 + cloud",
        ),
        (
            alone(best_split=None),
            "splitting does not pay: nothing better than 0.0312 s on edge-1 alone was found",
        ),
        (
            latency(alternatives=(Alternative(device="edge-1", value=None, reason="too small"),)),
            "splitting is needed: no device alone can run all of it; split it has 0.0203 s",
        ),
        (
            latency(alternatives=(Alternative(device="edge-1", value=0.01),)),
            "splitting does not pay: 0.0203 s split, against 0.01 s on edge-1, the best single device",
        ),
    ],
)
def test_whether_splitting_pays_is_said_with_both_figures(plan: SlicePlan, said: str) -> None:
    assert pays(plan) == said
    assert said in table(plan)


def test_the_best_single_device_is_the_one_with_the_most_samples_a_second() -> None:
    plan = pipeline(alternatives=tuple(Alternative(device=f"d{v}", value=float(v)) for v in (80, 120, 100)))
    assert "against 120 samples/s on d120" in pays(plan)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 s"),
        (1.5488, "1.55 s"),
        (0.0042, "4.20 ms"),
        (0.99996, "1.00 s"),
        (12.345e-6, "12.3 µs"),
        (4e-9, "0.00 µs"),
        (5432.1, "5,432 s"),
        (0.1, "100 ms"),
    ],
)
def test_durations_have_three_digits(seconds: float, said: str) -> None:
    assert wording.duration(seconds) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [(0.0123, "0.0123"), (12345.6, "12,346"), (1e-7, "1.000e-07"), (0, "0"), (float("inf"), "unlimited")],
)
def test_numbers_have_four_digits(value: float, said: str) -> None:
    assert wording.number(value) == said


def test_a_pipeline_waits_for_its_busiest_device_and_a_request_for_its_longest_part() -> None:
    busiest, longest, slice_ = bottleneck(pipeline()), bottleneck(latency()), bottleneck(alone())
    assert busiest is not None
    assert longest is not None
    assert slice_ is not None
    assert (busiest.slice, busiest.device) == (2, "rig-2")
    assert (longest.transfer, longest.slice) == (0, None)
    assert (slice_.slice, slice_.transfer) == (0, None)


def test_a_request_is_drawn_from_its_start_to_its_latency() -> None:
    plan = back_and_forth()
    found = timeline(plan)
    assert [(bar.device, bar.layers) for bar in found.bars] == [
        ("edge-1", "[0,2)"),
        ("cloud", "[2,5)"),
        ("edge-1", "[5,11)"),
    ]
    assert [bar.start for bar in found.bars] == pytest.approx([0, 0.004, 0.0075])
    assert [crossing.start for crossing in found.crossings] == pytest.approx([0.003, 0.006])
    assert found.end == pytest.approx(plan.value)
    assert not found.estimated


def test_without_the_seconds_of_each_range_they_are_spread_and_that_is_said() -> None:
    plan = back_and_forth()
    first = replace(plan.slices[0], range_seconds=())
    found = timeline(replace(plan, slices=(first, plan.slices[1])))
    assert found.estimated
    assert found.bars[0].end == pytest.approx(0.002)
    assert found.end == pytest.approx(plan.value)


def test_a_period_is_as_long_as_its_busiest_device() -> None:
    plan = pipeline()
    found = timeline(plan)
    assert found.end == pytest.approx(1 / plan.value)
    shared = [bar for bar in found.bars if bar.device == "edge-7"]
    assert [bar.kind for bar in shared] == ["compute", "exchange"]
    assert shared[0].end == pytest.approx(0.4 * 0.0041)
    assert shared[1].end == pytest.approx(0.0043)


def texts(svg: bytes) -> list[str]:
    return [element.text or "" for element in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


PICTURES = [latency(), pipeline(), pipeline(7), alone(), back_and_forth()]


@pytest.mark.parametrize("plan", PICTURES)
def test_the_svg_names_every_device_the_value_and_the_bottleneck(plan: SlicePlan) -> None:
    written = texts(to_svg(plan))
    assert set(lanes(plan)) <= set(written)
    everything = " ".join(written)
    assert all(entry.device in everything for entry in plan.reasons)
    assert wording.amount(plan.value, plan.unit) in everything
    assert wording.amount(plan.bound, plan.unit) in everything
    # Once in the legend, once at what it is.
    assert len(re.findall("bottleneck", everything)) == 2
    for sent in plan.transfers:
        figure = "" if sent.leakage_r2 is None else f"R² {sent.leakage_r2:.3f}"
        assert any(wording.duration(sent.seconds) in t and "B," in t and figure in t for t in written)


def test_the_same_plan_is_the_same_picture() -> None:
    assert to_svg(latency()) == to_svg(latency())
    assert to_svg(latency()) != to_svg(alone())
    assert b"<dc:date>" not in to_svg(latency())


@pytest.mark.parametrize(("small", "large"), [(pipeline(2), pipeline(7))])
def test_the_png_grows_with_the_devices(small: SlicePlan, large: SlicePlan) -> None:
    heights = []
    for plan in (small, large):
        found = to_png(plan)
        assert found[:8] == b"\x89PNG\r\n\x1a\n"
        width, height = struct.unpack(">II", found[16:24])
        assert width == 1760
        heights.append(height)
    assert 500 < heights[0] < heights[1] < 1500


def test_what_has_no_room_is_counted() -> None:
    plan = pipeline(7)
    sent = replace(plan.transfers[0], source=0, target=2, seconds=1e-6)
    crowded = texts(to_svg(replace(plan, transfers=(*plan.transfers, *[sent] * 40))))
    drawn = sum("B," in text for text in crowded)
    hidden = next(int(text.split()[0]) for text in crowded if "are not drawn" in text)
    assert drawn + hidden == 46


def test_texts_between_lanes_do_not_overlap() -> None:
    plan = latency()
    plan = replace(plan, transfers=(*plan.transfers, *[plan.transfers[0]] * 12))
    time = timeline(plan)
    place = Lanes(lanes(plan), (0, 0, 0), 2.2, 10.75, 10.75, time.end)
    spans = [
        (arrow.gap, arrow.row, arrow.text_x, arrow.text_x + text_width(arrow.text))
        for arrow in through_time(plan, time.crossings, place)
    ]
    assert len(spans) == 14
    for i, (gap, row, start, end) in enumerate(spans):
        for other_gap, other_row, other_start, other_end in spans[:i]:
            assert (gap, row) != (other_gap, other_row) or end <= other_start or other_end <= start


def test_without_matplotlib_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(EnvironmentProblem, match=r"needs matplotlib; install `isthmus\[planner\]`"):
        to_svg(latency(network="never drawn before"))


def inputs_elsewhere() -> SlicePlan:
    """The raw inputs lie on a device that computes nothing; results go back to it, which is no listed transfer."""
    plan = alone()
    here = Slice(
        ranges=((0, 0),), replicas=(replica("camera", 0.0, need=0),), first="raw inputs", last="raw inputs"
    )
    sent = replace(latency().transfers[0], seconds=0.002)
    return replace(plan, slices=(here, *plan.slices), transfers=(sent,), value=0.0342)


def test_where_only_the_inputs_lie_nothing_works() -> None:
    plan = inputs_elsewhere()
    assert not plan.split
    assert "0      -       raw inputs" in table(plan)
    assert "0.0342 s on edge-1 alone" in pays(plan)
    assert lanes(plan) == ("camera", "edge-1")
    assert parse_summary(summary(plan)) == summarise(plan)
    found = timeline(plan)
    assert [(bar.device, bar.start) for bar in found.bars] == [("edge-1", 0.002)]
    assert found.rest == pytest.approx(0.001)
    written = texts(to_svg(plan))
    assert "raw inputs" in written
    assert "the last 1.00 ms: results go back to where the raw input lies" in written


def test_in_a_period_it_is_busy_sending() -> None:
    here = Slice(ranges=((0, 0),), replicas=(replica("camera", 0.0011, need=0),), first="raw inputs")
    plan = pipeline(2)
    bars = timeline(replace(plan, slices=(here, *plan.slices), transfers=())).bars
    assert [(bar.kind, bar.end) for bar in bars if bar.device == "camera"] == [("exchange", 0.0011)]
    assert "1.10 ms" in texts(to_svg(replace(plan, slices=(here, *plan.slices), transfers=())))
