"""The ledger: what each attempt is estimated to cost before it starts, what it reported, and what it did cost.

An attempt has one item, in the partition of the month in which it was planned; among its job's records stands which
month that is. Each part is written once: the estimate when it is planned, what it reported when it ended, and the
settlement when its pipeline did. What is there already is never changed, so that each call may be made again.
"""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Mapping
from typing import Any

import msgspec

from isthmus import documents
from isthmus.errors import BudgetExceeded, Conflict
from isthmus.model import layout
from isthmus.model.dataset import Manifest
from isthmus.model.ledger import Entry, Reported, Used
from isthmus.model.plan import Plan
from isthmus.model.units import format_seconds, format_usd, utc_of
from isthmus.planning import ledger
from isthmus.ports import Item, Records
from isthmus.workflows.cost_settings import load_prices, read_budgets

IMPORT = "import"
"""In the place of a device where nothing is trained."""
BY_DEADLINE = "its deadline"
"""How the basis of an estimate begins whose seconds nobody knew (``planning.choice.expected``)."""


class Whose(msgspec.Struct, frozen=True, kw_only=True):
    """Whose attempt it is. A job as registered names no team: that stands in its record."""

    model: str
    team: str


def open_entry(
    plan: Plan, whose: Whose, manifest: Manifest, *, zone: str, now: float, records: Records
) -> Plan:
    """Write down what an attempt will cost, and return its plan, with the time that budgets leave it.

    ``zone``: where the bucket lies. ``now``: seconds since the epoch.

    Raises:
        BudgetExceeded: more than a budget leaves. It is on record as refused, and counts for nothing.
    """
    _close_before(plan, now, records)
    entry = _entry(plan, whose, manifest, zone, now, records)
    _write(entry, records)
    budgets = [budget for budget in read_budgets(records) if budget.covers(entry)]
    if not budgets:
        return plan
    # Written first and looked at then: of two at the same moment each sees the other, so that both may be refused,
    # and never both let in.
    others = [one for one in read_month(entry.month, records) if _name(one) != _name(entry)]
    left, why = ledger.over_budget(entry, budgets, others)
    if why:
        _update(entry, {"refused": why}, records)
        raise BudgetExceeded(f"{whose.model} {why}")
    trusted = plan.fencing == 1 and not plan.basis.startswith(BY_DEADLINE)
    allowed = ledger.set_aside(entry, left, trusted=trusted)
    seconds = ledger.most_seconds(entry.estimate, allowed, plan.max_runtime_seconds)
    limit = seconds if seconds < plan.max_runtime_seconds else 0
    _update(entry, {"at_most_usd": allowed, "limit_seconds": limit}, records)
    return with_limit(plan, seconds)


def open_import(job_key: str, whose: Whose, *, now: float, records: Records) -> None:
    """Write down what a pipeline will cost that trains nothing: its entry has no attempt, and nothing to report.

    ``now``: seconds since the epoch.
    """
    by_device = _used_before(whose.model, records)
    used, basis = by_device.get(IMPORT, ledger.FIRST_IMPORT), ledger.FIRST_BASIS
    if IMPORT in by_device:
        basis = ledger.LAST_BASIS
    estimate = ledger.estimated(used, load_prices(records), basis="it trains nothing", rest_basis=basis)
    entry = Entry(
        job_key=job_key,
        fencing=0,
        model=whose.model,
        team=whose.team,
        device=IMPORT,
        runs_on=IMPORT,
        month=month_of(now),
        planned_at=utc_of(now),
        estimate=estimate,
        at_most_usd=estimate.total_usd,
        reported=Reported(seconds=0.0),
    )
    _write(entry, records)


def with_limit(plan: Plan, seconds: int) -> Plan:
    """Return a plan whose training is ended after so many seconds; SageMaker's ``MaxRuntimeInSeconds``."""
    shorter = max(0, plan.max_runtime_seconds - seconds)
    waits = plan.max_wait_seconds - shorter if plan.max_wait_seconds else 0
    return msgspec.structs.replace(
        plan, max_runtime_seconds=plan.max_runtime_seconds - shorter, max_wait_seconds=waits
    )


def _close_before(plan: Plan, now: float, records: Records) -> None:
    note = records.get(layout.PLANNED, plan.job_key)
    if note is not None and int(note["fencing"]) < plan.fencing:
        close(plan.job_key, records, now=now)


def _entry(plan: Plan, whose: Whose, manifest: Manifest, zone: str, now: float, records: Records) -> Entry:
    here = manifest.in_place is not msgspec.UNSET
    pays = plan.runs_on == "rig" and plan.zone != zone and not here
    rest, rest_basis = _rest(whose.model, plan.device, manifest, pays, records)
    used = msgspec.structs.replace(
        rest, training_seconds=plan.expected_seconds, price_per_hour_usd=plan.price_per_hour_usd
    )
    estimate = ledger.estimated(used, load_prices(records), basis=plan.basis, rest_basis=rest_basis)
    return Entry(
        job_key=plan.job_key,
        fencing=plan.fencing,
        model=whose.model,
        team=whose.team,
        device=plan.device,
        runs_on=plan.runs_on,
        month=month_of(now),
        planned_at=utc_of(now),
        estimate=estimate,
        at_most_usd=ledger.at_most(estimate, plan.max_runtime_seconds),
        spot=plan.spot,
        pays_transfer=pays,
    )


def _rest(model: str, device: str, manifest: Manifest, pays: bool, records: Records) -> tuple[Used, str]:
    """Return what a pipeline uses besides the seconds of its training, and whence that is known."""
    by_device = _used_before(model, records)
    if device in by_device:
        return by_device[device], ledger.LAST_BASIS
    size = sum(file.size_bytes for file in manifest.files) if pays else 0
    gets = ledger.FIRST.s3_gets + len(manifest.files)
    return msgspec.structs.replace(ledger.FIRST, s3_gets=gets, sent_bytes=size), ledger.FIRST_BASIS


def _used_before(model: str, records: Records) -> dict[str, Used]:
    item = records.get(layout.model_pk(model), layout.USED) or {}
    return documents.convert(dict[str, Used], item.get("by_device", {}), f"what {model} used")


def month_of(now: float) -> str:
    """Return the month of a time, ``2026-11``, in UTC. ``now``: seconds since the epoch."""
    return datetime.datetime.fromtimestamp(now, datetime.UTC).strftime("%Y-%m")


def _name(entry: Entry) -> tuple[str, int]:
    return entry.job_key, entry.fencing


def _write(entry: Entry, records: Records) -> None:
    """The item is the commit point; before it, a month is noted in which there is nothing to find."""
    records.update(layout.job_pk(entry.job_key), layout.ledger_sk(entry.fencing), {"month": entry.month})
    values = {name: value for name, value in msgspec.to_builtins(entry).items() if value is not None}
    _update(entry, values, records, expect={"estimate": None})


def _update(
    entry: Entry, values: Mapping[str, Any], records: Records, *, expect: Mapping[str, Any] | None = None
) -> None:
    with contextlib.suppress(Conflict):  # it stands there already, as this call wrote it before
        records.update(
            layout.cost_pk(entry.month), layout.cost_sk(entry.job_key, entry.fencing), values, expect=expect
        )


def close(job_key: str, records: Records, *, now: float) -> None:
    """Nobody waits for a job's newest attempt any more: if it never said how it ended, it held its device until now."""
    note = records.get(layout.PLANNED, job_key)
    if note is None or note.get("started_at") is None:
        return
    held = Reported(seconds=round(max(0.0, now - float(note["started_at"])), 3), held=True)
    report_training(job_key, int(note["fencing"]), held, records)


def over_limit(job_key: str, fencing: int, records: Records) -> BudgetExceeded | None:
    """Return what to say of an attempt that SageMaker ended at its ``MaxRuntimeInSeconds``, if a budget set that."""
    entry = read_entry(job_key, fencing, records)
    if entry is None or not entry.limit_seconds:
        return None
    return BudgetExceeded(
        f"{entry.model} needs more than the {format_seconds(entry.limit_seconds)} of training that its budget sets "
        f"aside for it on {entry.device}, {format_usd(entry.at_most_usd)}: raise the budget, and redrive the pipeline: "
        "it goes on from its last checkpoint"
    )


def report_training(job_key: str, fencing: int, said: Reported, records: Records) -> None:
    """Write down what an attempt's training said of itself; what it said before stays."""
    pointer = records.get(layout.job_pk(job_key), layout.ledger_sk(fencing))
    if pointer is None:
        return  # planned by a version that kept no ledger
    with contextlib.suppress(Conflict):
        records.update(
            layout.cost_pk(pointer["month"]),
            layout.cost_sk(job_key, fencing),
            {"reported": msgspec.to_builtins(said)},
            expect={"reported": None},
        )


def settle(job_key: str, pipeline: Used | None, *, execution: str = "", now: float, records: Records) -> None:
    """Write down what each attempt of a pipeline that has ended did cost; may be called again, and after a redrive.

    ``pipeline``: what its ``execution`` used as a whole, counted; None: that could not be counted.
    """
    entries = [entry for entry in read_job(job_key, records) if not entry.refused]
    prices = load_prices(records)
    done_before = [entry.settlement for entry in entries if entry.settlement is not None]
    charged = [done.used for done in done_before if done.execution == execution]
    rest = None if pipeline is None else ledger.without(pipeline, charged)
    for entry in entries:
        if entry.settlement is not None:
            continue
        newest = entry is entries[-1]
        done = ledger.settled(entry, rest, prices, newest=newest, settled_at=utc_of(now), execution=execution)
        _update(entry, {"settlement": msgspec.to_builtins(done)}, records, expect={"settlement": None})
        if newest and len(entries) == 1 and not done.as_estimated:
            _remember(entry, done.used, records)


def _remember(entry: Entry, used: Used, records: Records) -> None:
    """Keep what the model's last pipeline on a device used, which the next estimate begins with."""
    pk = layout.model_pk(entry.model)
    known = _used_before(entry.model, records) | {entry.device: used}
    records.update(pk, layout.USED, {"by_device": msgspec.to_builtins(known)})


def read_job(job_key: str, records: Records) -> list[Entry]:
    """Return what the attempts of a job cost, in their order."""
    newest = int((records.get(layout.job_pk(job_key), "FENCING") or {}).get("number", 0))
    numbers = range(1, newest + 1) if newest else (0,)  # of an import there is no attempt
    found = (read_entry(job_key, fencing, records) for fencing in numbers)
    return [entry for entry in found if entry is not None]


def read_entry(job_key: str, fencing: int, records: Records) -> Entry | None:
    """Return what an attempt costs, or None where nobody noted it."""
    pointer = records.get(layout.job_pk(job_key), layout.ledger_sk(fencing))
    if pointer is None:
        return None
    item = records.get(layout.cost_pk(pointer["month"]), layout.cost_sk(job_key, fencing))
    return _read(item) if item is not None and "estimate" in item else None


def read_month(month: str, records: Records) -> list[Entry]:
    """Return what the attempts cost that were planned in a month, ``2026-11``."""
    return [_read(item) for item in records.query(layout.cost_pk(month)) if "estimate" in item]


def _read(item: Item) -> Entry:
    return documents.convert(Entry, item, f"what {item['sk']} costs")
