"""What an attempt of a pipeline costs: said before it starts, and again when it has ended."""

from __future__ import annotations

import msgspec


class Used(msgspec.Struct, frozen=True, kw_only=True):
    """What was used, or will be. ``stored_bytes``: kept for a month; ``sent_bytes``: out of the region, to a rig."""

    training_seconds: float = 0.0
    price_per_hour_usd: float = 0.0
    state_transitions: int = 0
    lambda_requests: int = 0
    lambda_gb_seconds: float = 0.0
    kms_signatures: int = 0
    s3_puts: int = 0
    s3_gets: int = 0
    stored_bytes: int = 0
    sent_bytes: int = 0


class Charges(msgspec.Struct, frozen=True, kw_only=True):
    """The same in US dollars."""

    training_usd: float = 0.0
    step_functions_usd: float = 0.0
    lambda_usd: float = 0.0
    kms_usd: float = 0.0
    s3_requests_usd: float = 0.0
    storage_usd: float = 0.0
    transfer_usd: float = 0.0

    @property
    def total_usd(self) -> float:
        """All of them."""
        return float(sum(msgspec.structs.astuple(self)))


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """Said when the attempt was planned, and never changed.

    ``basis``: whence the seconds of its training are known; ``rest_basis``: whence all else. ``prices``: whose.
    """

    used: Used
    charges: Charges
    total_usd: float
    basis: str
    rest_basis: str
    prices: str


class Reported(msgspec.Struct, frozen=True, kw_only=True):
    """What a training said of itself: a rig the seconds and bytes that it measured, SageMaker those that it bills.

    ``held``: it said nothing; these are the seconds until it was given up. None: not said.
    """

    seconds: float
    held: bool = False
    fetched_bytes: int | None = None
    output_bytes: int | None = None


class Settlement(msgspec.Struct, frozen=True, kw_only=True):
    """Said when the pipeline had ended. ``as_estimated``: what nobody reported, and stands as it was estimated.
    ``execution``: whose usage was counted."""

    used: Used
    charges: Charges
    total_usd: float
    as_estimated: tuple[str, ...] = ()
    settled_at: str = ""
    execution: str = ""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt. ``planned_at``: UTC. ``at_most_usd``: what it may come to before it is ended; so much is set aside
    of budgets until it is settled. ``limit_seconds``: when budgets end its training; 0: its deadline does.
    ``refused``: why it was not started, empty if it was. ``pays_transfer``: what it
    fetches leaves the region."""

    job_key: str
    fencing: int
    model: str
    team: str
    device: str
    runs_on: str
    month: str
    planned_at: str
    estimate: Estimate
    at_most_usd: float
    limit_seconds: int = 0
    spot: bool = False
    pays_transfer: bool = False
    reported: Reported | None = None
    settlement: Settlement | None = None
    refused: str = ""


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """What may be spent in a month (UTC): on all, on one model, or by one team."""

    month_usd: float
    model: str = ""
    team: str = ""

    @property
    def name(self) -> str:
        """Whose it is."""
        if self.model:
            return f"the model {self.model}"
        return f"the team {self.team}" if self.team else "all"

    def covers(self, entry: Entry) -> bool:
        """Whether an attempt counts toward it."""
        return self.model in ("", entry.model) and self.team in ("", entry.team)
