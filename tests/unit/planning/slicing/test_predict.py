"""Seconds of operators and slices, from measurements and from rates."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from isthmus.errors import InvalidCase
from isthmus.model.device import DeviceDescriptor, Rate
from isthmus.model.network import NetworkProfile, Operator, Parameter, Tensor
from isthmus.planning.slicing.predict import operator_seconds, slice_seconds


def device(**fields: Any) -> DeviceDescriptor:
    given = {"id": "rig", "kind": "rig", "zone": "here", "arch": "x86_64", "cores": 1}
    return DeviceDescriptor(**given | {"memory_bytes": 1, "disk_free_bytes": 1} | fields)


def operator(name: str = "a", rate_class: str = "conv/3x3/1", **fields: Any) -> Operator:
    return Operator(**{"name": name, "kind": "Conv", "rate_class": rate_class} | fields)


def network(*operators: Operator, batch: int = 1, **fields: Any) -> NetworkProfile:
    given: dict[str, Any] = {"name": "n", "inputs": ("x",), "outputs": (), "tensors": ()}
    return NetworkProfile(**given | {"operators": operators, "batch": batch} | fields)


def seconds(one: Operator, machine: DeviceDescriptor, batch: int = 1) -> float:
    return float(operator_seconds(network(one), machine, batch)[0])


def test_a_measurement_is_taken_before_a_rate_and_scaled_by_the_batch() -> None:
    profile = network(operator(seconds={"rig": 0.5}), batch=4)
    assert operator_seconds(profile, device(rates={"*": Rate(overhead_seconds=9)}), 8).tolist() == [1.0]


def test_a_plain_rate_sums_overhead_operations_and_bytes() -> None:
    rate = Rate(overhead_seconds=1, flops_per_second=10, bytes_per_second=100)
    weights = (Parameter(name="w", size_bytes=50),)
    one = operator(flops=20, moved_bytes=25, parameters=weights)
    assert seconds(one, device(rates={"conv": rate}), 2) == pytest.approx(1 + 40 / 10 + 100 / 100)


def test_the_nearest_class_serves_from_fine_to_coarse() -> None:
    rates = {"*": Rate(overhead_seconds=4), "conv": Rate(overhead_seconds=3)}
    assert seconds(operator(rate_class="other"), device(rates=rates)) == 4
    assert seconds(operator(), device(rates=rates)) == 3
    assert seconds(operator(), device(rates=rates | {"conv/3x3": Rate(overhead_seconds=2)})) == 2


def test_samples_are_passed_through_and_extended_in_proportion() -> None:
    table = Rate(
        axes=("rows", "in"), samples=tuple((r, i, 1e-6 * r * i) for r in (1.0, 8, 64) for i in (4.0, 64))
    )
    machine = device(rates={"matmul": table})

    def at(rows: float, inner: float, batch: int = 1) -> float:
        one = operator(rate_class="matmul", sizes={"rows": rows, "in": inner}, batch_axis="rows")
        return seconds(one, machine, batch)

    assert at(8, 64) == pytest.approx(512e-6)
    assert at(20, 16) == pytest.approx(320e-6)
    assert at(1000, 1000) == pytest.approx(1.0)
    assert at(8, 64, batch=8) == pytest.approx(8 * 512e-6)


def test_above_the_largest_sample_seconds_grow_as_sizes_do() -> None:
    flat = Rate(axes=("elements",), samples=((1.0, 1.0), (10.0, 1.0), (100.0, 2.0)))
    one = operator(sizes={"elements": 700.0})
    assert seconds(one, device(rates={"conv": flat})) == pytest.approx(14.0)


def test_samples_without_a_batch_axis_are_run_one_by_one() -> None:
    bent = Rate(axes=("pixels",), samples=((1.0, 1.0), (10.0, 2.0), (100.0, 30.0)))
    one = operator(sizes={"pixels": 10.0})
    assert seconds(one, device(rates={"conv": bent}), 5) == pytest.approx(10.0)


def test_sizes_are_rounded_up_to_the_blocks_of_a_kernel() -> None:
    table = Rate(axes=("out",), samples=((16.0, 1.0), (32.0, 2.0)), multiples={"out": 16})
    assert seconds(operator(sizes={"out": 17.0}), device(rates={"conv": table})) == pytest.approx(2.0)


def test_a_table_for_other_sizes_is_passed_over() -> None:
    rates = {"conv/3x3": Rate(axes=("depth",), samples=((1.0, 1.0),)), "conv": Rate(overhead_seconds=7)}
    assert seconds(operator(sizes={"out": 4.0}), device(rates=rates)) == 7


@pytest.mark.parametrize("fields", [{"features": ()}, {"features": ("fp16",), "unsupported": ("Conv",)}])
def test_what_a_device_cannot_run_takes_forever(fields: dict[str, Any]) -> None:
    one = operator(features=("fp16",), seconds={"rig": 1.0})
    assert seconds(one, device(**fields)) == float("inf")


def test_an_operator_that_nothing_is_known_of_is_named() -> None:
    with pytest.raises(InvalidCase, match=r"needs seconds of a \(conv/3x3/1\) on rig.*--calibrate"):
        seconds(operator(), device(rates={"matmul": Rate(overhead_seconds=1)}))


def test_a_batch_is_at_least_one() -> None:
    with pytest.raises(InvalidCase, match="a batch of at least 1; it is 0"):
        seconds(operator(), device(), 0)


def images() -> NetworkProfile:
    tensors = tuple(Tensor(name=name, shape=(16, 2, 2)) for name in ("x", "y", "z"))
    known = {"rig": 1.0}
    first = operator("a", inputs=("x",), outputs=("y",), seconds=known)
    second = operator("b", inputs=("y",), outputs=("z",), seconds=known)
    return network(first, second, tensors=tensors, outputs=("z",))


def test_a_slice_pays_its_call_and_the_layout_of_images_at_its_borders() -> None:
    table = {
        name: Rate(axes=("elements",), samples=((64.0, cost), (128.0, 2 * cost)))
        for name, cost in (("reorder/in", 10.0), ("reorder/out", 100.0))
    }
    machine = device(rates=table | {"run": Rate(overhead_seconds=0.5)})
    profile = images()
    assert slice_seconds(profile, machine, 0, 1, 1) == pytest.approx(1 + 0.5 + 10 + 100)
    assert slice_seconds(profile, machine, 0, 2, 1) == pytest.approx(2 + 0.5 + 10 + 100)
    shallow = msgspec.structs.replace(profile.operators[0], rate_class="conv/shallow/2")
    profile = msgspec.structs.replace(profile, operators=(shallow, profile.operators[1]))
    assert slice_seconds(profile, machine, 0, 2, 1) == pytest.approx(2 + 0.5 + 100)


def test_a_slice_lies_within_the_network() -> None:
    with pytest.raises(InvalidCase, match=r"a range of operators within \[0, 2\); it is \[1, 3\)"):
        slice_seconds(images(), device(), 1, 3, 1)
