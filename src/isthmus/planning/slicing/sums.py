"""Exact mixed-integer model for sums: any links, memory, co-location and limits, by HiGHS.

Each block of co-located operators runs on one device. For each pair of blocks with a signal between them, pair
variables say on which two devices they run, and their margins are the blocks' own: the local polytope
(Wainwright and Jordan, "Graphical Models, Exponential Families, and Variational Inference", 2008, section 4.1),
whose relaxation is tight where a minimum cut is exact. A signal with several readers pays the largest of their
pair variables for each two devices: it is sent once to each.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from isthmus.errors import NoPlan
from isthmus.planning.slicing import cut, descent
from isthmus.planning.slicing.arrays import broken, distinct, score, stages_of, transfer_costs
from isthmus.planning.slicing.mip import Outcome, Programme
from isthmus.planning.slicing.solution import Solution

if TYPE_CHECKING:
    from isthmus.planning.slicing.arrays import Ints
    from isthmus.planning.slicing.case import Floats, SumCase

METHOD = "mixed-integer model"
EXACT = 1e-9
MARGIN = 5e-10
"""Relative; HiGHS's bound is a sum of floats and is rounded down by it."""
SLACK = 1e-9
"""Relative; the verifier lets a limit be passed by as much."""
MOST_COLUMNS = 500_000
"""Of pair variables; of a larger model not even the relaxation is solved in a minute, and it is not built."""


@dataclass(frozen=True, eq=False)
class Model:
    """Columns, -1 where a combination is forbidden: ``block``: int64 ``[blocks, m]``; ``pair``: ``[p, m, m]``, of
    ``pairs``: int64 ``[p, 2]``, producer and reader; ``sent``: ``[s, m, m]``, of signals with several readers.
    ``over``: of each device with finite memory, and then each limit, what is used beyond it as a part of it.
    """

    programme: Programme
    block: Ints
    pairs: Ints
    pair: Ints
    sent: Ints
    over: Ints

    def start(self, case: SumCase, device_of: Ints) -> Floats:
        """Return the columns' values for an assignment of blocks that the model allows."""
        import numpy as np

        found = np.zeros(self.programme.columns)
        graph = case.graph.arrays
        found[self.block[np.arange(graph.blocks), device_of]] = 1
        source, target = device_of[self.pairs.T]
        found[self.pair[np.arange(len(self.pairs)), source, target]] = 1
        readers, signals, position = graph.read_often
        source, target = device_of[graph.producer[signals[position]]], device_of[readers]
        away = source != target
        found[self.sent[position[away], source[away], target[away]]] = 1
        return found

    def read(self, outcome: Outcome) -> Ints | None:
        """Return the assignment of blocks, int64 ``[blocks]``, of an outcome; None when it has none."""
        import numpy as np

        if outcome.values is None:
            return None
        return np.where(self.block >= 0, outcome.values[self.block], -1.0).argmax(axis=1)


def best(case: SumCase, *, time_limit_seconds: float) -> Solution:
    """Return the best plan: by a minimum cut where that is exact, and the mixed-integer model otherwise.

    Raises:
        NoPlan: none is possible; the message says what would make one.
    """
    if cut.applies(case):
        return solve(case, time_limit_seconds=time_limit_seconds)
    found = cut.minimum_cut(case)
    return found if found.exact else solve(case, time_limit_seconds=time_limit_seconds, warm=found)


def solve(case: SumCase, *, time_limit_seconds: float, warm: Solution | None = None) -> Solution:
    """Return the best plan found within the time limit, with a proven bound.

    ``warm``: another method's plan, whose bound is used too; it may break limits, and then starts a search for one
    that does not.

    Raises:
        NoPlan: none is possible, or none was found in time; the message says what would make one.
    """
    if warm is not None and warm.exact:
        return warm
    started = time.perf_counter()
    bound = max(_least(case), 0.0 if warm is None else warm.bound)
    given = None if warm is None else _by_block(case, warm)
    start = descent.improve(case, given, seconds=time_limit_seconds / 5)
    device_of, proven, finished = _search(case, start, until=started + time_limit_seconds)
    bound = max(bound, proven)
    given_up = _given_up(finished, time_limit_seconds)
    if device_of is None:
        raise _no_plan(case, given_up)
    value = score(case.graph, device_of, case.cost, case.link_fixed, case.link_per_size)
    bound = min(bound, value)
    exact = value <= bound * (1 + EXACT)
    return Solution(
        stages=stages_of(case.graph, device_of),
        value=value,
        bound=bound,
        method=METHOD,
        exact=exact,
        seconds=time.perf_counter() - started,
        given_up="" if exact else given_up,
    )


def _least(case: SumCase) -> float:
    """Return what blocks cost at least, each on its cheapest device, and transfers nothing."""
    import math

    least = float(case.graph.arrays.sum_blocks(case.cost).min(axis=1).sum())
    return least * (1 - MARGIN) if least < math.inf else 0.0


def _by_block(case: SumCase, solution: Solution) -> Ints:
    import numpy as np

    device_of = solution.device_of(len(case.graph.names))
    return np.array([device_of[members[0]] for members in case.graph.colocated])


def _given_up(finished: bool | None, seconds: float) -> str:
    if finished is None:
        return f"a model of over {MOST_COLUMNS:,} pair variables was not built; the plan is by descent"
    if not finished:
        return f"the search ended at its time limit of {seconds:g} s"
    return "HiGHS's tolerances leave the last digits open"


def _no_plan(case: SumCase, given_up: str) -> NoPlan:
    from isthmus.planning.slicing.relax import explain

    reason = explain(case)
    return NoPlan(reason or f"no plan that keeps every limit was found: {given_up}; allow more time")


def _search(case: SumCase, start: Ints | None, *, until: float) -> tuple[Ints | None, float, bool | None]:
    """Return an assignment of blocks, a bound, and whether time sufficed; None when no model was built.

    A plan that passes a limit by no more than the solver's tolerance is searched again under a stricter limit; the
    first bound stays.
    """
    bound, strict = 0.0, 0.0
    for attempt in range(3):
        model = build(case, tighter=strict)
        if model is None:
            return start, bound, None
        left = until - time.perf_counter()
        first = None if start is None or strict else model.start(case, start)
        outcome = model.programme.solve(left, first)
        if not attempt:
            bound = _rounded_down(outcome)
        device_of = model.read(outcome)
        if device_of is None or not broken(case, device_of):
            break
        device_of, strict = None, 1e-8 * 10**attempt
    return _better(case, device_of, start), bound, outcome.finished


def _rounded_down(outcome: Outcome) -> float:
    return max(0.0, outcome.bound * (1 - MARGIN)) if outcome.feasible else 0.0


def _better(case: SumCase, found: Ints | None, start: Ints | None) -> Ints | None:
    both = [entry for entry in (found, start) if entry is not None]
    return min(
        both,
        key=lambda entry: score(case.graph, entry, case.cost, case.link_fixed, case.link_per_size),
        default=None,
    )


def build(case: SumCase, *, tighter: float = 0.0, elastic: bool = False) -> Model | None:
    """Return the model; None when it would have over ``MOST_COLUMNS`` pair variables.

    ``tighter``: by how much less than allowed, relative, limits may be used. ``elastic``: what is minimised is what
    limits are passed by, each as a part of it, instead of the sum.
    """
    import numpy as np

    graph, m = case.graph.arrays, len(case.devices)
    key = graph.producer[graph.signal] * graph.blocks + graph.consumer
    keys = distinct(key)
    if (len(keys) + len(graph.read_often[1])) * m * m > MOST_COLUMNS:
        return None
    pairs, pair_of = np.stack((keys // graph.blocks, keys % graph.blocks), axis=1), np.searchsorted(keys, key)
    costs = [(case.cost, case.link_fixed, case.link_per_size)]
    costs += [(limit.cost, limit.link_fixed, limit.link_per_size) for limit in case.limits]
    sums = [_by_column(case, pairs, pair_of, *entry) for entry in costs]
    allowed = [np.logical_and.reduce([np.isfinite(entry[i]) for entry in sums]) for i in range(3)]
    if case.monotone:
        allowed[1] &= np.triu(np.ones((m, m), dtype=bool))
    allowed[1] &= allowed[0][pairs[:, 0], :, None] & allowed[0][pairs[:, 1], None, :]
    allowed[2] &= ~np.eye(m, dtype=bool)
    programme = Programme()
    block, pair, sent = (
        _columns(programme, allowed[i], 0 * allowed[i] if elastic else sums[0][i], whole=i == 0)
        for i in range(3)
    )
    rooms = int(np.isfinite(case.capacity_bytes).sum()) + len(case.limits)
    over = programme.add_columns(1.0, rooms) if elastic else np.full(rooms, -1)
    model = Model(programme, block, pairs, pair, sent, over)
    _rows(case, model, pair_of)
    _limit_rows(case, model, sums[1:], 1 + SLACK - tighter)
    return model


def _by_column(
    case: SumCase, pairs: Ints, pair_of: Ints, cost: Floats, fixed: Floats, per_size: Floats
) -> tuple[Floats, Floats, Floats]:
    """Return what each block, pair and signal with several readers costs, by device and two devices. Pairs have the
    costs of signals with one reader, and are infinite too where any signal between them cannot be sent."""
    import numpy as np

    graph, m = case.graph.arrays, len(case.devices)
    transfers = transfer_costs(fixed, per_size, graph.size)
    between = np.zeros((len(pairs), m, m))
    single = graph.readers[graph.signal] == 1
    paid = np.where(single[:, None, None] | np.isinf(transfers[graph.signal]), transfers[graph.signal], 0.0)
    np.add.at(between, pair_of, paid)
    return graph.sum_blocks(cost), between, transfers[graph.read_often[1]]


def _columns(programme: Programme, allowed: Floats, cost: Floats, *, whole: bool) -> Ints:
    import numpy as np

    found = np.full(allowed.shape, -1)
    count = int(allowed.sum())
    found[allowed] = programme.add_columns(cost[allowed], count, upper=1.0, whole=whole)
    return found


def _rows(case: SumCase, model: Model, pair_of: Ints) -> None:
    """One device for each block; pairs with their blocks' margins; signals with several readers; tiers in order."""
    import numpy as np

    programme, graph, m = model.programme, case.graph.arrays, len(case.devices)
    rows = programme.add_rows(graph.blocks, 1.0, 1.0)
    programme.fill(rows[:, None], model.block, 1.0)
    for end, pair in ((0, model.pair), (1, model.pair.transpose(0, 2, 1))):
        rows = programme.add_rows(len(model.pairs) * m, 0.0, 0.0).reshape(-1, m)
        programme.fill(rows[:, :, None], pair, 1.0)
        programme.fill(rows, model.block[model.pairs[:, end]], -1.0)
    several = graph.readers[graph.signal] > 1
    read = model.pair[pair_of[several]]
    sent = model.sent[graph.read_often[2]]
    both = (read >= 0) & (sent >= 0)
    rows = programme.add_rows(int(both.sum()), 0.0, np.inf)
    programme.fill(rows, sent[both], 1.0)
    programme.fill(rows, read[both], -1.0)
    if case.monotone and len(graph.edges):
        first, second = model.block[graph.edges.T]
        rows = programme.add_rows(len(graph.edges) * (m - 1), -np.inf, 0.0).reshape(-1, m - 1)
        for k in range(1, m):
            programme.fill(rows[:, [k - 1]], first[:, k:], 1.0)
            programme.fill(rows[:, [k - 1]], second[:, k:], -1.0)


def _limit_rows(case: SumCase, model: Model, sums: list[tuple[Floats, Floats, Floats]], most: float) -> None:
    """Memory and other sums, as parts of what is allowed, or of all there is where nothing is."""
    import numpy as np

    programme, over = model.programme, iter(model.over)
    memory = case.graph.arrays.sum_blocks(case.memory_bytes)
    for d in np.flatnonzero(np.isfinite(case.capacity_bytes)):
        room = float(case.capacity_bytes[d])
        row = programme.add_rows(1, -np.inf, most if room else 0.0)
        programme.fill(row, model.block[:, d], memory / (room or float(memory.sum()) or 1.0))
        programme.fill(row, next(over), -1.0)
    for limit, parts in zip(case.limits, sums, strict=True):
        row = programme.add_rows(1, -np.inf, most if limit.most else 0.0)
        programme.fill(row, next(over), -1.0)
        if limit.most < np.inf:
            for columns, cost in zip((model.block, model.pair, model.sent), parts, strict=True):
                programme.fill(row, columns, np.where(columns >= 0, cost, 0.0) / (limit.most or 1.0))
