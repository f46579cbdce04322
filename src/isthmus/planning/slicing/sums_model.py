"""The mixed-integer model of sums: columns and rows, and what its relaxation proves.

Each block of co-located operators runs on one device. For each pair of blocks with a signal between them, pair
variables say on which two devices they run, and their margins are the blocks' own: the local polytope
(Wainwright and Jordan, "Graphical Models, Exponential Families, and Variational Inference", 2008, section 4.1),
whose relaxation is tight where a minimum cut is exact. A signal with several readers pays the largest of their
pair variables for each two devices: it is sent once to each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from isthmus.planning.slicing.arrays import distinct, transfer_costs
from isthmus.planning.slicing.mip import Outcome, Programme
from isthmus.planning.slicing.solution import DualCertificate

if TYPE_CHECKING:
    from isthmus.planning.slicing.arrays import Ints
    from isthmus.planning.slicing.case import Floats, SumCase

SLACK = 1e-9
"""Relative; the verifier lets a limit be passed by as much."""
MOST_COLUMNS = 500_000
"""Of pair variables; of a larger model not even the relaxation is solved in a minute, and it is not built."""
Elastic = Literal["no", "each", "together"]


@dataclass(frozen=True, eq=False)
class Rows:
    """Numbers of rows: ``margins``: int64 ``[p, 2, m]``; ``sent``: ``[k, m, m]``, -1 where there is none; ``order``:
    ``[e, m - 1]``; ``memory``: ``[m]``, -1 without a limit; ``limits``: ``[l]``. ``scales``: what the last two are
    divided by, float64 ``[m + l]``."""

    margins: Ints
    sent: Ints
    order: Ints
    memory: Ints
    limits: Ints
    scales: Floats


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
    rows: Rows

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

    def certificate(self, outcome: Outcome) -> DualCertificate | None:
        """Return the multipliers of a relaxation that was solved; None when it was not."""
        import numpy as np

        if outcome.duals is None:
            return None
        duals, rows, m = outcome.duals, self.rows, len(self.rows.memory)
        use = np.where(np.r_[rows.memory, rows.limits] >= 0, -duals[np.r_[rows.memory, rows.limits]], 0.0)
        use = np.maximum(use, 0.0) / rows.scales
        return DualCertificate(
            margins=duals[rows.margins],
            sent=np.maximum(np.where(rows.sent >= 0, duals[rows.sent], 0.0), 0.0),
            order=np.maximum(-duals[rows.order], 0.0),
            memory=use[:m],
            limits=use[m:],
            bound=-float("inf"),
        )


def build(case: SumCase, *, tighter: float = 0.0, elastic: Elastic = "no") -> Model | None:
    """Return the model; None when it would have over ``MOST_COLUMNS`` pair variables.

    ``tighter``: by how much less than allowed, relative, limits may be used. ``elastic``: what is minimised is what
    limits are passed by, each as a part of it, instead of the sum; ``together``: all by the same part.
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
        _columns(programme, allowed[i], sums[0][i] if elastic == "no" else 0 * allowed[i], whole=i == 0)
        for i in range(3)
    )
    rooms = int(np.isfinite(case.capacity_bytes).sum()) + len(case.limits)
    over = np.full(rooms, -1)
    if elastic == "each":
        over = programme.add_columns(1.0, rooms)
    elif elastic == "together":
        over = np.repeat(programme.add_columns(1.0, 1), rooms)
    columns = _Columns(programme, block, pairs, pair, sent, over)
    links = _rows(case, columns, pair_of)
    rows = Rows(*links, *_limit_rows(case, columns, sums[1:], 1 + SLACK - tighter))
    return Model(programme, block, pairs, pair, sent, over, rows)


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


@dataclass(frozen=True, eq=False)
class _Columns:
    programme: Programme
    block: Ints
    pairs: Ints
    pair: Ints
    sent: Ints
    over: Ints


def _rows(case: SumCase, model: _Columns, pair_of: Ints) -> tuple[Ints, Ints, Ints]:
    """One device for each block; pairs with their blocks' margins; signals with several readers; tiers in order."""
    import numpy as np

    programme, graph, m = model.programme, case.graph.arrays, len(case.devices)
    rows = programme.add_rows(graph.blocks, 1.0, 1.0)
    programme.fill(rows[:, None], model.block, 1.0)
    margins = []
    for end, pair in ((0, model.pair), (1, model.pair.transpose(0, 2, 1))):
        rows = programme.add_rows(len(model.pairs) * m, 0.0, 0.0).reshape(-1, m)
        programme.fill(rows[:, :, None], pair, 1.0)
        programme.fill(rows, model.block[model.pairs[:, end]], -1.0)
        margins.append(rows)
    several = graph.readers[graph.signal] > 1
    read = model.pair[pair_of[several]]
    sent = model.sent[graph.read_often[2]]
    both = (read >= 0) & (sent >= 0)
    sent_rows = np.full(both.shape, -1)
    sent_rows[both] = rows = programme.add_rows(int(both.sum()), 0.0, np.inf)
    programme.fill(rows, sent[both], 1.0)
    programme.fill(rows, read[both], -1.0)
    return np.stack(margins, axis=1), sent_rows, _order_rows(case, model)


def _order_rows(case: SumCase, model: _Columns) -> Ints:
    import numpy as np

    programme, graph, m = model.programme, case.graph.arrays, len(case.devices)
    if not case.monotone or not len(graph.edges):
        return np.empty((0, m - 1), dtype=np.int64)
    first, second = model.block[graph.edges.T]
    rows = programme.add_rows(len(graph.edges) * (m - 1), -np.inf, 0.0).reshape(len(graph.edges), m - 1)
    for k in range(1, m):
        programme.fill(rows[:, [k - 1]], first[:, k:], 1.0)
        programme.fill(rows[:, [k - 1]], second[:, k:], -1.0)
    return rows


def _limit_rows(
    case: SumCase, model: _Columns, sums: list[tuple[Floats, Floats, Floats]], most: float
) -> tuple[Ints, Ints, Floats]:
    """Memory and other sums, as parts of what is allowed, or of all there is where nothing is."""
    import numpy as np

    programme, over = model.programme, iter(model.over)
    memory, rows, scales = case.graph.arrays.sum_blocks(case.memory_bytes), [], []
    for d, room in enumerate(case.capacity_bytes.tolist()):
        scales.append((room if room < np.inf else 1.0) or float(memory.sum()) or 1.0)
        rows.append(-1)
        if room < np.inf:
            rows[-1] = int(programme.add_rows(1, -np.inf, most if room else 0.0)[0])
            programme.fill(rows[-1], model.block[:, d], memory / scales[-1])
            programme.fill(rows[-1], next(over), -1.0)
    for limit, parts in zip(case.limits, sums, strict=True):
        scales.append((limit.most if limit.most < np.inf else 1.0) or 1.0)
        rows.append(int(programme.add_rows(1, -np.inf, most if limit.most else 0.0)[0]))
        programme.fill(rows[-1], next(over), -1.0)
        if limit.most < np.inf:
            for columns, cost in zip((model.block, model.pair, model.sent), parts, strict=True):
                programme.fill(rows[-1], columns, np.where(columns >= 0, cost, 0.0) / scales[-1])
    m = len(case.devices)
    numbers = np.array(rows, dtype=np.int64)
    return numbers[:m], numbers[m:], np.array(scales)
