"""Which device gets a job's next attempt: a rig that can in time, else SageMaker's spot, else SageMaker on demand.

Pure, and a list of rules: each device that does not get it has one reason, and so has the one that does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from isthmus.errors import NoPlacement
from isthmus.model.dataset import InPlace
from isthmus.model.device import DeviceDescriptor
from isthmus.model.job import Job, Training
from isthmus.model.plan import Refusal
from isthmus.model.policy import DataPolicy
from isthmus.model.units import format_seconds, format_usd
from isthmus.planning.placement import Reason, refusal, words

RIG, SPOT, ON_DEMAND = 0, 1, 2
"""In this order they are asked."""
UNKNOWN = "its deadline, since none of this model has ended yet"
RANKS = {
    (False, True): (RIG,),
    (False, False): (RIG,),
    (True, True): (SPOT, ON_DEMAND),
    (True, False): (ON_DEMAND,),
}
"""By whether a device is of SageMaker, and whether spot may be used."""
ORDER = ("rig", "SageMaker spot", "SageMaker on demand")


@dataclasses.dataclass(frozen=True)
class Outlook:
    """What is known of times; all in seconds.

    ``waits``: by device, until what was given to it before is done. ``took``: by device, how long the last training of
    this model took. ``left``: until the training shall be over, None: nobody said. ``tried``: by an offer's name, why
    it is not to be had any more. ``spot``: whether it may be used at all. ``unfit``: why SageMaker would not take the
    job, empty: it would.
    """

    waits: Mapping[str, float] = dataclasses.field(default_factory=dict)
    took: Mapping[str, float] = dataclasses.field(default_factory=dict)
    left: float | None = None
    tried: Mapping[str, str] = dataclasses.field(default_factory=dict)
    spot: bool = True
    unfit: str = ""


@dataclasses.dataclass(frozen=True)
class Choice:
    """One device for the whole job, when it will start and end, and what that costs.

    ``cost_usd`` is of ``expected_seconds``, at the device's price; of spot that is the most.
    """

    device: DeviceDescriptor
    spot: bool
    wait_seconds: float
    expected_seconds: float
    basis: str
    cost_usd: float
    reason: str
    refused: tuple[tuple[str, Reason], ...]

    @property
    def refusals(self) -> tuple[Refusal, ...]:
        """Why each other device did not get the job, in the order of their names."""
        return tuple(_said(self.refused))


class _Offer(NamedTuple):
    device: DeviceDescriptor
    rank: int
    wait: float

    @property
    def name(self) -> str:
        return offer_name(self.device.id, spot=self.rank == SPOT)


def _place(offer: _Offer) -> tuple[object, ...]:
    """The cheapest first, then who is free soonest, then the largest, then the first name."""
    device, rank, wait = offer
    return rank, device.price_per_hour_usd, wait, -len(device.accelerators), -device.cores, device.id


def offer_name(device: str, *, spot: bool) -> str:
    """Return how an offer is called in refusals: a device's id, with `` spot`` behind it where it is that."""
    return f"{device} spot" if spot else device


def choose(
    job: Job,
    training: Training,
    devices: Sequence[DeviceDescriptor],
    policy: DataPolicy,
    outlook: Outlook | None = None,
    in_place: InPlace | None = None,
) -> Choice:
    """Return the device for a job, and why each other was refused. ``in_place``: where its data are, if they stay.

    Raises:
        NoPlacement: none may and can; the message holds every reason.
    """
    outlook = outlook or Outlook()
    refused: list[tuple[str, Reason]] = []
    able: list[_Offer] = []
    long: list[_Offer] = []
    for device in devices:
        reason = refusal(job, training, device, policy, in_place)
        if reason is None and outlook.unfit and device.kind == "sagemaker":
            reason = str, (outlook.unfit,)
        if reason is not None:
            refused.append((device.id, reason))
            continue
        for rank in RANKS[device.kind == "sagemaker", outlook.spot]:
            offer = _Offer(device, rank, outlook.waits.get(device.id, 0.0) if rank == RIG else 0.0)
            late = _late(offer, training, outlook)
            if late is None:
                able.append(offer)
            elif late[0] is _queue_too_long:
                long.append(offer)
            else:
                refused.append((offer.name, late))
    if not (able or long):
        raise NoPlacement(_nobody(job, _said(refused)))
    if able:
        refused += [(offer.name, (_queue_too_long, (offer.wait, training))) for offer in long]
    else:
        # How long its queue will take is an estimate, and nobody else may: the job waits, as long as it would.
        able = sorted(long, key=lambda offer: (offer.wait, offer.device.id))[:1]
        refused += [(o.name, (_queue_too_long, (o.wait, training))) for o in long if o is not able[0]]
    best = min(able, key=_place)
    refused += [(offer.name, (_lost_to, (offer, best))) for offer in able if offer is not best]
    return _choice(best, training, outlook, tuple(refused))


def _said(refused: Iterable[tuple[str, Reason]]) -> list[Refusal]:
    found = [Refusal(device=name, reason=words(reason)) for name, reason in refused]
    return sorted(found, key=lambda entry: entry.device)


def _choice(
    best: _Offer, training: Training, outlook: Outlook, refused: tuple[tuple[str, Reason], ...]
) -> Choice:
    seconds, basis = expected(training, best.device.id, outlook)
    device = best.device
    return Choice(
        device=device,
        spot=best.rank == SPOT,
        wait_seconds=best.wait,
        expected_seconds=seconds,
        basis=basis,
        cost_usd=seconds / 3600 * device.price_per_hour_usd,
        reason=_reason(best, training),
        refused=refused,
    )


def expected(training: Training, device: str, outlook: Outlook) -> tuple[float, str]:
    """Return how long a training is expected to take on a device, and whence that is known."""
    if device in outlook.took:
        return outlook.took[device], "as long as the last ones there"
    if outlook.took:
        longest = max(outlook.took, key=lambda name: (outlook.took[name], name))
        return outlook.took[longest], f"as long as on {longest}"
    return float(training.deadline_seconds), UNKNOWN


def _late(offer: _Offer, training: Training, outlook: Outlook) -> Reason | None:
    """Return why an offer is not to be had, or not in time."""
    if outlook.tried and offer.name in outlook.tried:
        return str, (outlook.tried[offer.name],)
    if offer.rank == SPOT:
        # CreateTrainingJob refuses a MaxWaitTimeInSeconds below MaxRuntimeInSeconds.
        if outlook.left is None or outlook.left >= training.deadline_seconds:
            return None
        return _no_time_for_spot, (training, outlook.left)
    if outlook.left is None:
        if offer.wait <= training.queue_deadline_seconds:
            return None
        return _queue_too_long, (offer.wait, training)
    if outlook.took:
        seconds, basis = expected(training, offer.device.id, outlook)
    else:
        seconds, basis = float(training.deadline_seconds), UNKNOWN
    if offer.wait + seconds <= outlook.left:
        return None
    return _too_late, (offer.wait, seconds, basis, outlook.left)


def _no_time_for_spot(training: Training, left: float) -> str:
    needed = format_seconds(training.deadline_seconds)
    return f"spot may wait for capacity, and needs its whole deadline of {needed}; {_left(left)}"


def _queue_too_long(wait: float, training: Training) -> str:
    return (
        f"what it has to do before takes about {format_seconds(wait)}; "
        f"the job waits {format_seconds(training.queue_deadline_seconds)} at the most"
    )


def _too_late(wait: float, seconds: float, basis: str, left: float) -> str:
    waits = f"starts in about {format_seconds(wait)} and " if wait else ""
    return f"{waits}takes about {format_seconds(seconds)} ({basis}); {_left(left)}"


def _left(seconds: float) -> str:
    return f"{format_seconds(max(0.0, seconds))} are left of the time that the job was given"


def _nobody(job: Job, refusals: list[Refusal]) -> str:
    if not refusals:
        return f"no device is registered that could train {job.model}; join one with `isthmus rig join`"
    reasons = "; ".join(f"{entry.device}: {entry.reason}" for entry in refusals)
    return f"no device may and can train {job.model}. {reasons}"


def _reason(best: _Offer, training: Training) -> str:
    if best.rank == RIG and best.wait > training.queue_deadline_seconds:
        return (
            f"nobody else may and can; what it has to do before may take {format_seconds(best.wait)}, longer than the "
            "job waits, if each of it takes as long as it may"
        )
    if best.rank == RIG:
        begins = f"about {format_seconds(best.wait)} from now" if best.wait else "at once"
        return f"a rig that may and can comes first; it is free {begins}"
    price = format_usd(best.device.price_per_hour_usd)
    if best.rank == SPOT:
        return f"no rig may and can in time; spot costs at most {price} an hour"
    return f"neither a rig nor spot may and can in time; it costs {price} an hour"


def _lost_to(offer: _Offer, best: _Offer) -> str:
    device, price = offer.device, offer.device.price_per_hour_usd
    if offer.rank != best.rank:
        return f"could run it; {best.name} is a {ORDER[best.rank]}, which comes before {ORDER[offer.rank]}"
    if price > best.device.price_per_hour_usd:
        return (
            f"could run it, but costs ${price:.4f} an hour; "
            f"{best.device.id} costs ${best.device.price_per_hour_usd:.4f}"
        )
    if offer.wait > best.wait:
        return f"could run it; {best.device.id} is as cheap, and free {format_seconds(offer.wait - best.wait)} sooner"
    return f"could run it; {best.device.id} is as cheap and at least as large as {device.id}"
