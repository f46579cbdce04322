"""Whether the calls of a new version speak against it, or for it, or say nothing: figures in, a decision out."""

from __future__ import annotations

import math

from isthmus.model.calls import Calls

ENOUGH = 30
"""Calls from which on a version's rate is believed. Of 30 calls without a failure, the rate is below a tenth with 95%
confidence: the rule of three (Hanley and Lippman-Hand, JAMA 249, 1983, pages 1743-1745)."""
FEW = 5
"""Calls below which what failed of them says next to nothing."""
RISE = 2.0
"""How many times the rate of the version in service is tolerated: that version's failures may be its callers' doing."""
NO_CALLS = Calls(0, 0)
DOUBT = 0.01
"""How often a version that fails exactly as often as is tolerated may be taken for a bad one by a look, at most."""


def tolerated_rate(old: Calls, floor: float) -> float:
    """Return the share of failures (0..1) that a new version may have beside the one in service.

    It is ``floor``, or ``RISE`` times the old version's own, if that is more. A rate of fewer than ``ENOUGH`` calls
    is not believed: one failure of two would excuse everything. What so few calls do say is in ``speaks_against``.
    """
    believed = old.rate if old.requests >= ENOUGH else 0.0
    return min(1.0, max(floor, RISE * believed))


def speaks_against(new: Calls, rate: float, old: Calls = NO_CALLS) -> bool:
    """Return whether so many failures can hardly come of a version that fails at ``rate`` (0..1).

    The share alone would revert for one failure of ten, which a rate of 0.01 explains well; a least number of
    calls would let a version fail all of a few calls. So the failures are held against the odds: ``k`` or more
    of ``n`` have at rate ``p`` a probability of at most ``exp(-n KL(k/n || p))`` (Hoeffding, Probability
    inequalities for sums of bounded random variables, JASA 58, 1963, theorem 1), and that must be under ``DOUBT``.
    At 0.01 that is 2 of 2, 3 of 20, 4 of 50, 6 of 100, 21 of 1,000. One failure alone may be its caller's doing. A
    rate of 0 tolerates none, of 1 all.

    Where the version in service failed too, in fewer than ``ENOUGH`` calls, its rate is no part of ``rate``; then the
    failures must also be more than chance alone would share out between two versions that are equally good
    (``odds_by_chance``, under ``DOUBT``): beside 29 of 29, 2 of 2 say nothing, and beside 1 of 29 they do. Fewer than
    ``FEW`` calls excuse no version that has ``ENOUGH`` of its own: beside 1 of 1 no number of failures would be unlike.
    """
    excuses = old.requests >= FEW or new.requests < ENOUGH
    if old.errors and old.requests < ENOUGH and excuses and odds_by_chance(new, old) >= DOUBT:
        return False
    if rate <= 0:
        return new.errors > 0
    if new.errors < 2 or new.rate <= rate:
        return False
    return new.requests * _divergence(new.rate, rate) > -math.log(DOUBT)


def odds_by_chance(new: Calls, old: Calls) -> float:
    """Return how likely (0..1) at least so many of the failures of both fall to ``new`` if both fail equally often.

    Fisher's exact test, one-sided (R. A. Fisher, The logic of inductive inference, JRSS 98, 1935, pages 39-54): of
    ``N`` calls ``f`` failed, and of those that ``old`` had, a draw of ``n``, ``j`` or fewer did, with the probability
    ``sum(C(f, i) C(N - f, n - i) for i = 0..j) / C(N, n)``.
    """
    calls, failed = new.requests + old.requests, new.errors + old.errors
    ways = sum(
        math.comb(failed, i) * math.comb(calls - failed, old.requests - i) for i in range(old.errors + 1)
    )
    return ways / math.comb(calls, old.requests)


def speaks_for(new: Calls) -> bool:
    """Return whether there were enough calls to say that a version is well, where they do not speak against it."""
    return new.requests >= ENOUGH


def _divergence(share: float, rate: float) -> float:
    """Return the Kullback-Leibler divergence of two coins (nats), 0 < rate < share <= 1."""
    rest = (1 - share) * math.log((1 - share) / (1 - rate)) if share < 1 else 0.0
    return share * math.log(share / rate) + rest
