"""When a rig's certificate ends is said early, and what to do about it."""

from __future__ import annotations

import datetime

import msgspec
import pytest

from isthmus.adapters.local.certificates import MemoryCertificates
from isthmus.adapters.local.queue import ManualClock
from isthmus.adapters.local.records import MemoryRecords
from isthmus.cli.rig_operation import _describe
from isthmus.device_keys import new_key
from isthmus.errors import PermissionMissing
from isthmus.model.device import DeviceDescriptor
from isthmus.model.rig_identity import Certificate
from isthmus.workflows.rig_certificates import certificate_findings, certificates_of
from isthmus.workflows.rig_status import RigStatus, rig_status

DAY = 86_400.0


def registry(*days: float | None, rig: str = "lab-1") -> tuple[MemoryCertificates, ManualClock]:
    """A rig with a certificate for each number of days that is left; None: nobody says."""
    clock, known = ManualClock(), MemoryCertificates()
    for left in days:
        made, _ = known.issue(rig, new_key(rig)[1])
        ends = datetime.datetime.fromtimestamp(clock.now() + (left or 0) * DAY, datetime.UTC).isoformat()
        known.known[made.id] = msgspec.structs.replace(made, until="" if left is None else ends)
    return known, clock


@pytest.mark.parametrize(
    ("days", "level", "left", "says"),
    [
        (400.0, "ok", 400, "holds until"),
        (30.5, "ok", 30, "(30 days)"),
        (30.0, "warn", 30, "ends in 30 days"),
        (0.25, "warn", 0, "ends in 0 days"),
        (-0.25, "missing", -1, "it gets no credentials and takes no work"),
        (None, "ok", None, "nobody says when it ends"),
    ],
)
def test_the_doctor_warns_a_month_before_and_fails_when_it_has_ended(
    days: float | None, level: str, left: int | None, says: str
) -> None:
    known, clock = registry(days)
    (finding,) = certificate_findings(["lab-1", "without-any"], known, clock)
    assert (finding.check, finding.level) == ("certificate of lab-1", level)
    assert says in finding.says
    assert finding.mend == ("" if level == "ok" else "on lab-1: isthmus rig rotate")
    assert [entry.days_left for entry in certificates_of("lab-1", known, clock)] == [left]


def test_of_several_the_one_that_holds_longest_counts_and_revoked_ones_do_not() -> None:
    known, clock = registry(-3.0, 200.0, 5.0)
    (finding,) = certificate_findings(["lab-1"], known, clock)
    assert (finding.level, "(200 days)" in finding.says) == ("ok", True)
    longest = certificates_of("lab-1", known, clock)[0]
    known.deactivate(known.known[longest.id])
    assert [entry.state for entry in certificates_of("lab-1", known, clock)] == ["ending", "expired"]


class Closed(MemoryCertificates):
    def of(self, rig: str) -> list[Certificate]:
        raise PermissionMissing("the user lena may not iot:ListThingPrincipals")


class OneRig:
    def get(self, name: str) -> DeviceDescriptor | None:
        return DeviceDescriptor(
            id=name,
            kind="rig",
            zone="onprem-here",
            arch="x86_64",
            cores=4,
            memory_bytes=2**34,
            disk_free_bytes=2**36,
        )


def status(known: MemoryCertificates, clock: ManualClock) -> RigStatus:
    return rig_status("lab-1", devices=OneRig(), records=MemoryRecords(), certificates=known, clock=clock)  # type: ignore[arg-type]


def test_the_status_of_a_rig_shows_it() -> None:
    found = status(*registry(12.0))
    assert [(entry.days_left, entry.state) for entry in found.certificates] == [(12, "ending")]
    assert "lab-1's certificate " in _describe(found)
    assert " ends in 12 days, on " in _describe(found)


def test_who_may_not_look_is_told_so_and_the_rest() -> None:
    known, clock = Closed(), ManualClock()
    (finding,) = certificate_findings(["lab-1"], known, clock)
    assert (finding.level, "may not iot:ListThingPrincipals" in finding.says) == ("unknown", True)
    found = status(known, clock)
    assert found.certificates == ()
    assert "cannot be looked at: the user lena may not" in _describe(found)
