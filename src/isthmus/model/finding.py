"""What a look at a machine or an account found."""

from __future__ import annotations

from typing import Literal

import msgspec

SKEW_SECONDS, BAD_SKEW_SECONDS = 60.0, 300.0
"""AWS refuses a signature whose time is more than five minutes off (IAM user guide, signing requests)."""

Level = Literal["ok", "warn", "missing", "unknown"]


class Finding(msgspec.Struct, frozen=True):
    """The result of one check: what there is, and the command that mends it, if it has to be.

    ``unknown``: the check could not be made; ``says`` tells why.
    """

    check: str
    level: Level
    says: str
    mend: str = ""
