"""How long rigs' certificates still hold: without one a rig gets no credentials, and takes no work.

AWS IoT says of a certificate when it ends, but need not (API reference, CertificateValidity, ``notAfter``).
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from typing import Literal

import msgspec

from isthmus.errors import IsthmusError
from isthmus.model.finding import Finding, Level
from isthmus.model.rig_identity import Certificate
from isthmus.ports import Certificates, Clock

WARN_DAYS = 30
DAY_SECONDS = 86_400


class CertificateStatus(msgspec.Struct, frozen=True, kw_only=True):
    """An active certificate. ``days_left``: whole days until it ends, less than 0 when it has; None when the registry
    does not say when that is. ``state``: ends within ``WARN_DAYS`` is ``ending``."""

    id: str
    until: str
    days_left: int | None
    state: Literal["ok", "ending", "expired", "unknown"]


def certificates_of(rig: str, certificates: Certificates, clock: Clock) -> tuple[CertificateStatus, ...]:
    """Return a rig's active certificates; what holds longest comes first."""
    found = [_status(entry, clock.now()) for entry in certificates.of(rig) if entry.active]
    return tuple(sorted(found, key=lambda entry: (entry.until, entry.id), reverse=True))


def said(rig: str, found: CertificateStatus) -> str:
    """Return one sentence about a rig's certificate."""
    name = f"{rig}'s certificate {found.id[:12]}"
    match found.state:
        case "expired":
            return f"{name} ended on {found.until[:10]}: it gets no credentials and takes no work"
        case "ending":
            return f"{name} ends in {found.days_left} days, on {found.until[:10]}"
        case "ok":
            return f"{name} holds until {found.until[:10]} ({found.days_left} days)"
        case _:
            return f"{name} is active; nobody says when it ends"


def certificate_findings(rigs: Iterable[str], certificates: Certificates, clock: Clock) -> list[Finding]:
    """Look at the certificate of each rig; one without any works with credentials of its machine, and is left out."""
    findings = []
    for rig in rigs:
        check = f"certificate of {rig}"
        try:
            found = certificates_of(rig, certificates, clock)
        except IsthmusError as error:
            findings.append(Finding(check, "unknown", f"cannot be checked: {error}"))
            continue
        if found:
            findings.append(_finding(check, rig, found[0]))
    return findings


def _finding(check: str, rig: str, found: CertificateStatus) -> Finding:
    levels: dict[str, Level] = {"ok": "ok", "unknown": "ok", "ending": "warn", "expired": "missing"}
    mend = f"on {rig}: isthmus rig rotate" if found.state in ("ending", "expired") else ""
    return Finding(check, levels[found.state], said(rig, found), mend)


def _status(certificate: Certificate, now: float) -> CertificateStatus:
    if not certificate.until:
        return CertificateStatus(id=certificate.id, until="", days_left=None, state="unknown")
    left = datetime.datetime.fromisoformat(certificate.until).timestamp() - now
    state: Literal["ok", "ending", "expired"] = "ok"
    if left <= 0:
        state = "expired"
    elif left <= WARN_DAYS * DAY_SECONDS:
        state = "ending"
    return CertificateStatus(
        id=certificate.id, until=certificate.until, days_left=int(left // DAY_SECONDS), state=state
    )
