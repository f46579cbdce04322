"""What an administrator sets of costs: budgets, and prices of one's own."""

from __future__ import annotations

import msgspec

from isthmus import documents
from isthmus.model import layout
from isthmus.model.ledger import Budget
from isthmus.planning.cost import PriceList, price_list
from isthmus.ports import Records


def read_budgets(records: Records) -> list[Budget]:
    """Return the budgets that are set."""
    found = records.query(layout.BUDGETS)
    return [documents.convert(Budget, item, f"the budget {item['sk']}") for item in found]


def set_budget(budget: Budget, records: Records) -> None:
    """Set a budget, in the place of the one before."""
    key = {"pk": layout.BUDGETS, "sk": layout.budget_sk(model=budget.model, team=budget.team)}
    records.put({**key, **msgspec.to_builtins(budget)})


def remove_budget(budget: Budget, records: Records) -> None:
    """Remove a budget; there need be none."""
    records.delete(layout.BUDGETS, layout.budget_sk(model=budget.model, team=budget.team))


def load_prices(records: Records) -> PriceList:
    """Return the prices that ship, with those that an administrator set in their place."""
    item = records.get(layout.SETTINGS, layout.PRICES)
    if item is None:
        return price_list()
    return price_list().replaced(documents.convert(PriceList, item["prices"], "the prices of this stack"))


def set_prices(own: PriceList | None, records: Records) -> PriceList:
    """Set prices of one's own, or None to go back to those that ship; return what counts now.

    Raises:
        InvalidDocument: they name a price that there is not, or are in another currency.
    """
    if own is None:
        records.delete(layout.SETTINGS, layout.PRICES)
        return price_list()
    counts = price_list().replaced(own)
    records.put({"pk": layout.SETTINGS, "sk": layout.PRICES, "prices": msgspec.to_builtins(own)})
    return counts
