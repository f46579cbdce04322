"""Where a request runs: here, here and in the cloud, or all in the cloud. Pure: no clock, no IO.

As in Neurosurgeon (Kang et al., ASPLOS 2017) the latency of each cut is predicted from what its two parts take and what
crosses, at the link's present rate; which cuts there are, a plan has decided (DADS, Hu et al., INFOCOM 2019, finds
them by a minimum cut, as ``planning/slicing`` does). Beyond both, since links change while a request is under way:

- What the cloud is asked for is hedged (Dean and Barroso, "The Tail at Scale", CACM 2013): a while after its answer was
  due, the rest is run here too, from the head's tensors, and the first answer counts. So what is compared is the
  expected latency *with* that rescue, over the link's spread, and not the latency at its mean.
- Where the processor is idle and that is expected to save time, both begin at once.
- A link that is not used is not known. So now and then, more seldom the less it promises, a request that runs here is
  sent as well: it is the probe, and no request waits for it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from isthmus.edge.link import LinkEstimate

Kind = Literal["local", "split", "cloud"]

QUANTILES = (-1.5, -0.75, -0.25, 0.0, 0.25, 0.75, 1.5)
"""Where the spread of the link's rate is looked at, in standard deviations; each counts for the same."""
WISH_SECONDS = 10.0
SIGMA = 1.25
"""A normal distribution's standard deviation over its mean deviation."""


@dataclass(frozen=True)
class Option:
    """A way to run a request. ``cut``: so many slices run here before anything is sent; ``back``: the number of the
    first slice after the cloud's that runs here again; None: all others run there.

    ``head_seconds``: of these; ``tail_seconds``: of all others, here; ``cloud_seconds``: of the cloud's, there, and
    ``after_seconds`` of those that run here again. ``moved_bytes``: there and back. ``usd``: what the cloud asks for.
    ``refused``: the rule that forbids it.
    """

    kind: Kind
    cut: int
    head_seconds: float
    tail_seconds: float = 0.0
    cloud_seconds: float = 0.0
    moved_bytes: float = 0.0
    usd: float = 0.0
    refused: str = ""
    after_seconds: float = 0.0
    back: int | None = None

    @property
    def name(self) -> str:
        """As a response names it: ``local``, ``cloud``, ``split:2`` for a cut after two slices, or ``split:2-4`` where
        the fifth runs here again."""
        if self.kind != "split":
            return self.kind
        return f"split:{self.cut}" if self.back is None else f"split:{self.cut}-{self.back}"


@dataclass(frozen=True)
class Choice:
    """``hedge_seconds``: how long the cloud is waited for before the rest is run here too; 0: not at all.
    ``seconds``: what is expected of it, waiting for the processor included."""

    option: Option
    reason: str
    seconds: float
    hedge_seconds: float = 0.0


@dataclass(frozen=True)
class Habits:
    """How the balancer behaves. Shares are of what the request takes here.

    ``ask_gain``: the cloud is asked where that is expected to save at least so much; ``keep_gain``: and so much
    more is needed to leave the way that the last request took. ``spare_gain``: the rest is run here from the beginning
    where that saves such a share of what is expected. ``patience``: how many deviations of the link a late answer is
    waited for. ``probe_seconds``, ``longest_probe_seconds``: how long a link is left alone.
    ``usd_per_second``: what it is worth that a request ends a second earlier; None: prices do not matter.
    """

    ask_gain: float = 0.02
    keep_gain: float = 0.02
    spare_gain: float = 0.01
    patience: float = 0.5
    probe_seconds: float = 1.0
    longest_probe_seconds: float = 8.0
    usd_per_second: float | None = None


@dataclass(frozen=True)
class Now:
    """What a choice depends on beside the link. ``queue_seconds``: what the processor has to do before this request;
    ``deadline_seconds``: from now on until it must be answered."""

    at: float
    queue_seconds: float = 0.0
    deadline_seconds: float = math.inf


@dataclass(frozen=True)
class _Bet:
    """``seconds``: expected with the rescue after ``hedge``; ``cost``: and with its price; ``unaided``: without the
    rescue, on a link that is as expected."""

    option: Option
    hedge: float
    seconds: float
    cost: float
    unaided: float


@dataclass
class Balancer:
    """Not safe to share between threads: whoever has several, locks."""

    link: LinkEstimate
    habits: Habits = field(default_factory=Habits)
    last: str = "local"
    asked_at: float = -math.inf

    def choose(self, now: Now, options: Sequence[Option]) -> Choice:
        """Return where a request runs, of ``options``, one of which is local."""
        local = next(option for option in options if option.kind == "local")
        allowed = [option for option in options if option.kind != "local" and not option.refused]
        here = now.queue_seconds + local.head_seconds
        if not allowed:
            return Choice(local, _why_none(options), here)
        if self.link.rests(now.at):
            return Choice(local, "the cloud did not answer, and rests", here)
        bets = [self.bet(now, option) for option in allowed]
        best = min(bets, key=lambda bet: self._rank(bet, here))
        if self._in_time(best, here, now) and best.cost < here * (1 - self._gain_needed()):
            self.last, self.asked_at = best.option.name, now.at
            return Choice(best.option, _told(best.option, best.seconds, here), best.seconds, best.hedge)
        self.last = "local"
        # Not the best bet: where the rescue decides, all are alike, and the least should be sent.
        nearest = min(bets, key=lambda bet: bet.unaided)
        told = _told(nearest.option, nearest.unaided, here)
        if now.queue_seconds == 0 and now.at - self.asked_at >= self._left_alone(nearest, here):
            self.asked_at = now.at
            return Choice(nearest.option, f"{told}: the link is tried beside it", here, 0.0)
        return Choice(local, told, here)

    def wished(self, now: Now, option: Option) -> Choice:
        """Return the choice of a way that somebody named. It is waited for longer, since they want to see it."""
        if option.kind == "local":
            return Choice(option, "as the request wishes", now.queue_seconds + option.head_seconds)
        bet = self.bet(now, option)
        in_time = now.deadline_seconds - now.queue_seconds - option.head_seconds - option.tail_seconds
        hedge = max(0.0, min(bet.hedge + WISH_SECONDS, in_time))
        return Choice(option, "as the request wishes", bet.seconds, hedge)

    def bet(self, now: Now, option: Option) -> _Bet:
        """Return what is expected of a way through the cloud, and how long to wait for it."""
        begun = option.head_seconds + (now.queue_seconds if option.cut else 0.0)
        wire = option.moved_bytes * self.link.seconds_per_byte_at(now.at)
        fixed = begun + self.link.latency_seconds + option.cloud_seconds + option.after_seconds
        spread = [fixed + wire * math.exp(z * SIGMA * self.link.deviation) for z in QUANTILES]
        rest = option.tail_seconds + (0.0 if option.cut else now.queue_seconds)
        due = fixed + wire - begun
        late = due * (1 + self.habits.patience * self.link.deviation)
        hedge = max(0.0, min(late, now.deadline_seconds - begun - rest))
        seconds = self._expected(spread, begun + hedge + rest)
        if now.queue_seconds == 0:
            at_once = self._expected(spread, begun + rest)
            if seconds - at_once > self.habits.spare_gain * seconds:
                hedge, seconds = 0.0, at_once
        worth = self.habits.usd_per_second
        return _Bet(option, hedge, seconds, seconds + (option.usd / worth if worth else 0.0), fixed + wire)

    def _expected(self, spread: Sequence[float], rescued: float) -> float:
        """Return the mean latency where ``rescued`` is the latest that the answer comes from here."""
        moves = sum(min(seconds, rescued) for seconds in spread) / len(spread)
        return moves + self.link.lost * (rescued - moves)

    def _rank(self, bet: _Bet, here: float) -> tuple[float, float]:
        kept = self.habits.keep_gain * here if bet.option.name == self.last else 0.0
        return bet.cost - kept, bet.unaided

    def _gain_needed(self) -> float:
        return self.habits.ask_gain + (self.habits.keep_gain if self.last == "local" else 0.0)

    def _in_time(self, bet: _Bet, here: float, now: Now) -> bool:
        """Whether asking does not cost the deadline: it is met with the rescue, or not met here either."""
        if now.deadline_seconds == math.inf or here > now.deadline_seconds:
            return True
        queue = now.queue_seconds
        return queue + bet.option.head_seconds + bet.hedge + bet.option.tail_seconds <= now.deadline_seconds

    def _left_alone(self, bet: _Bet, here: float) -> float:
        """Return for how long the link is not tried: the further it is from paying, the longer."""
        far = bet.unaided / max(here, 1e-9)
        return min(self.habits.probe_seconds * far, self.habits.longest_probe_seconds)


def _why_none(options: Sequence[Option]) -> str:
    return next((option.refused for option in options if option.refused), "there is no cloud to ask")


def _told(option: Option, there: float, here: float) -> str:
    return f"{option.name} {_ms(there)}, local {_ms(here)}"


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.0f} ms" if seconds >= 0.1 else f"{seconds * 1e3:.2g} ms"
