"""What an attempt will cost and did cost, what is left of budgets, and how good the estimates were. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence

import msgspec

from isthmus.model.ledger import Budget, Charges, Entry, Estimate, Reported, Settlement, Used
from isthmus.model.units import format_seconds, format_usd
from isthmus.planning.cost import PriceList

FIRST = Used(
    state_transitions=45, lambda_requests=19, lambda_gb_seconds=17.0, kms_signatures=1, s3_puts=20, s3_gets=40
)
"""What a model's first pipeline uses besides its training: the states and functions on the way of one that deploys,
counted in ``statemachines/``, and their seconds in the benchmark ``control_plane`` times their memory."""
FIRST_IMPORT = msgspec.structs.replace(FIRST, state_transitions=41, lambda_requests=18)
"""The same of a model that was trained elsewhere."""
FIRST_BASIS = "as a pipeline that deploys uses, since none of this model has ended yet"
LAST_BASIS = "as the model's last one used"
HEADROOM = 3
"""How many times as long as expected a training may take, where that is less than its deadline, before what is set
aside for it of a budget is used up. Known seconds alone are trusted so; a later attempt gets all up to its deadline."""
MONTH = "month"
GB = 1e9


def charged(used: Used, prices: PriceList) -> Charges:
    """Return what usage costs."""
    price = {name: entry.usd for name, entry in prices.prices.items()}
    return Charges(
        training_usd=used.training_seconds / 3600 * used.price_per_hour_usd,
        step_functions_usd=used.state_transitions * price["state_transition"],
        lambda_usd=used.lambda_gb_seconds * price["lambda_gb_second"]
        + used.lambda_requests * price["lambda_request"],
        kms_usd=used.kms_signatures * price["kms_signature"],
        s3_requests_usd=used.s3_puts * price["s3_put_request"] + used.s3_gets * price["s3_get_request"],
        storage_usd=used.stored_bytes / GB * price["s3_gb_month"],
        transfer_usd=used.sent_bytes / GB * price["transfer_out_gb"],
    )


def estimated(used: Used, prices: PriceList, *, basis: str, rest_basis: str) -> Estimate:
    """Return what an attempt will cost."""
    charges = charged(used, prices)
    return Estimate(
        used=used,
        charges=charges,
        total_usd=charges.total_usd,
        basis=basis,
        rest_basis=rest_basis,
        prices=prices.name,
    )


def at_most(estimate: Estimate, deadline_seconds: float) -> float:
    """Return what an attempt comes to if its training takes all the time that it has."""
    longer = max(0.0, deadline_seconds - estimate.used.training_seconds)
    return estimate.total_usd + longer / 3600 * estimate.used.price_per_hour_usd


def set_aside(entry: Entry, left_usd: float, *, trusted: bool) -> float:
    """Return what may be spent on an attempt of what is left. ``trusted``: its seconds are known of such trainings, and
    it is the job's first attempt."""
    most, estimate = min(entry.at_most_usd, left_usd), entry.estimate
    if trusted:
        most = min(most, estimate.total_usd + (HEADROOM - 1) * estimate.charges.training_usd)
    return max(most, estimate.total_usd)


def most_seconds(estimate: Estimate, at_most_usd: float, deadline_seconds: int) -> int:
    """Return after how many seconds an attempt's training has used up what is set aside for it, at least one and at
    most its deadline: a rig's limit, and SageMaker's ``MaxRuntimeInSeconds``."""
    price = estimate.used.price_per_hour_usd
    if price <= 0:
        return deadline_seconds
    rest = estimate.total_usd - estimate.charges.training_usd
    seconds = (at_most_usd - rest) / price * 3600
    # The smallest part of a cent may be lost in between.
    return max(1, min(deadline_seconds, math.floor(seconds + 1e-6)))


def settled(
    entry: Entry,
    pipeline: Used | None,
    prices: PriceList,
    *,
    newest: bool,
    settled_at: str,
    execution: str = "",
) -> Settlement:
    """Return what an attempt cost. ``pipeline``: what its pipeline used as a whole, counted, or None when that could
    not be; it is charged to the job's newest attempt alone."""
    said, before = entry.reported, entry.estimate.used
    open_points = [] if said is not None else ["training"]
    values = {
        "training_seconds": 0.0 if said is None else said.seconds,
        "price_per_hour_usd": before.price_per_hour_usd,
    }
    counted = Used() if not newest else pipeline or before
    if newest and pipeline is None:
        open_points.append("Step Functions and Lambda")
    fetched = said.fetched_bytes if said else None
    kept = said.output_bytes if said else None
    if fetched is None and before.sent_bytes:
        open_points.append("transfer")
    fetched = before.sent_bytes if fetched is None else fetched
    used = msgspec.structs.replace(
        counted,
        **values,
        kms_signatures=before.kms_signatures if newest else 0,
        s3_puts=before.s3_puts if newest else 0,
        s3_gets=before.s3_gets,
        stored_bytes=before.stored_bytes if kept is None else kept,
        sent_bytes=fetched if entry.pays_transfer else 0,
    )
    charges = charged(used, prices)
    return Settlement(
        used=used,
        charges=charges,
        total_usd=charges.total_usd,
        as_estimated=tuple(open_points),
        settled_at=settled_at,
        execution=execution,
    )


def without(pipeline: Used, charged: Iterable[Used]) -> Used:
    """Return what of an execution's usage is not charged to an attempt yet: before a redrive it was counted once."""
    found = list(charged)
    return msgspec.structs.replace(
        pipeline,
        state_transitions=max(0, pipeline.state_transitions - sum(one.state_transitions for one in found)),
        lambda_requests=max(0, pipeline.lambda_requests - sum(one.lambda_requests for one in found)),
        lambda_gb_seconds=max(0.0, pipeline.lambda_gb_seconds - sum(one.lambda_gb_seconds for one in found)),
    )


def counts(entry: Entry) -> float:
    """Return what of an attempt counts toward budgets: what it cost, or may come to until that is known."""
    if entry.settlement is not None:
        return entry.settlement.total_usd
    if entry.refused:
        return 0.0
    if entry.reported is None:
        return entry.at_most_usd
    rest = entry.estimate.total_usd - entry.estimate.charges.training_usd
    return rest + training_usd(entry, entry.reported)


def training_usd(entry: Entry, said: Reported) -> float:
    """Return what a training cost."""
    return said.seconds / 3600 * entry.estimate.used.price_per_hour_usd


def left_of(budget: Budget, entries: Iterable[Entry]) -> float:
    """Return what is left of a budget after a month's attempts; below zero, it was exceeded."""
    return budget.month_usd - sum(counts(entry) for entry in entries if budget.covers(entry))


def over_budget(entry: Entry, budgets: Sequence[Budget], others: Sequence[Entry]) -> tuple[float, str]:
    """Return what is left for an attempt in US dollars (infinite without a budget), and why it may not start, or an
    empty text."""
    left, why = math.inf, ""
    for budget in budgets:
        if not budget.covers(entry):
            continue
        have = left_of(budget, others)
        if have < left:
            left = have
        if entry.estimate.total_usd > have and not why:
            why = _exceeded(entry, budget, others, have)
    return left, why


def _exceeded(entry: Entry, budget: Budget, others: Sequence[Entry], have: float) -> str:
    held = sum(counts(one) for one in others if budget.covers(one) and _is_open(one))
    aside = f", {format_usd(held)} of it set aside for attempts that are not settled" if held else ""
    spent = budget.month_usd - have
    scope = f" --model {budget.model}" if budget.model else f" --team {budget.team}" if budget.team else ""
    estimate = entry.estimate
    seconds = format_seconds(estimate.used.training_seconds)
    return (
        f"needs about {format_usd(estimate.total_usd)} on {entry.device} ({seconds} of training, {estimate.basis}); "
        f"of {format_usd(budget.month_usd)} for {budget.name} in {entry.month}, {format_usd(max(0.0, have))} are left "
        f"({format_usd(spent)} are taken{aside}): raise it with `isthmus cost budget set{scope} --month USD`, "
        "or redrive the pipeline next month"
    )


def _is_open(entry: Entry) -> bool:
    return entry.settlement is None and not entry.refused


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """A row of what was spent: ``estimated_usd`` and ``cost_usd`` of the attempts that are settled alone, beside which
    ``open_usd`` is set aside for the others."""

    name: str
    attempts: int
    training_seconds: float
    training_usd: float
    estimated_usd: float
    cost_usd: float
    open_usd: float


KEYS: dict[str, Callable[[Entry], str]] = {
    "pipeline": lambda entry: entry.job_key,
    "model": lambda entry: entry.model,
    "team": lambda entry: entry.team,
    "device": lambda entry: f"{entry.device} spot" if entry.spot else entry.device,
    MONTH: lambda entry: entry.month,
}


def summed(entries: Iterable[Entry], by: str) -> list[Line]:
    """Return what was spent ``by`` a key of ``KEYS``, the dearest first; months in their order."""
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        if not entry.refused:
            groups.setdefault(KEYS[by](entry), []).append(entry)
    lines = [_line(name, group) for name, group in groups.items()]
    order = (lambda line: line.name) if by == MONTH else (lambda line: -(line.cost_usd + line.open_usd))
    return sorted(lines, key=order)


def _line(name: str, group: Sequence[Entry]) -> Line:
    closed = [(entry, entry.settlement) for entry in group if entry.settlement is not None]
    return Line(
        name=name,
        attempts=len(group),
        training_seconds=sum(done.used.training_seconds for _, done in closed),
        training_usd=sum(done.charges.training_usd for _, done in closed),
        estimated_usd=sum(entry.estimate.total_usd for entry, _ in closed),
        cost_usd=sum(done.total_usd for _, done in closed),
        open_usd=sum(counts(entry) for entry in group if _is_open(entry)),
    )


class Accuracy(msgspec.Struct, frozen=True, kw_only=True):
    """How far estimates were from what it cost, as shares of that: medians over ``attempts``, and of those alone whose
    seconds were known of trainings before."""

    attempts: int
    median_error: float
    known: int
    known_median_error: float | None


def accuracy(entries: Iterable[Entry], *, by_deadline: str) -> Accuracy | None:
    """Return how good the estimates were; None without an attempt that was settled and reported its seconds.
    ``by_deadline``: how the basis of those begins whose seconds nobody knew."""
    found = [
        (abs(entry.estimate.total_usd - entry.settlement.total_usd) / entry.settlement.total_usd, entry)
        for entry in entries
        if entry.settlement is not None
        and entry.settlement.total_usd > 0
        and not entry.settlement.as_estimated
    ]
    if not found:
        return None
    known = [error for error, entry in found if not entry.estimate.basis.startswith(by_deadline)]
    return Accuracy(
        attempts=len(found),
        median_error=statistics.median(error for error, _ in found),
        known=len(known),
        known_median_error=statistics.median(known) if known else None,
    )
