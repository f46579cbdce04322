"""``*`` and ``?`` as IAM means them: every other character stands for itself, brackets too."""

import functools
import re


@functools.lru_cache(maxsize=4096)
def compiled(pattern: str) -> re.Pattern[str]:
    text = "".join({"*": ".*", "?": "."}.get(letter, re.escape(letter)) for letter in pattern)
    return re.compile(text, re.DOTALL)


def matches(pattern: str, text: str) -> bool:
    """Whether the whole text fits."""
    return pattern in ("*", text) or compiled(pattern).fullmatch(text) is not None


def arn_matches(pattern: str, arn: str) -> bool:
    """Part by part, so that a wildcard of one part does not reach into the next.

    The resource, which may hold colons, is the sixth part (IAM user guide, "ARN condition operators").
    """
    if pattern in ("*", arn):
        return True
    wanted, found = pattern.split(":", 5), arn.split(":", 5)
    return len(wanted) == len(found) and all(map(matches, wanted, found))
