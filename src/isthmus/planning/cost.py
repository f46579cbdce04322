"""What a job cost: counted usage times list prices, and the rig's time at its owner's price.

An estimate, and said so: requests to S3, SQS, DynamoDB and EventBridge, which come to less than a
hundredth of a cent per job, and free tiers are left out.
"""

from __future__ import annotations

import functools
import importlib.resources
from typing import Annotated

import msgspec

from isthmus.errors import InvalidDocument

KMS_KEYS = 2
ALARM_METRICS = 9
"""Of the template: a test counts them there."""


class Price(msgspec.Struct, frozen=True):
    """A price and where it stands. ``as_of``: when, if not when its list says."""

    usd: Annotated[float, msgspec.Meta(ge=0)]
    source: str
    as_of: str = ""


class PriceList(msgspec.Struct, frozen=True):
    """Prices of one region at one time."""

    region: str
    currency: str
    as_of: str
    prices: dict[str, Price]

    @property
    def name(self) -> str:
        """Whose prices these are."""
        return f"list prices of {self.region}, {self.as_of}"

    def replaced(self, own: PriceList) -> PriceList:
        """Return this list with prices of one's own in place of those that they name.

        Raises:
            InvalidDocument: there is no such price, or another currency.
        """
        if own.currency != self.currency:
            raise InvalidDocument(f"prices need to be in {self.currency}; these are in {own.currency}")
        if unknown := sorted(set(own.prices) - set(self.prices)):
            raise InvalidDocument(
                f"there is no price {unknown[0]} to replace; there are {', '.join(sorted(self.prices))}"
            )
        return msgspec.structs.replace(
            self, region=own.region, as_of=own.as_of, prices=self.prices | own.prices
        )


class Usage(msgspec.Struct, frozen=True):
    """What an execution and the executions nested in it used."""

    state_transitions: int = 0
    lambda_requests: int = 0
    lambda_gb_seconds: float = 0.0
    rig_seconds: float = 0.0
    rig_price_per_hour_usd: float = 0.0


class Cost(msgspec.Struct, frozen=True):
    """In US dollars; ``idle_per_month_usd``: keys and alarms, when nothing happens."""

    step_functions_usd: float
    lambda_usd: float
    rig_usd: float
    total_usd: float
    per_thousand_requests_usd: float
    idle_per_month_usd: float
    prices: str


@functools.cache
def price_list() -> PriceList:
    """Return the prices that ship with isthmus."""
    raw = importlib.resources.files("isthmus.planning").joinpath("prices.json").read_bytes()
    return msgspec.json.decode(raw, type=PriceList)


def cost_of(usage: Usage, *, request_gb_seconds: float = 0.05) -> Cost:
    """Return what ``usage`` costs. ``request_gb_seconds``: a prediction's two functions together."""
    listed = price_list()
    price = {name: entry.usd for name, entry in listed.prices.items()}
    steps = usage.state_transitions * price["state_transition"]
    functions = (
        usage.lambda_gb_seconds * price["lambda_gb_second"] + usage.lambda_requests * price["lambda_request"]
    )
    functions += price["kms_signature"]
    rig = usage.rig_seconds / 3600 * usage.rig_price_per_hour_usd
    request = (
        price["api_request"] + 2 * price["lambda_request"] + request_gb_seconds * price["lambda_gb_second"]
    )
    return Cost(
        step_functions_usd=steps,
        lambda_usd=functions,
        rig_usd=rig,
        total_usd=steps + functions + rig,
        per_thousand_requests_usd=1000 * request,
        idle_per_month_usd=KMS_KEYS * price["kms_key_month"] + ALARM_METRICS * price["alarm_metric_month"],
        prices=listed.name,
    )
