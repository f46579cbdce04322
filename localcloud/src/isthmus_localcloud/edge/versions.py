"""Semantic versions and the requirements of component dependencies.

Source: Greengrass recipe reference, "VersionRequirement": NPM-style ranges (semver4j).
"""

import re

Version = tuple[int, int, int]
CLAUSE = re.compile(r"\s*(>=|<=|>|<|=|\^|~)?\s*(\d+)(?:\.(\d+|x|\*))?(?:\.(\d+|x|\*))?[^\s]*")


def parse(text: str) -> Version:
    """Pre-release and build parts are ignored. Raises ValueError for what is no version."""
    match = re.match(r"(\d+)\.(\d+)\.(\d+)", text)
    if not match:
        raise ValueError(f"{text!r} is not a version such as 1.0.0")
    major, minor, patch = match.groups()
    return int(major), int(minor), int(patch)


def upper_bound(sign: str, parts: list[int]) -> Version:
    """The first version that ^, ~ or a partial version such as 1.2 no longer allows."""
    full = [*parts, 0, 0, 0][:3]
    if sign == "^":
        first = next((i for i, part in enumerate(full) if part), min(len(parts), 3) - 1)
    elif sign == "~":
        first = min(len(parts), 2) - 1
    else:
        first = len(parts) - 1
    bumped = [*full[:first], full[first] + 1, 0, 0, 0][:3]
    return bumped[0], bumped[1], bumped[2]


def holds(clause: tuple[str, str, str, str], version: Version) -> bool:
    sign, *numbers = clause
    parts = [int(number) for number in numbers if number.isdigit()]
    low = (*parts, 0, 0, 0)[:3]
    match sign:
        case ">=":
            return version >= low
        case "<=":
            return version < upper_bound("", parts)
        case ">":
            return version >= upper_bound("", parts)
        case "<":
            return version < low
        case _:
            return low <= version < upper_bound(sign if sign in "^~" else "", parts)


def satisfies(version: str, requirement: str) -> bool:
    """Clauses next to each other must all hold; ``||`` separates alternatives; empty and ``*`` allow
    anything."""
    wanted = parse(version)
    for alternative in requirement.split("||"):
        if alternative.strip() in ("", "*"):
            return True
        if all(holds(clause, wanted) for clause in CLAUSE.findall(alternative)):
            return True
    return False
