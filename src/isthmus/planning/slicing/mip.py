"""A mixed-integer programme in arrays, solved by HiGHS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from highspy import Highs, HighsLp
    from highspy.highs import HighsCallbackEvent
    from numpy.typing import ArrayLike, NDArray

    from isthmus.planning.slicing.arrays import Ints
    from isthmus.planning.slicing.case import Floats

TOLERANCE = 1e-9
"""Of HiGHS, absolute: rows are scaled to sides near 1, and costs to about ``COSTS``."""
COSTS = 1e4
INF = float("inf")


@dataclass(frozen=True, eq=False)
class Outcome:
    """``values``: float64 ``[columns]``, None when no solution was found. ``bound``: no solution costs less, by
    HiGHS's floats. ``feasible``: False when it is proven that there is none. ``finished``: before the time limit.
    ``duals``: float64 ``[rows]``, of a relaxed programme that was solved, in the costs' unit."""

    values: Floats | None
    bound: float
    feasible: bool
    finished: bool
    duals: Floats | None = None


class Programme:
    """Minimise the cost of columns at or above 0, under rows. Columns and rows are added as arrays."""

    def __init__(self) -> None:
        self._cost: list[Floats] = []
        self._upper: list[Floats] = []
        self._whole: list[NDArray[np.bool_]] = []
        self._entries: list[tuple[Ints, Ints, Floats]] = []
        self._sides: list[tuple[Floats, Floats]] = []
        self.columns = self.rows = 0

    def add_columns(self, cost: ArrayLike, count: int, *, upper: float = INF, whole: bool = False) -> Ints:
        """Return the numbers of new columns."""
        import numpy as np

        self._cost.append(np.broadcast_to(np.asarray(cost, dtype=np.float64), (count,)))
        self._upper.append(np.full(count, upper))
        self._whole.append(np.full(count, whole))
        self.columns += count
        return np.arange(self.columns - count, self.columns)

    def add_rows(self, count: int, lower: float, upper: float) -> Ints:
        """Return the numbers of new rows, empty as yet."""
        import numpy as np

        self._sides.append((np.full(count, lower), np.full(count, upper)))
        self.rows += count
        return np.arange(self.rows - count, self.rows)

    def fill(self, rows: ArrayLike, columns: ArrayLike, factor: ArrayLike) -> None:
        """Add entries, of one shape or broadcast to it; a negative column stands for none."""
        import numpy as np

        row, column, value = np.broadcast_arrays(rows, columns, factor)
        there = column >= 0
        self._entries.append((row[there], column[there], value[there].astype(np.float64)))

    def solve(
        self,
        time_limit_seconds: float,
        start: Floats | None = None,
        *,
        relaxed: bool = False,
        stop: Callable[[float, float], bool] | None = None,
    ) -> Outcome:
        """Run HiGHS on one thread. ``start``: float64 ``[columns]``, a solution. ``relaxed``: all continuous.
        ``stop``: is asked now and then, with the best cost and the bound so far, whether to end."""
        import highspy
        import numpy as np

        cost = np.concatenate(self._cost)
        reached = float(cost @ start) if start is not None else float(cost.max(initial=0.0))
        scale = COSTS / reached if reached > 0 else 1.0
        solver = highspy.Highs()
        for name, value in _options(time_limit_seconds).items():
            solver.setOptionValue(name, value)
        solver.passModel(self._model(cost * scale, relaxed))
        if start is not None and not relaxed:
            solver.setSolution(self.columns, np.arange(self.columns, dtype=np.int32), start)
        if stop is not None:

            def ask(event: HighsCallbackEvent) -> None:
                so_far = event.data_out
                event.data_in.user_interrupt = stop(
                    so_far.mip_primal_bound / scale, so_far.mip_dual_bound / scale
                )

            solver.cbMipInterrupt.subscribe(ask)
        solver.run()
        return _outcome(solver, scale, relaxed)

    def _model(self, cost: Floats, relaxed: bool) -> HighsLp:
        import highspy
        import numpy as np
        from scipy.sparse import csr_array

        rows, columns, values = (np.concatenate([part[i] for part in self._entries]) for i in range(3))
        matrix = csr_array((values, (rows, columns)), shape=(self.rows, self.columns))
        model = highspy.HighsLp()
        model.num_col_, model.num_row_ = self.columns, self.rows
        model.col_cost_ = cost
        model.col_lower_, model.col_upper_ = np.zeros(self.columns), np.concatenate(self._upper)
        model.row_lower_, model.row_upper_ = (np.concatenate([s[i] for s in self._sides]) for i in (0, 1))
        model.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
        model.a_matrix_.start_, model.a_matrix_.index_ = matrix.indptr, matrix.indices
        model.a_matrix_.value_ = matrix.data
        if not relaxed:
            kinds = (highspy.HighsVarType.kContinuous, highspy.HighsVarType.kInteger)
            model.integrality_ = [kinds[whole] for whole in np.concatenate(self._whole).tolist()]
        return model


def _options(time_limit_seconds: float) -> dict[str, bool | int | float]:
    return {
        "output_flag": False,
        "threads": 1,
        "random_seed": 0,
        "time_limit": max(time_limit_seconds, 0.0),
        "mip_rel_gap": 1e-10,
        "mip_abs_gap": 0.0,
        "mip_feasibility_tolerance": TOLERANCE,
        "primal_feasibility_tolerance": TOLERANCE,
        "dual_feasibility_tolerance": TOLERANCE,
    }


def _outcome(solver: Highs, scale: float, relaxed: bool) -> Outcome:
    import highspy
    import numpy as np

    status, info = solver.getModelStatus(), solver.getInfo()
    kinds = highspy.HighsModelStatus
    if status in (kinds.kInfeasible, kinds.kUnboundedOrInfeasible):
        return Outcome(None, INF, feasible=False, finished=True)
    finished = status == kinds.kOptimal
    known = info.primal_solution_status == int(highspy.SolutionStatus.kSolutionStatusFeasible)
    values = np.array(solver.getSolution().col_value) if known else None
    bound = info.objective_function_value if relaxed and finished else info.mip_dual_bound
    if relaxed and not finished:
        bound = -INF
    duals = np.array(solver.getSolution().row_dual) / scale if relaxed and finished else None
    return Outcome(values, bound / scale, feasible=True, finished=finished, duals=duals)
