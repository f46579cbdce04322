from __future__ import annotations

import msgspec
import pytest

from isthmus.edge.guard import Guard
from isthmus.edge.split_settings import zone_of_cloud
from isthmus.errors import PolicyViolation
from isthmus.model.bundle import TensorSpec
from isthmus.model.policy import DataPolicy
from isthmus.model.sliced import (
    CALLER,
    ModelSlice,
    OutputProof,
    SlicedModel,
    SlicePlace,
    SliceProof,
    SliceTransfer,
)


def spec(name: str) -> TensorSpec:
    return TensorSpec(name=name, datatype="FP32", shape=(-1, 4))


def part(name: str, at: int, inputs: str, outputs: str) -> ModelSlice:
    return ModelSlice(
        name=name,
        start=at,
        end=at + 1,
        planned_as=at,
        places=(SlicePlace(device=name),),
        inputs=tuple(map(spec, inputs.split())),
        outputs=tuple(map(spec, outputs.split())),
        sha256="0" * 64,
        size_bytes=1,
    )


def sliced(a: float | None = 0.4, b: float | None = 0.6) -> SlicedModel:
    """``x -> a, b``; ``a, x -> c``; ``b, c -> y``: the raw input skips the first slice."""
    sent = [(CALLER, 0, "x", None), (CALLER, 1, "x", None), (0, 1, "a", a), (0, 2, "b", b), (1, 2, "c", 0.2)]
    return SlicedModel(
        network="n",
        model_sha256="1" * 64,
        plan_sha256="2" * 64,
        batch_open=True,
        inputs=(spec("x"),),
        outputs=(spec("y"),),
        slices=(part("p0", 0, "x", "a b"), part("p1", 1, "a x", "c"), part("p2", 2, "b c", "y")),
        transfers=tuple(
            SliceTransfer(source=s, target=t, tensors=(name,), size_bytes=1, leakage_r2=r2)
            for s, t, name, r2 in sent
        ),
        proof=SliceProof(
            samples=1,
            source="synthetic",
            origin="",
            samples_sha256="3" * 64,
            outputs=(OutputProof(name="y", largest_difference=0.0, range=1.0, relative=0.0),),
        ),
    )


def guard(may_leave: str, limit: float | None = None, zone: str = "aws:eu", **more: float | None) -> Guard:
    policy = DataPolicy(zones=("edge-*",), may_leave=may_leave, max_leakage_r2=limit)  # type: ignore[arg-type]
    return Guard(policy, sliced(**more), zone)


@pytest.mark.parametrize(
    ("may_leave", "tensors", "why"),
    [
        ("everything", "x", ""),
        ("activations", "c", ""),
        (
            "activations",
            "a x",
            "the policy keeps the raw input 'x' from aws:eu, and raw data may lie in edge-*",
        ),
        ("results", "c", "the policy lets results leave, not activations"),
        ("results", "y", ""),
        ("results", "x", "the policy keeps the raw input 'x'"),
        ("nothing", "y", "the policy lets nothing leave, not activations"),
    ],
)
def test_what_may_leave(may_leave: str, tensors: str, why: str) -> None:
    found = guard(may_leave).refusal(tensors.split())
    assert found.startswith(why)
    assert bool(found) == bool(why)


@pytest.mark.parametrize("zone", ["edge-2", "edge-"])
def test_within_the_zones_of_the_data_everything_may_move(zone: str) -> None:
    assert guard("nothing", zone=zone).refusal(["x"]) == ""


def test_a_zone_that_is_not_known_is_outside() -> None:
    assert "an unknown zone" in guard("activations", zone="").refusal(["x"])


@pytest.mark.parametrize(
    ("tensors", "limit", "why"),
    [
        ("a", 0.5, ""),
        ("a", 0.4, "a decoder rebuilds inputs with R² 0.400; the policy allows 0.4"),
        ("b", 0.5, "R² 0.600"),
        ("a b", 0.9, "a, b was not measured"),
    ],
)
def test_leakage_is_that_of_what_crosses_together(tensors: str, limit: float, why: str) -> None:
    found = guard("activations", limit).refusal(tensors.split())
    assert (why in found, bool(found)) == (True, bool(why))


def test_what_was_not_measured_stays_where_there_is_a_limit() -> None:
    assert "was not measured" in guard("activations", 0.9, a=None).refusal(["a"])


def test_the_last_look_refuses_with_the_rule() -> None:
    guard("activations").check(["c"])
    with pytest.raises(PolicyViolation, match="keeps the raw input 'x'"):
        guard("activations").check(["c", "x"])


@pytest.mark.parametrize(
    ("zones", "cloud"),
    [
        (("edge-shop", "aws:eu", "aws:eu"), "aws:eu"),
        (("edge-shop", "aws:eu", "edge-shop"), "aws:eu"),  # back to the device: its zone is not the cloud's
        (("edge-shop", "aws:eu", "aws:us"), ""),
        (("onprem-a", "onprem-a", "onprem-a"), ""),
        (("onprem-a", "onprem-b", "onprem-b"), ""),  # a rig's: who is asked is another
        (("edge-shop", "aws:eu", ""), ""),
        (("", "", ""), ""),
    ],
)
def test_the_clouds_zone_is_known_or_is_no_zone(zones: tuple[str, ...], cloud: str) -> None:
    document = sliced()
    devices = dict(zip(dict.fromkeys(zones), "abc", strict=False))
    entries = tuple(
        msgspec.structs.replace(
            entry, places=(SlicePlace(device=devices[zone] if zone else f"x{at}", zone=zone),)
        )
        for at, (entry, zone) in enumerate(zip(document.slices, zones, strict=True))
    )
    document = msgspec.structs.replace(document, slices=entries)
    assert zone_of_cloud(document) == cloud
    guard = Guard(
        DataPolicy(zones=("edge-*", "onprem-*"), may_leave="nothing"), document, zone_of_cloud(document)
    )
    assert "raw input 'x'" in guard.refusal(["x"])
