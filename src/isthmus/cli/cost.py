"""``isthmus cost``: what was spent, how good the estimates were, budgets, and prices."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from isthmus import bootstrap, documents
from isthmus.cli.context import Stack
from isthmus.cli.output import Output, table
from isthmus.errors import InvalidInput, Refused
from isthmus.model.ledger import Budget, Charges, Entry
from isthmus.model.units import format_seconds, format_usd
from isthmus.planning.cost import PriceList
from isthmus.planning.ledger import KEYS, MONTH, Accuracy, counts, left_of
from isthmus.workflows import cost_settings, keep_ledger
from isthmus.workflows.read_costs import Spent, read_costs

SPENT = ("name", "attempts", "training", "training_usd", "estimated", "cost", "set_aside")
BUDGETS = ("for", "month", "spent", "set_aside", "left")
MONTHS = re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])")


def register(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command."""
    cost = commands.add_parser(
        "cost", parents=[common], help="what was spent, how good the estimates were, budgets, prices"
    )
    cost.add_argument("--by", choices=tuple(KEYS), default="model", help="default: %(default)s")
    cost.add_argument(
        "--month",
        action="append",
        metavar="YYYY-MM",
        help="in UTC, repeatable (default: this month; by month, the last twelve)",
    )
    cost.set_defaults(run=_show)
    verbs = cost.add_subparsers(title="verbs", metavar="VERB")
    common = _again()
    job = verbs.add_parser("job", parents=[common], help="a pipeline's attempts, item by item")
    job.add_argument("job_key")
    job.set_defaults(run=_job)
    _register_budget(verbs, common)
    prices = verbs.add_parser("prices", parents=[common], help="the prices that count, each with its source")
    prices.add_argument(
        "--set", type=Path, metavar="FILE", help="JSON with prices of your own, in place of those it names"
    )
    prices.add_argument("--listed", action="store_true", help="go back to the prices that ship")
    prices.set_defaults(run=_prices)


def _again() -> argparse.ArgumentParser:
    """Return the common options for a verb of a command that has them too: a default would undo what stands there."""
    again = argparse.ArgumentParser(add_help=False)
    again.add_argument(
        "--json", action="store_true", default=argparse.SUPPRESS, help="print one JSON document on stdout"
    )
    again.add_argument("--stack", default=argparse.SUPPRESS, help="name of the deployed stack")
    return again


def _register_budget(verbs: Any, common: argparse.ArgumentParser) -> None:
    budget = verbs.add_parser("budget", help="what may be spent in a month").add_subparsers(
        title="verbs", metavar="VERB", required=True
    )
    put = budget.add_parser("set", parents=[common], help="set a budget: of all, of a model, or of a team")
    put.add_argument("--month", type=float, required=True, metavar="USD", help="for each month, in UTC")
    _scope(put)
    put.set_defaults(run=_set_budget)
    remove = budget.add_parser("remove", parents=[common], help="remove a budget")
    _scope(remove)
    remove.set_defaults(run=_remove_budget)
    show = budget.add_parser("show", parents=[common], help="what is left of each budget this month")
    show.set_defaults(run=_budgets)


def _scope(parser: argparse.ArgumentParser) -> None:
    scope = parser.add_mutually_exclusive_group()
    scope.add_argument("--model", default="", help="of this model alone")
    scope.add_argument("--team", default="", help="of this team alone")


def _show(options: argparse.Namespace, output: Output) -> None:
    months = options.month or _months(12 if options.by == MONTH else 1)
    for month in months:
        if not MONTHS.fullmatch(month):
            raise InvalidInput(f"--month needs a month such as 2026-11; it is {month}")
    spent = read_costs(months, options.by, Stack(options.stack).records)
    output.result(spent, "\n".join(_spent(spent)))


def _this_month() -> str:
    return keep_ledger.month_of(bootstrap.clock().now())


def _months(count: int) -> list[str]:
    """Return the last months, this one the last of them."""
    year, month = map(int, _this_month().split("-"))
    last = year * 12 + month - 1
    return [f"{index // 12:04d}-{index % 12 + 1:02d}" for index in range(last - count + 1, last + 1)]


def _spent(spent: Spent) -> Iterator[str]:
    if not spent.lines:
        yield f"nothing was planned in {_span(spent.months)}"
        return
    rows = [
        {
            "name": line.name,
            "attempts": line.attempts,
            "training": format_seconds(line.training_seconds),
            "training_usd": format_usd(line.training_usd),
            "estimated": format_usd(line.estimated_usd),
            "cost": format_usd(line.cost_usd),
            "set_aside": format_usd(line.open_usd) if line.open_usd else "-",
        }
        for line in spent.lines
    ]
    yield table(rows, SPENT)
    total, aside = sum(line.cost_usd for line in spent.lines), sum(line.open_usd for line in spent.lines)
    more = f", and up to {format_usd(aside)} for what has not ended" if aside else ""
    yield f"{format_usd(total)} in {_span(spent.months)}{more}"
    yield said(spent.accuracy)


def _span(months: tuple[str, ...]) -> str:
    return months[0] if len(months) == 1 else f"{months[0]} to {months[-1]}"


def said(found: Accuracy | None) -> str:
    """Return how good the estimates were."""
    if found is None:
        return "no attempt is settled yet, so nobody knows how good the estimates are"
    text = f"estimates were off by {found.median_error:.1%} in the median of {found.attempts}"
    if found.known_median_error is None or found.known == found.attempts:
        return text
    return (
        f"{text}, and by {found.known_median_error:.1%} in that of {found.known} that knew trainings before"
    )


def _job(options: argparse.Namespace, output: Output) -> None:
    entries = keep_ledger.read_job(options.job_key, Stack(options.stack).records)
    if not entries:
        raise Refused(f"nobody noted what job {options.job_key} costs: it has no planned training")
    output.result(entries, "\n".join(line for entry in entries for line in _entry(entry)))


def _entry(entry: Entry) -> Iterator[str]:
    spot = " spot" if entry.spot else ""
    yield f"attempt {entry.fencing} of {entry.model} on {entry.device}{spot}, planned {entry.planned_at}"
    estimate, done = entry.estimate, entry.settlement
    seconds = format_seconds(estimate.used.training_seconds)
    yield f"  estimated {format_usd(estimate.total_usd)}: {_items(estimate.charges)}"
    yield f"    {seconds} of training: {estimate.basis}; the rest {estimate.rest_basis}; {estimate.prices}"
    if entry.refused:
        yield f"  refused: {entry.refused}"
    elif done is None:
        limit = f", and ends it after {format_seconds(entry.limit_seconds)}" if entry.limit_seconds else ""
        yield f"  not settled; up to {format_usd(counts(entry))} is set aside for it{limit}"
    else:
        yield f"  cost {format_usd(done.total_usd)}: {_items(done.charges)}"
        held = " (until it was given up: it reported none)" if entry.reported and entry.reported.held else ""
        yield f"    {format_seconds(done.used.training_seconds)} of training{held}"
        if done.as_estimated:
            yield f"    as estimated, since nobody reported it: {', '.join(done.as_estimated)}"


def _items(charges: Charges) -> str:
    named = (
        (name.removesuffix("_usd").replace("_", " "), usd)
        for name, usd in msgspec.structs.asdict(charges).items()
    )
    return ", ".join(f"{name} {format_usd(usd)}" for name, usd in named if usd) or "nothing"


def _set_budget(options: argparse.Namespace, output: Output) -> None:
    if not 0 <= options.month < float("inf"):
        raise InvalidInput(f"--month needs US dollars, 0 or more; it is {options.month}")
    budget = Budget(month_usd=options.month, model=options.model, team=options.team)
    cost_settings.set_budget(budget, Stack(options.stack).records)
    output.result(budget, f"{format_usd(budget.month_usd)} a month for {budget.name}")


def _remove_budget(options: argparse.Namespace, output: Output) -> None:
    budget = Budget(month_usd=0.0, model=options.model, team=options.team)
    cost_settings.remove_budget(budget, Stack(options.stack).records)
    output.result({"model": budget.model, "team": budget.team}, f"there is no budget for {budget.name}")


def _budgets(options: argparse.Namespace, output: Output) -> None:
    records = Stack(options.stack).records
    budgets, entries = cost_settings.read_budgets(records), keep_ledger.read_month(_this_month(), records)
    rows = [_budget(budget, entries) for budget in budgets]
    shown = [{key: format_usd(v) if isinstance(v, float) else v for key, v in row.items()} for row in rows]
    output.result(rows, table(shown, BUDGETS) if rows else "there is no budget: nothing is held back")


def _budget(budget: Budget, entries: Sequence[Entry]) -> dict[str, Any]:
    aside = sum(counts(e) for e in entries if budget.covers(e) and e.settlement is None)
    left = left_of(budget, entries)
    spent = budget.month_usd - left - aside
    return {
        "for": budget.name,
        "month": budget.month_usd,
        "spent": spent,
        "set_aside": float(aside),
        "left": max(0.0, left),
    }


def _prices(options: argparse.Namespace, output: Output) -> None:
    records = Stack(options.stack).records
    if options.set is not None and options.listed:
        raise InvalidInput("needs one of --set and --listed; both are given")
    if options.set is not None:
        own = documents.decode(PriceList, _read(options.set), str(options.set))
        found = cost_settings.set_prices(own, records)
    elif options.listed:
        found = cost_settings.set_prices(None, records)
    else:
        found = cost_settings.load_prices(records)
    rows = [
        {"price": name, "usd": f"{price.usd:.10f}".rstrip("0").rstrip("."), "source": price.source}
        for name, price in sorted(found.prices.items())
    ]
    output.result(found, f"{found.name}\n{table(rows, ('price', 'usd', 'source'))}")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}") from error
