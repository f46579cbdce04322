"""What a check has to say."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Finding:
    """One fault: ``where`` names file and place, ``what`` says in a sentence what is wrong there."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


class CheckError(Exception):
    """A check could not be carried out; the message says what it needed."""


def report(name: str, findings: Iterable[Finding]) -> int:
    """Print every finding, and return the exit status: 1 when there is any."""
    found = list(findings)
    for finding in found:
        print(f"{name}: {finding}")
    return 1 if found else 0
