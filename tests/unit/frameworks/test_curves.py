from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from isthmus import documents
from isthmus.frameworks.curves import CurveRecorder
from isthmus.model.output import Curve, Curves


def recorded(values: list[float], points: int, shown: int) -> Curve:
    recorder = CurveRecorder(points)
    for second, value in enumerate(values):
        recorder.add("loss", second, value)
    return documents.convert(Curves, recorder.document(shown), "curves").curves["loss"]


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=300), st.integers(2, 40), st.integers(2, 40))
def test_a_curve_is_short_true_and_ends_with_the_last_value(
    values: list[float], points: int, shown: int
) -> None:
    curve = recorded(values, points, shown)
    assert len(curve.values) == len(curve.seconds) <= min(points, shown) + 2
    assert [values[int(second)] for second in curve.seconds] == list(curve.values)
    assert (curve.seconds[0], curve.seconds[-1]) == (0, len(values) - 1)
    gaps = {after - before for before, after in zip(curve.seconds, curve.seconds[1:], strict=False)}
    assert all(gap <= curve.stride for gap in gaps)


def test_a_short_curve_is_whole() -> None:
    assert recorded([3.0, 2.0, 1.0], 10, 10) == Curve(
        seconds=(0.0, 1.0, 2.0), values=(3.0, 2.0, 1.0), stride=1
    )


def test_without_a_value_there_is_no_curve() -> None:
    assert CurveRecorder().document()["curves"] == {}
