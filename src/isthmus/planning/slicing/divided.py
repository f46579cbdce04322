"""A bound on the largest load: every operator's work divided at will over the devices that may run it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from isthmus.planning.slicing.kinds import kinds

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from isthmus.planning.slicing.case import Floats, LoadCase

    Ints = NDArray[np.int64]

MOST_CELLS = 6_000
"""Of a programme that is solved as it is; beyond, operators that devices see alike are added up first."""
FINEST, COARSER = 0.05, 1.6
"""Of natural logarithms: what is told apart at first, and by how much less each time that is too much."""
ROUNDING = 1e-9
"""Relative; sums of floats are rounded down by it."""


def divisible(case: LoadCase) -> float:
    """Return a bound on every plan, in seconds a sample; transfers are free, and memory is not counted.

    A linear programme over kinds t of devices: min T with ``sum_v seconds[v, t] x[v, t] <= count_t T``. Any prices
    ``y >= 0`` with ``sum count_t y_t = 1`` prove ``sum_v min_t y_t seconds[v, t]`` (weak duality), so that prices
    from a smaller programme of operators added up still prove a bound on all of them.
    """
    import numpy as np

    found = kinds(case)
    columns = case.seconds[:, [members[0] for members in found.members]]
    counts = np.array(found.counts, dtype=np.float64)
    if not np.isfinite(columns).any(axis=1).all():
        return 0.0
    price = _prices(_added_up(columns), counts)
    total = float(price @ counts)
    if total <= 0:
        return 0.0
    spent = np.where(np.isfinite(columns), columns, 0.0) * (price / total)
    return float(np.where(np.isfinite(columns), spent, np.inf).min(axis=1).sum()) * (1 - ROUNDING)


def _added_up(columns: Floats) -> Floats:
    """Add up rows, ``[n, t]``, of nearly the same proportions until there are few enough cells."""
    import numpy as np

    known = np.where(np.isfinite(columns), np.maximum(columns, 1e-300), 1.0)
    shape = np.log(known / known.sum(axis=1, keepdims=True))
    shape[~np.isfinite(columns)] = np.inf
    step, group = FINEST, np.arange(len(columns))
    while (int(group.max()) + 1) * columns.shape[1] > MOST_CELLS and step < np.log(1e6):
        _, group = np.unique(np.round(shape / step), axis=0, return_inverse=True)
        group, step = group.reshape(-1), step * COARSER
    found = np.zeros((int(group.max()) + 1, columns.shape[1]))
    np.add.at(found, group, columns)
    return found


def _prices(columns: Floats, counts: Floats) -> Floats:
    """Return the dual values of the loads' rows, float64 ``[t]``; zeros where the programme was not solved."""
    import numpy as np
    from scipy.optimize import linprog
    from scipy.sparse import coo_array

    v, t = np.nonzero(np.isfinite(columns))
    cells, top = len(v), max(float(columns[v, t].max(initial=0.0)), 1e-300)
    load = coo_array((columns[v, t] / top, (t, np.arange(cells))), shape=(len(counts), cells + 1)).tolil()
    load[:, cells] = -counts[:, None]
    answer = linprog(
        np.append(np.zeros(cells), 1.0),
        A_ub=load.tocsr(),
        b_ub=np.zeros(len(counts)),
        A_eq=coo_array((np.ones(cells), (v, np.arange(cells))), shape=(len(columns), cells + 1)).tocsr(),
        b_eq=np.ones(len(columns)),
        method="highs",
    )
    if answer.status != 0:
        return np.zeros(len(counts))
    found: Floats = np.maximum(-answer.ineqlin.marginals, 0.0)
    return found
