"""Condition blocks of policies.

Source: IAM user guide, "IAM JSON policy elements: Condition operators" and "Set operators for
multivalued context keys". Where LocalEmu's evaluator differs: ForAllValues also holds for a key that
the request does not have; a negated operator holds for a missing key, and only if no value matches.
"""

import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from .wildcards import arn_matches, matches

Context = Mapping[str, str | Sequence[str]]
"""The request's context keys in lower case (IAM does not tell their case apart), with their values."""
Comparison = Callable[[str, str], bool]
VARIABLE = re.compile(r"\$\{([^}]+)\}")


def moment(text: str) -> datetime:
    if text.isdigit():
        return datetime.fromtimestamp(int(text), UTC)
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def in_network(address: str, network: str) -> bool:
    return ipaddress.ip_address(address) in ipaddress.ip_network(network, strict=False)


def ordered(kind: Callable[[str], Any], name: str) -> dict[str, Comparison]:
    """The comparisons of values that have an order, by operator."""
    return {
        f"{name}Equals": lambda have, want: bool(kind(have) == kind(want)),
        f"{name}LessThan": lambda have, want: bool(kind(have) < kind(want)),
        f"{name}LessThanEquals": lambda have, want: bool(kind(have) <= kind(want)),
        f"{name}GreaterThan": lambda have, want: bool(kind(have) > kind(want)),
        f"{name}GreaterThanEquals": lambda have, want: bool(kind(have) >= kind(want)),
    }


COMPARISONS: dict[str, Comparison] = {
    "StringEquals": lambda have, want: have == want,
    "StringEqualsIgnoreCase": lambda have, want: have.lower() == want.lower(),
    "StringLike": lambda have, want: matches(want, have),
    "Bool": lambda have, want: have.lower() == want.lower(),
    "IpAddress": in_network,
    # ArnEquals and ArnLike behave identically.
    "ArnEquals": lambda have, want: arn_matches(want, have),
    "ArnLike": lambda have, want: arn_matches(want, have),
    **ordered(float, "Numeric"),
    **ordered(moment, "Date"),
}
NEGATED = {
    "StringNotEquals": "StringEquals",
    "StringNotEqualsIgnoreCase": "StringEqualsIgnoreCase",
    "StringNotLike": "StringLike",
    "NumericNotEquals": "NumericEquals",
    "DateNotEquals": "DateEquals",
    "NotIpAddress": "IpAddress",
    "ArnNotEquals": "ArnEquals",
    "ArnNotLike": "ArnLike",
}


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def spelled(value: Any) -> str:
    """A value of a policy document as IAM compares it: JSON's true is the text ``true``."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def filled_in(text: str, context: Context) -> str | None:
    """The text with its policy variables; None when the request lacks one, and nothing can match."""
    missing = False

    def value(match: re.Match[str]) -> str:
        nonlocal missing
        name, _, default = match.group(1).partition(",")
        if name in ("*", "?", "$"):
            return name
        found = context.get(name.strip().lower())
        if not isinstance(found, str):
            found = default.strip().strip("'") or None
        missing = missing or found is None
        return found or ""

    filled = VARIABLE.sub(value, text) if "${" in text else text
    return None if missing else filled


def hold(block: Mapping[str, Mapping[str, Any]], context: Context) -> bool:
    """Whether every condition of the block holds."""
    return all(
        holds(operator, as_list(wanted), context.get(key.lower()), context)
        for operator, keys in block.items()
        for key, wanted in keys.items()
    )


def holds(operator: str, wanted: list[Any], have: str | Sequence[str] | None, context: Context) -> bool:
    """One operator on one key. An operator that IAM does not know holds never."""
    quantifier, _, name = operator.rpartition(":")
    values = [have] if isinstance(have, str) else list(have or [])
    if name == "Null":
        return (not values) == (spelled(wanted[0]) == "true")
    base = name.removesuffix("IfExists")
    negated = base in NEGATED
    compare = COMPARISONS.get(NEGATED.get(base, base))
    if compare is None:
        return False
    if not values:
        return quantifier == "ForAllValues" or (quantifier != "ForAnyValue" and (negated or base != name))
    texts = [text for value in wanted if (text := filled_in(spelled(value), context)) is not None]
    fits = [any(safely(compare, value, text) for text in texts) != negated for value in values]
    return any(fits) if quantifier == "ForAnyValue" else all(fits)


def safely(compare: Comparison, have: str, want: str) -> bool:
    """A value of another kind than the operator's does not match."""
    try:
        return compare(have, want)
    except ValueError:
        return False
