"""``isthmus rig rotate | revoke``: the certificate that a rig proves itself by."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isthmus import bootstrap_rig, documents
from isthmus.cli.output import Output
from isthmus.errors import Refused
from isthmus.model.blob import Name

if TYPE_CHECKING:
    from isthmus.rig.membership import Enrolled

UNTIL = "credentials that were given out end within an hour"


def register(verbs: Any, common: argparse.ArgumentParser, folder: Callable[[Any], None]) -> None:
    """Add the verbs; ``folder`` adds the option of that name."""
    rotate = verbs.add_parser(
        "rotate", parents=[common], help="give this machine a new certificate, and take back its old one"
    )
    folder(rotate)
    rotate.set_defaults(run=_rotate)
    revoke = verbs.add_parser("revoke", parents=[common], help="make a rig's certificates useless")
    revoke.add_argument("name", metavar="NAME", help="the rig's name")
    revoke.add_argument(
        "--certificate",
        default="",
        metavar="ID",
        help="this one alone; its beginning is enough (default: all)",
    )
    revoke.set_defaults(run=_revoke)


def use(folder: Path, *, rig: str, stack: str, output: Output) -> None:
    """Work with the folder's certificate; say so if there is none."""
    if bootstrap_rig.use_certificate(folder, rig=rig, stack=stack) is None:
        output.progress(
            f"{folder} holds no certificate: this agent works with the machine's own AWS credentials; "
            f"`isthmus rig join --name {rig}` gives it one"
        )


def said(enrolled: Enrolled | None, stack: str) -> str:
    """Return what a person needs of a certificate after a join."""
    if enrolled is None:
        return f"no certificate: the stack {stack} is of an older version; deploy it, then join again"
    short = enrolled.identity.certificate_id[:12]
    if enrolled.new:
        return f"it proves itself by its new certificate {short}; the agent needs no other AWS credentials"
    return f"it keeps its certificate {short}"


def _rotate(options: argparse.Namespace, output: Output) -> None:
    from isthmus.rig import certificate, membership

    if (have := certificate.read(options.folder)) is None:
        raise Refused(f"{options.folder} holds no certificate; get one with `isthmus rig join`")
    made, old = membership.rotate(options.folder, bootstrap_rig.certificates(have.stack))
    text = (
        f"{made.rig} proves itself by its new certificate {made.certificate_id[:12]}; the old one, {old[:12]}, is "
        f"gone. An agent that runs goes over to it by itself; {UNTIL}"
    )
    output.result({"rig": made.rig, "certificate": made.certificate_id, "removed": old}, text)


def _revoke(options: argparse.Namespace, output: Output) -> None:
    from isthmus.rig.membership import revoke

    name = documents.convert(Name, options.name, "the rig's name")
    revoked = revoke(name, bootstrap_rig.certificates(options.stack), options.certificate)
    ids = ", ".join(entry.id[:12] for entry in revoked)
    output.result(revoked, f"revoked of {name}: {ids}; nobody gets credentials with it, and {UNTIL}")
