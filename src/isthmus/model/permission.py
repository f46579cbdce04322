"""What AWS's refusals say, as a sentence that says what to do.

Source: IAM user guide, "Troubleshoot access denied error messages"; the wording is the same for all
services, but for SQS's lower-case actions and quoted ARNs.
"""

from __future__ import annotations

import re

REFUSAL = re.compile(
    r"User: (?P<who>\S+) is not authorized to perform: (?P<action>[\w-]+:\w+)"
    r"(?: on resource: \"?(?P<resource>[^\s\"]+))?"
)


def missing_permission(text: str) -> str:
    """Return which identity lacks which right, and what to do; empty when the text is no refusal of IAM."""
    found = REFUSAL.search(text)
    if found is None:
        return ""
    on = f" on {found['resource']}" if found["resource"] else ""
    denied = f"{identity(found['who'])} may not {found['action']}{on}: "
    if "explicit deny" in text:
        return denied + "a policy denies it; take that statement back"
    return denied + f"add {found['action']} to its policy in template.yaml and run `sam deploy`"


def identity(arn: str) -> str:
    """Return ``the role NAME`` or ``the user NAME`` for the ARN of a caller."""
    kind, _, rest = arn.rpartition(":")[2].partition("/")
    if kind == "assumed-role":
        return f"the role {rest.split('/')[0]}"
    return f"the {kind} {rest.rpartition('/')[2]}" if kind in ("user", "role") else arn
