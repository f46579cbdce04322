"""A machine's rates: a small grid, every kind of micro-benchmark, and predictions that follow."""

from __future__ import annotations

import pytest

from isthmus.frameworks.onnx.calibrate import calibrate
from isthmus.frameworks.onnx.grid import FIXED, GRIDS, Grid
from isthmus.frameworks.onnx.measure import kernels
from isthmus.frameworks.onnx.micro import micro


@pytest.mark.parametrize("name", GRIDS)
def test_each_class_has_a_micro_benchmark_that_runs_its_operator(name: str) -> None:
    sizes = min(GRIDS[name].points(), key=lambda point: sum(point.values()))
    model = micro(name, sizes | FIXED.get(name, {}))
    timed = kernels(model.model.SerializeToString(), model.feeds, 1)
    assert [entry.kind for entry in timed if entry.node.startswith(("made", "timed"))] == [model.kind]


@pytest.mark.parametrize("name", GRIDS)
def test_grids_are_of_a_size_to_be_measured_in_a_minute(name: str) -> None:
    points = list(GRIDS[name].points())
    assert len(GRIDS[name].axes) < len(points) <= 100
    assert all(set(point) == set(GRIDS[name].axes) for point in points)


def test_rates_hold_a_row_for_each_point_and_what_is_beside() -> None:
    grids = {
        "conv/3x3/1": Grid({"in": (16, 32), "out": (16,), "pixels": (49, 196)}),
        "copy": Grid({"elements": (1024, 4096, 16384)}),
        "softmax": Grid({"rows": (4, 16), "columns": (64,)}),
    }
    rates = calibrate({"conv/3x3/1", "copy"}, grids=grids, rounds=2, passes=1, measured_at="now")
    assert set(rates) == {"conv/3x3/1", "copy", "run", "view", "reorder/in", "reorder/out", "conv", "*"}
    conv = rates["conv/3x3/1"]
    assert (conv.axes, len(conv.samples), conv.measured_at) == (("in", "out", "pixels"), 4, "now")
    assert all(row[-1] > 0 for rate in rates.values() for row in rate.samples)
    assert rates["*"].bytes_per_second > 0


def test_a_grid_leaves_out_what_is_too_small_too_large_or_too_narrow() -> None:
    grid = Grid({"in": (1, 16, 256), "out": (16, 256)}, least=20, most=10_000, same=("in", "out"))
    assert list(grid.points()) == [{"in": 16, "out": 16}]
