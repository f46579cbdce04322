"""What an agent that died, or was cut off, left behind: seen to its end by the next life in the same folder."""

from __future__ import annotations

from collections.abc import Callable

from isthmus.errors import DEPLOYMENT_FAULTS, Unavailable
from isthmus.model.messages import AttemptState, Outcome, Work
from isthmus.rig import lease, orphans
from isthmus.rig.attempt import keeper
from isthmus.rig.delivery import Delivery
from isthmus.rig.services import Report, RigSettings, Services
from isthmus.rig.spool import Entry, Spool

DIED = Outcome(state=AttemptState.LOST, cause="the rig's agent ended while it ran this attempt")


def recover(
    spool: Spool,
    services: Services,
    settings: RigSettings,
    report: Report,
    *,
    agent: str,
    end: Callable[[str], int],
    stopping: Callable[[], bool],
) -> None:
    """See every entry of the spool to its end: what ended is delivered; what ran is killed (``end``) and lost.

    An outcome that was committed, but perhaps not reported, is reported. What cannot be delivered for a
    reason of its own stays for the next life, and keeps nothing else from going on.

    Raises:
        Unavailable, PermissionMissing, EnvironmentProblem: as ``Delivery.run``.
    """

    def deliver(entry: Entry, work: Work, outcome: Outcome) -> None:
        kept = keeper(work, services, settings, report, agent=agent, on_lost=lambda: None)
        delivery = Delivery(
            entry, work, services, settings, spool, kept, report, agent=agent, stopping=stopping
        )
        with kept:
            delivery.run(outcome)

    def end_left(entry: Entry) -> None:
        lease.commit(entry.job_key, entry.fencing, settings.rig, DIED, services.records, agent)
        item = lease.read(entry.job_key, services.records)
        if item.get("fencing") == entry.fencing and item.get("outcome"):
            services.reporter.finished(entry.job_key, entry.fencing)
        spool.remove(entry)

    for entry in spool.entries():
        about = {"job_key": entry.job_key, "fencing": entry.fencing}
        try:
            killed = end(entry.run_id)
            if entry.outcome is not None and entry.work is not None:
                deliver(entry, entry.work, entry.outcome)
            else:
                end_left(entry)
        except (Unavailable, *DEPLOYMENT_FAULTS):
            raise
        except Exception as error:
            report("not recovered", error=f"{type(error).__name__}: {error}", **about)
        else:
            report("recovered", killed=killed, **about)
    orphans.tell_all(spool, services.records, report)
    spool.sweep()
