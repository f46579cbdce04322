"""``isthmus plan`` from files to files: plans, pictures, differences, and one sentence for what is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from isthmus import documents
from isthmus.cli.main import main
from isthmus.cli.plan import said_after
from isthmus.errors import InvalidCase, InvalidDocument
from isthmus.model.device import DeviceDescriptor, Link
from isthmus.model.slicing import SlicePlan
from isthmus.planning.slicing.render import parse_summary, summarise
from isthmus.workflows.plan_slices import (
    LIBRARIES,
    SlowLink,
    load_plan,
    plan_schema,
    remaining,
    slowed,
)

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = ROOT / "examples/plan"
SECONDS = {"near": [1.0, 1.0, 9.0, 9.0], "far": [5.0, 5.0, 0.5, 0.5]}
"""Of four operators in a row; the third tensor is small, so that splitting there pays."""
SIZES = [8000, 8000, 100, 8000, 8]


def network() -> dict[str, Any]:
    return {
        "schema": "isthmus/network/1",
        "name": "toy",
        "digest": "a" * 64,
        "inputs": ["t0"],
        "outputs": ["t4"],
        "operators": [
            {
                "name": f"op{v}",
                "kind": "Conv",
                "rate_class": "conv",
                "inputs": [f"t{v}"],
                "outputs": [f"t{v + 1}"],
                "seconds": {name: times[v] for name, times in SECONDS.items()},
                "parameters": [{"name": f"w{v}", "size_bytes": 1000}],
            }
            for v in range(4)
        ],
        "tensors": [{"name": f"t{v}", "sample_bytes": size} for v, size in enumerate(SIZES)],
    }


def device(name: str, other: str, **changes: Any) -> dict[str, Any]:
    return {
        "id": name,
        "kind": "edge",
        "zone": f"zone-{name}",
        "arch": "x86_64",
        "cores": 1,
        "memory_bytes": 1 << 30,
        "disk_free_bytes": 0,
        "usage": ["inference"],
        "links": [{"to": other, "bytes_per_second": 1000.0}],
        "power_watts": 5.0,
        "price_per_hour_usd": 0.1,
        **changes,
    }


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy.json").write_text(json.dumps(network()))
    (tmp_path / "near.yaml").write_text(yaml.safe_dump(device("near", "far")))
    (tmp_path / "far.json").write_text(json.dumps([device("far", "near")]))
    return tmp_path


CASE = ["plan", "toy.json", "--devices", "near.yaml", "far.json"]


def planned(capsys: pytest.CaptureFixture[str], *more: str) -> SlicePlan:
    assert main([*CASE, "--json", *more]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return documents.decode(SlicePlan, captured.out, "what was printed")


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 2) -> str:
    assert main(list(arguments)) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert len(lines) == 1, captured.err
    return lines[0]


def test_a_plan_from_files_to_files(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*CASE, "-o", "plan.json", "--svg", "plan.svg", "--png", "plan.png"]) == 0
    text = capsys.readouterr().out
    plan = load_plan((folder / "plan.json").read_bytes(), "the plan")
    # 2 s near, 0.1 s for 100 bytes, 1 s far, and 0.008 s home.
    assert plan.value == pytest.approx(3.108)
    assert [entry.ranges for entry in plan.slices] == [((0, 2),), ((2, 4),)]
    assert parse_summary(text.splitlines()[-1]) == summarise(plan)
    assert "splitting pays: 3.108 s, against " in text
    assert (folder / "plan.svg").read_bytes().startswith(b"<?xml")
    assert (folder / "plan.png").read_bytes().startswith(b"\x89PNG")


def test_json_is_exactly_the_document(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = planned(capsys, "-o", "plan.json")
    assert load_plan((folder / "plan.json").read_bytes(), "the plan") == plan


def test_show_prints_a_plan_again(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*CASE, "-o", "plan.json"]) == 0
    first = capsys.readouterr().out
    assert main(["plan", "show", "plan.json", "--svg", "again.svg"]) == 0
    assert capsys.readouterr().out == first
    assert b"near" in (folder / "again.svg").read_bytes()
    plan = planned(capsys)
    assert main(["plan", "--json", "show", "plan.json"]) == 0
    shown = documents.decode(SlicePlan, capsys.readouterr().out, "what was printed")
    assert shown.slices == plan.slices


def test_after_a_device_is_lost_everything_runs_on_the_other(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([*CASE, "-o", "old.json"])
    capsys.readouterr()
    plan = planned(capsys, "--without", "far", "--current", "old.json", "-o", "new.json")
    assert {r.device for entry in plan.slices for r in entry.replicas} == {"near"}
    assert plan.value == pytest.approx(20.0)
    assert main(["plan", "diff", "old.json", "new.json"]) == 0
    text = capsys.readouterr().out
    assert "toy: 2 operators moved" in text
    assert "no longer used: far" in text
    assert main(["plan", "diff", "new.json", "old.json", "--json"]) == 0
    back = json.loads(capsys.readouterr().out)
    assert back["gained"] == ["far"]
    assert back["moves"] == [{"start": 2, "end": 4, "old": ["near"], "new": ["far"]}]


def test_a_slow_link_costs_and_a_small_gain_moves_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([*CASE, "--slow-link", "near:far:10", "-o", "slow.json"])
    capsys.readouterr()
    slow = load_plan((folder / "slow.json").read_bytes(), "the plan")
    assert slow.value == pytest.approx(2 + 1 + 1 + 0.08)
    # Alone near takes 20 s: as long as a gain of a factor of five is not worth a move, it stays there.
    main([*CASE, "--without", "far", "-o", "alone.json"])
    capsys.readouterr()
    kept = planned(capsys, "--current", "alone.json", "--threshold", "10")
    assert kept.value == pytest.approx(20.0)
    moved = planned(capsys, "--current", "alone.json", "--threshold", "5")
    assert moved.value == pytest.approx(3.108)


def test_raw_data_stays_in_its_zone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "policy.yaml").write_text("zones: [zone-far]\nmay_leave: activations\n")
    plan = planned(capsys, "--policy", "policy.yaml", "--source", "far")
    first = next(entry for entry in plan.slices if entry.works)
    assert [r.device for r in first.replicas] == ["far"]


@pytest.mark.parametrize(
    ("objective", "alone"),
    [
        pytest.param("throughput", 1 / 11, marks=pytest.mark.slow),
        ("cost", 1000 * 11 / 3600 * 0.1),
        ("energy", 1000 * 11 * 5),
    ],
)
def test_every_objective_has_its_unit(
    folder: Path, capsys: pytest.CaptureFixture[str], objective: str, alone: float
) -> None:
    plan = planned(capsys, "--objective", objective, "--time-limit", "1", "--source", "far")
    assert plan.objective == objective
    whole = {entry.device: entry.value for entry in plan.alternatives}
    assert whole["far"] == pytest.approx(alone)


def test_the_examples_can_be_planned(capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(EXAMPLES / name) for name in ("edge.yaml", "rig.yaml", "lambda-1769.yaml")]
    policy = str(EXAMPLES / "policy.yaml")
    arguments = ["plan", str(EXAMPLES / "network.json"), "--devices", *files, "--policy", policy, "--json"]
    assert main(arguments) == 0
    plan = documents.decode(SlicePlan, capsys.readouterr().out, "what was printed")
    assert {entry.device for entry in plan.reasons} == {"edge-1", "rig-1", "lambda-1769"}


def test_the_schema_fits_a_plan(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert schema == json.loads(msgspec.json.encode(plan_schema()))
    named = schema["$defs"]["SlicePlan"]
    assert set(named["properties"]) == set(SlicePlan.__struct_fields__)
    assert {"network", "value", "bound", "gap", "slices"} <= set(named["required"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["plan", "gone.json"], "the profile gone.json cannot be read: No such file or directory"),
        (["plan", "gone.onnx"], "there is no gone.onnx"),
        (["plan", "near.yaml"], "near.yaml"),
        (["plan", "toy.json", "far.json"], "needs one MODEL"),
        (["plan", "far.json"], "the profile far.json cannot be used: Expected `object`, got `array`"),
        (["plan", "toy.json", "--devices", "gone.yaml"], "the devices gone.yaml cannot be read"),
        (["plan", "toy.json", "--devices", "bad.yaml"], "bad.yaml is not YAML"),
        (["plan", "toy.json", "--devices", "toy.json"], "the device toy.json cannot be used"),
        ([*CASE, "near.yaml"], "near stands there more than once"),
        ([*CASE, "--without", "moon"], "there is no device moon; there are: near, far"),
        ([*CASE, "--without", "near", "--without", "far"], "needs at least one device"),
        ([*CASE, "--slow-link", "near:far"], "--slow-link needs A:B:FACTOR"),
        ([*CASE, "--slow-link", "near:far:fast"], "--slow-link needs A:B:FACTOR"),
        ([*CASE, "--slow-link", "near:far:0"], "needs a factor above 0"),
        ([*CASE, "--slow-link", "near:relay:2"], "have no link that could be slower"),
        ([*CASE, "--slow-link", "near:near:2"], "a link has two ends"),
        ([*CASE, "--dimension", "sequence"], "--dimension needs NAME=N"),
        ([*CASE, "--batch", "0"], "needs a batch and micro-batches of at least 1"),
        ([*CASE, "--time-limit", "0"], "needs a time limit above 0 s"),
        ([*CASE, "--time-limit", "nan"], "needs a time limit above 0 s, and a finite one; asked was nan s"),
        ([*CASE, "--deadline", "nan"], "needs a finite deadline, in seconds, of 0 or more; asked was nan"),
        ([*CASE, "--microbatches", "10001"], "needs at most 10,000 micro-batches of a step"),
        ([*CASE, "--policy", "deep.yaml"], "deep.yaml is nested too deep to be read"),
        ([*CASE, "--policy", "deep.json"], "the policy deep.json is nested too deep to be read"),
        ([*CASE, "--threshold", "-1"], "needs a threshold of at least 0"),
        ([*CASE, "--source", "moon"], "the raw input lies at moon"),
        ([*CASE, "--policy", "near.yaml"], "the policy near.yaml cannot be used"),
        ([*CASE, "--current", "toy.json"], "the plan toy.json cannot be used"),
        ([*CASE, "--objective", "throughput", "--deadline", "1"], "a deadline or a price goes with latency"),
        (["plan", "show"], "`isthmus plan show` needs 1 files; there are 0"),
        (["plan", "show", "toy.json", "--tiers", "--batch", "0"], "does not take --batch, --tiers"),
        (["plan", "diff", "toy.json"], "`isthmus plan diff` needs 2 files; there are 1"),
        (["plan", "diff", "toy.json", "toy.json", "--svg", "x"], "`isthmus plan diff` does not take --svg"),
        (["plan", "show", "toy.json"], "the plan toy.json cannot be used"),
    ],
)
def test_a_mistake_is_one_sentence(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    (folder / "bad.yaml").write_text("id: [")
    for name in ("deep.yaml", "deep.json"):
        (folder / name).write_text("[" * 100_000)
    if arguments == ["plan", "far.json"]:
        arguments = [*arguments, "--devices", "near.yaml"]
    if arguments in (["plan", "gone.json"], ["plan", "gone.onnx"], ["plan", "near.yaml"]):
        arguments = [*arguments, "--devices", "near.yaml"]
    assert said in refusal(capsys, *arguments)


def test_a_plan_that_has_no_place_is_refused_before_the_search(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "there is no folder" in refusal(capsys, *CASE, "-o", "gone/plan.json", code=1)


def test_what_cannot_be_met_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refusal(capsys, *CASE, "--deadline", "0.5", code=1)
    assert "0.5" in said


@pytest.mark.parametrize("missing", ["ortools", "numpy"])
def test_a_missing_library_is_named_with_what_installs_it(folder: Path, missing: str) -> None:
    """In an interpreter of its own: modules that were loaded without the library would stay behind."""
    code = f"import sys; sys.modules[{missing!r}] = None; from isthmus.cli.main import main; sys.exit(main())"
    ended = subprocess.run(
        [sys.executable, "-c", code, *CASE], capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode == 1
    assert ended.stderr == f"isthmus: planning needs {missing}; install `isthmus[planner]`\n"


def test_the_extra_has_every_library_that_the_message_speaks_of() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {line.partition(">")[0] for line in extras["planner"]} == LIBRARIES


TOY = documents.decode(
    SlicePlan,
    json.dumps(
        {
            "network": "toy",
            "objective": "latency",
            "unit": "s",
            "value": 1.0,
            "bound": 1.0,
            "gap": 0.0,
            "exact": True,
            "method": "by hand",
            "slices": [
                {"ranges": [[0, 2]], "replicas": [{"device": "near"}]},
                {"ranges": [[2, 4]], "replicas": [{"device": "far"}]},
            ],
            "transfers": [{"source": 0, "target": 1, "tensors": ["t2"], "size_bytes": 1, "seconds": 0.1}],
            "reasons": [],
            "prediction": {"latency_seconds": 1.0, "samples_per_second": 1.0},
        }
    ),
    "the toy",
)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"unit": "ms"}, "latency is counted in s, not in ms"),
        ({"slices": ()}, "it has no slices"),
        ({"slices": TOY.slices[:1]}, "a transfer goes from slice 0 to 1; there are 1"),
        ({"slices": (TOY.slices[0], TOY.slices[0])}, "do not hold every operator once"),
        ({"slices": (TOY.slices[1], TOY.slices[1])}, "do not hold every operator once"),
        ({"slices": (msgspec.structs.replace(TOY.slices[0], replicas=()),)}, "slice 0 is on no device"),
        (
            {"slices": (msgspec.structs.replace(TOY.slices[0], compute_seconds=-1.0),)},
            "slice 0 takes less than no time",
        ),
        (
            {"transfers": (msgspec.structs.replace(TOY.transfers[0], seconds=-1.0),)},
            "the transfer from slice 0 to 1 takes less than no time",
        ),
    ],
)
def test_a_document_that_contradicts_itself_is_refused(change: dict[str, Any], said: str) -> None:
    raw = documents.encode(msgspec.structs.replace(TOY, **change))
    with pytest.raises(InvalidDocument, match=said):
        load_plan(raw, "the plan")


def descriptor(name: str, *links: Link, zone: str = "here") -> DeviceDescriptor:
    value = device(name, "nobody", zone=zone, links=[msgspec.to_builtins(link) for link in links])
    return documents.convert(DeviceDescriptor, value, "a device")


def test_a_slow_link_is_slow_both_ways_and_for_these_two_alone() -> None:
    zone_link = Link(to="there", bytes_per_second=800.0, latency_seconds=0.5, opens=False, usd_per_gib=0.1)
    found = slowed(
        [
            descriptor("a", zone_link),
            descriptor("b", Link(to="a", bytes_per_second=400.0), zone="there"),
            descriptor("c", Link(to="a", bytes_per_second=400.0), zone="there"),
        ],
        SlowLink("b", "a", 4.0),
    )
    assert found[0].links == (
        zone_link,
        Link(to="b", bytes_per_second=200.0, latency_seconds=0.5, opens=False, usd_per_gib=0.1),
    )
    assert found[1].links == (Link(to="a", bytes_per_second=100.0),)
    assert found[2].links == (Link(to="a", bytes_per_second=400.0),)


def test_the_way_to_the_relay_can_be_slow() -> None:
    found = slowed([descriptor("a", Link(to="relay", bytes_per_second=8.0))], SlowLink("a", "relay", 2.0))
    assert found[0].links == (Link(to="relay", bytes_per_second=4.0),)


def test_a_lost_device_is_left_out_and_must_have_been_there() -> None:
    devices = [descriptor("a"), descriptor("b")]
    assert remaining(devices, ["a"]) == devices[1:]
    with pytest.raises(InvalidCase, match="there is no device c; there are: a, b"):
        remaining(devices, ["c"])


def test_who_waits_is_told_and_who_does_not_is_not() -> None:
    told = threading.Event()
    with said_after(0.0, told.set):
        assert told.wait(10)
    said: list[str] = []
    with said_after(3600.0, lambda: said.append("still planning")):
        pass
    assert said == []
