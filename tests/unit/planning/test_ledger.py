"""What attempts cost, what is left of budgets, and how good estimates were."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from isthmus.errors import InvalidDocument
from isthmus.model.ledger import Budget, Charges, Entry, Reported, Used
from isthmus.model.own_cost import OwnCost
from isthmus.planning import ledger
from isthmus.planning.cost import Price, PriceList, price_list
from isthmus.planning.rig_rate import rig_rate

HOUR = 3600.0
USED = Used(training_seconds=HOUR, price_per_hour_usd=2.0, state_transitions=1000)


def entry(
    usd: float = 2.0, *, job_key: str = "k", fencing: int = 1, seconds: float = HOUR, **changes: Any
) -> Entry:
    """An attempt whose training is estimated at ``usd``, at a price of that by the hour."""
    used = Used(training_seconds=seconds, price_per_hour_usd=usd / seconds * HOUR)
    estimate = ledger.estimated(used, price_list(), basis="known", rest_basis="")
    values: dict[str, Any] = {
        "job_key": job_key,
        "fencing": fencing,
        "model": "digits",
        "team": "vision",
        "device": "rig-1",
        "runs_on": "rig",
        "month": "2026-11",
        "planned_at": "",
        "estimate": estimate,
        "at_most_usd": ledger.at_most(estimate, 3 * seconds),
    }
    return Entry(**(values | changes))


def settled(one: Entry, seconds: float, *, pipeline: Used | None = None, newest: bool = True) -> Entry:
    said = msgspec.structs.replace(one, reported=Reported(seconds=seconds, fetched_bytes=0, output_bytes=0))
    done = ledger.settled(said, pipeline or Used(), price_list(), newest=newest, settled_at="")
    return msgspec.structs.replace(said, settlement=done)


# ------------------------------------------------------------------------------ an hour of one's own


def test_an_hour_of_use_bears_its_share_of_price_upkeep_and_idle_hours() -> None:
    cost = OwnCost(
        purchase_usd=17_520,
        life_years=2,
        utilisation=0.5,
        watts=400,
        idle_watts=100,
        tariff_usd_per_kwh=0.25,
        upkeep_usd_per_year=876,
    )
    rate = rig_rate(cost)
    assert rate.machine_usd == pytest.approx((17_520 / 2 + 876) / 4380)
    assert rate.energy_usd == pytest.approx(0.25 * (0.4 + 0.1)), "an idle hour for each hour of use"
    assert rate.usd == pytest.approx(2.2 + 0.125)


def test_watts_that_nobody_states_are_measured_or_the_descriptors_above_idle() -> None:
    cost = OwnCost(purchase_usd=0, life_years=1, utilisation=1, idle_watts=50, tariff_usd_per_kwh=1)
    assert rig_rate(cost, power_watts=150).usd == pytest.approx(0.2)
    assert rig_rate(cost, power_watts=150, measured_watts=120).usd == pytest.approx(0.12)
    assert rig_rate(msgspec.structs.replace(cost, watts=80.0), power_watts=150).usd == pytest.approx(0.08)


# --------------------------------------------------------------------------------- what is charged


def test_every_use_has_its_price() -> None:
    price = {name: one.usd for name, one in price_list().prices.items()}
    used = Used(
        training_seconds=1800,
        price_per_hour_usd=0.5,
        state_transitions=40,
        lambda_requests=20,
        lambda_gb_seconds=10,
        kms_signatures=1,
        s3_puts=30,
        s3_gets=50,
        stored_bytes=2_000_000_000,
        sent_bytes=3_000_000_000,
    )
    found = ledger.charged(used, price_list())
    assert found == Charges(
        training_usd=0.25,
        step_functions_usd=40 * price["state_transition"],
        lambda_usd=10 * price["lambda_gb_second"] + 20 * price["lambda_request"],
        kms_usd=price["kms_signature"],
        s3_requests_usd=30 * price["s3_put_request"] + 50 * price["s3_get_request"],
        storage_usd=2 * price["s3_gb_month"],
        transfer_usd=3 * price["transfer_out_gb"],
    )
    assert found.total_usd == pytest.approx(sum(msgspec.structs.astuple(found)))


def test_own_prices_replace_those_that_they_name() -> None:
    own = PriceList(
        region="eu-west-1", currency="USD", as_of="2026-12", prices={"state_transition": Price(1.0, "ours")}
    )
    found = price_list().replaced(own)
    assert found.prices["state_transition"].usd == 1.0
    assert found.prices["lambda_request"] == price_list().prices["lambda_request"]
    assert found.name == "list prices of eu-west-1, 2026-12"
    with pytest.raises(InvalidDocument, match="no price gold to replace"):
        price_list().replaced(msgspec.structs.replace(own, prices={"gold": Price(1.0, "ours")}))
    with pytest.raises(InvalidDocument, match="need to be in USD; these are in EUR"):
        price_list().replaced(msgspec.structs.replace(own, currency="EUR"))


def test_a_settlement_is_of_what_was_reported_and_says_what_was_not() -> None:
    counted = Used(state_transitions=60, lambda_requests=21, lambda_gb_seconds=9.0)
    one = entry(pays_transfer=True)
    whole = settled(one, HOUR / 2, pipeline=counted).settlement
    assert whole is not None
    assert (whole.used.training_seconds, whole.used.state_transitions) == (HOUR / 2, 60)
    assert whole.charges.training_usd == pytest.approx(1.0)
    assert whole.as_estimated == ()
    silent = ledger.settled(one, None, price_list(), newest=True, settled_at="")
    assert silent.as_estimated == ("training", "Step Functions and Lambda")
    assert silent.charges.training_usd == 0.0
    earlier = settled(one, HOUR, pipeline=counted, newest=False).settlement
    assert earlier is not None
    assert earlier.used.state_transitions == 0, "a pipeline is charged to its newest attempt"


def test_what_a_rig_fetched_is_charged_only_where_it_leaves_the_region() -> None:
    said = Reported(seconds=1.0, fetched_bytes=5_000_000_000)
    for pays, usd in ((True, 0.45), (False, 0.0)):
        one = entry(pays_transfer=pays, reported=said)
        done = ledger.settled(one, Used(), price_list(), newest=True, settled_at="")
        assert done.charges.transfer_usd == pytest.approx(usd)


def test_after_a_redrive_only_what_was_not_charged_yet_is() -> None:
    pipeline = Used(state_transitions=90, lambda_requests=30, lambda_gb_seconds=12.0)
    rest = ledger.without(pipeline, [Used(state_transitions=50, lambda_requests=20, lambda_gb_seconds=13.0)])
    assert rest == Used(state_transitions=40, lambda_requests=10)


# ----------------------------------------------------------------------------------------- budgets


def test_what_is_open_counts_with_what_is_set_aside_and_what_is_settled_with_its_cost() -> None:
    one = entry(2.0)
    assert ledger.counts(one) == pytest.approx(6.0), "its deadline is three times its estimate"
    assert ledger.counts(msgspec.structs.replace(one, refused="too dear")) == 0.0
    reported = msgspec.structs.replace(one, reported=Reported(seconds=HOUR / 4))
    assert ledger.counts(reported) == pytest.approx(0.5)
    assert ledger.counts(settled(one, HOUR)) == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("budget", "refused"),
    [
        (Budget(month_usd=2.5), False),
        (Budget(month_usd=1.5), True),
        (Budget(month_usd=1.5, model="digits"), True),
        (Budget(month_usd=1.5, model="faces"), False),
        (Budget(month_usd=1.5, team="vision"), True),
        (Budget(month_usd=1.5, team="speech"), False),
        (Budget(month_usd=0.01), True),
    ],
)
def test_an_estimate_over_what_is_left_is_refused(budget: Budget, refused: bool) -> None:
    _, why = ledger.over_budget(entry(2.0), [budget], [])
    assert bool(why) is refused


def test_a_refusal_says_what_it_needs_what_there_is_and_what_to_do() -> None:
    others = [settled(entry(1.0, job_key="a"), HOUR), entry(1.0, job_key="b")]
    left, why = ledger.over_budget(entry(2.0), [Budget(month_usd=5.0, model="digits")], others)
    assert left == pytest.approx(1.0)
    assert why == (
        "needs about $2.00 on rig-1 (60 min 00 s of training, known); of $5.00 for the model digits in 2026-11, "
        "$1.00 are left ($4.00 are taken, $3.00 of it set aside for attempts that are not settled): raise it with "
        "`isthmus cost budget set --model digits --month USD`, or redrive the pipeline next month"
    )


def test_the_least_that_any_budget_leaves_is_what_is_left() -> None:
    budgets = [Budget(month_usd=50.0), Budget(month_usd=3.0, team="vision"), Budget(month_usd=0.0, model="x")]
    assert ledger.over_budget(entry(2.0), budgets, []) == (pytest.approx(3.0), "")
    assert ledger.over_budget(entry(2.0), [], [])[0] == float("inf")


@pytest.mark.parametrize(
    ("left", "trusted", "usd", "seconds"),
    [
        (100.0, False, 20.0, 36_000),  # ten hours are its deadline
        (5.0, False, 5.0, 9_000),
        (100.0, True, 6.0, 10_800),  # three times what is known of such trainings
        (2.0, True, 2.0, 3_600),
    ],
)
def test_what_is_set_aside_ends_a_training(left: float, trusted: bool, usd: float, seconds: int) -> None:
    one = msgspec.structs.replace(entry(2.0), at_most_usd=20.0)
    allowed = ledger.set_aside(one, left, trusted=trusted)
    assert allowed == pytest.approx(usd)
    assert ledger.most_seconds(one.estimate, allowed, 36_000) == seconds


def test_what_costs_nothing_by_the_hour_is_ended_by_its_deadline_alone() -> None:
    free = ledger.estimated(Used(training_seconds=60), price_list(), basis="", rest_basis="")
    assert ledger.most_seconds(free, 0.0, 900) == 900


# ----------------------------------------------------------------------------------------- reports


def test_what_was_spent_by_each_key_the_dearest_first() -> None:
    entries = [
        settled(entry(1.0, job_key="a"), HOUR),
        settled(entry(1.0, job_key="a", fencing=2, device="rig-2"), 2 * HOUR),
        entry(1.0, job_key="b", model="faces"),
        entry(9.0, job_key="c", refused="too dear"),
    ]
    lines = {line.name: line for line in ledger.summed(entries, "model")}
    assert list(lines) == ["digits", "faces"]
    assert (lines["digits"].attempts, lines["digits"].training_seconds) == (2, 3 * HOUR)
    assert (lines["digits"].estimated_usd, lines["digits"].cost_usd) == (
        pytest.approx(2.0),
        pytest.approx(3.0),
    )
    assert (lines["faces"].cost_usd, lines["faces"].open_usd) == (0, pytest.approx(3.0))
    assert [line.name for line in ledger.summed(entries, "device")] == ["rig-1", "rig-2"]
    assert [line.name for line in ledger.summed(entries, "pipeline")] == ["a", "b"]
    assert [line.name for line in ledger.summed(entries, "month")] == ["2026-11"]


def test_how_good_estimates_were_counts_what_was_reported_alone() -> None:
    known = [settled(entry(1.0, job_key=str(n)), HOUR * factor) for n, factor in enumerate((0.5, 1.0, 1.25))]
    blind = entry(4.0, job_key="d")
    blind = msgspec.structs.replace(
        blind, estimate=msgspec.structs.replace(blind.estimate, basis="its deadline, since none has ended")
    )
    silent = ledger.settled(entry(1.0), Used(), price_list(), newest=True, settled_at="")
    entries = [
        *known,
        settled(blind, HOUR / 4),
        msgspec.structs.replace(entry(1.0, job_key="e"), settlement=silent),
    ]
    found = ledger.accuracy(entries, by_deadline="its deadline")
    assert found is not None
    assert (found.attempts, found.known) == (4, 3)
    assert found.median_error == pytest.approx((0.2 + 1.0) / 2)
    assert found.known_median_error == pytest.approx(0.2)
    assert ledger.accuracy([entry()], by_deadline="its deadline") is None
