"""``isthmus rig share``: how many turns each team has on a rig, against the others."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from isthmus import bootstrap, bootstrap_rig, documents
from isthmus.cli.context import Stack
from isthmus.cli.output import Output, table
from isthmus.errors import InvalidInput, Refused
from isthmus.model.blob import Name

MAX_SHARE = 100


def register(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verb."""
    share = verbs.add_parser("share", parents=[common], help="how many turns each team has on a rig")
    share.add_argument("name", metavar="NAME", help="the rig's name")
    share.add_argument(
        "shares", metavar="TEAM=SHARE", nargs="*", help=f"1 to {MAX_SHARE}; a team that is not named has 1"
    )
    share.set_defaults(run=_share)


def _share(options: argparse.Namespace, output: Output) -> None:
    name = documents.convert(Name, options.name, "the rig's name")
    given = read_shares(options.shares)
    table_name = Stack(options.stack).outputs["Table"]
    if bootstrap.devices(table_name).get(name) is None:
        raise Refused(f"there is no rig {name}; see `isthmus rig list`")
    waiting = bootstrap_rig.waiting_list(name, table_name)
    shares = waiting.shares
    if given:
        shares = {team: share for team, share in (shares | given).items() if share != 1}
        waiting.set_shares(shares)
    rows = [{"team": team, "share": share} for team, share in sorted(shares.items())]
    text = table([*rows, {"team": "any other", "share": 1}], ("team", "share"))
    output.result(shares, text)


def read_shares(words: Sequence[str]) -> dict[str, int]:
    """Return the shares that ``team=3`` and the like give.

    Raises:
        InvalidInput: a word is not of that form, or its share not from 1 to ``MAX_SHARE``.
    """
    found = {}
    for word in words:
        team, _, share = word.partition("=")
        if not (share.isascii() and share.isdigit() and 1 <= int(share) <= MAX_SHARE):
            raise InvalidInput(
                f"a share is TEAM=SHARE, from 1 to {MAX_SHARE}, for example vision=3; it is {word}"
            )
        found[documents.convert(Name, team, "the team's name")] = int(share)
    return found
