"""`make audit`: known vulnerabilities in what the locks pin, by pip-audit, less dated exceptions.

pip-audit asks PyPI's JSON API for each package; nothing is installed and nothing is resolved anew.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from checks.areas import Area, chosen, requirements
from checks.findings import CheckError, Finding, report

EXCEPTIONS = "checks/audit-exceptions.toml"
FOLDER = "build/audit"


@dataclass(frozen=True)
class Exemption:
    """A vulnerability that is accepted until a day, inclusive, and why."""

    id: str
    package: str
    reason: str
    until: dt.date


def main(root: Path) -> int:
    exemptions = load_exemptions(root / EXCEPTIONS)
    reports = {area.name: ask(root, area) for area in chosen(root)}
    today = dt.datetime.now(dt.UTC).date()
    # Of some areas alone nothing can be said about exceptions that none of them needs.
    complete = not os.environ.get("AREAS")
    status = report("audit", judge(reports, exemptions, today, complete=complete))
    asked = sum(len(entry["dependencies"]) for entry in reports.values())
    print(f"audit: {asked} packages in {len(reports)} environments, {len(exemptions)} exceptions")
    return status


def load_exemptions(path: Path) -> list[Exemption]:
    """Read the list of exceptions.

    Raises:
        CheckError: an entry lacks a field, or ``until`` is no date.
    """
    found = []
    for entry in tomllib.loads(path.read_text()).get("exception", []):
        if set(entry) != {"id", "package", "reason", "until"} or not isinstance(entry["until"], dt.date):
            raise CheckError(f"{path.name}: {entry} needs id, package, reason and until (a date)")
        if not entry["reason"].strip():
            raise CheckError(f"{path.name}: {entry['id']} needs a reason")
        found.append(Exemption(**entry))
    return found


def ask(root: Path, area: Area) -> dict[str, Any]:
    """Return pip-audit's report on an area.

    Raises:
        CheckError: pip-audit could not ask, or nothing was answered; that never counts as a clean report.
    """
    folder = root / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{area.name}.txt"
    path.write_text(requirements(root, area))
    options = [
        "--requirement",
        str(path),
        "--disable-pip",
        "--require-hashes",
        "--vulnerability-service=pypi",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "pip_audit", *options, "--format=json", "--progress-spinner=off"],
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    try:
        answered: dict[str, Any] = json.loads(done.stdout)
    except json.JSONDecodeError as error:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise CheckError(
            f"pip-audit has no report on {area.name}; is PyPI reachable? It says: {last}"
        ) from error
    unanswered = [entry for entry in answered["dependencies"] if "skip_reason" in entry]
    if unanswered and len(unanswered) == len(answered["dependencies"]):
        raise CheckError(
            f"pip-audit got no answer on any of the {len(unanswered)} packages of {area.name}: it needs PyPI's "
            f"JSON API, which a mirror may lack. It says: {unanswered[0]['skip_reason']}"
        )
    return answered


def judge(
    reports: dict[str, dict[str, Any]], exemptions: Iterable[Exemption], today: dt.date, *, complete: bool
) -> list[Finding]:
    """Return what must be dealt with: vulnerabilities without an exception, and exceptions gone stale."""
    exemptions, needed, found = list(exemptions), set[Exemption](), set[Finding]()
    for area, answered in reports.items():
        for dependency in answered["dependencies"]:
            if "skip_reason" in dependency:
                found.add(Finding(area, f"{dependency['name']} was not audited: {dependency['skip_reason']}"))
            for vulnerability in dependency.get("vulns", []):
                fitting = [entry for entry in exemptions if _covers(entry, dependency["name"], vulnerability)]
                needed.update(fitting)
                if not any(entry.until >= today for entry in fitting):
                    found.add(Finding(area, _sentence(dependency, vulnerability)))
    for entry in exemptions:
        if entry.until < today:
            found.add(Finding(EXCEPTIONS, f"{entry.id} of {entry.package} expired on {entry.until}"))
        elif complete and entry not in needed:
            found.add(Finding(EXCEPTIONS, f"{entry.id} of {entry.package} is not needed any more: remove it"))
    return sorted(found)


def _covers(entry: Exemption, package: str, vulnerability: dict[str, Any]) -> bool:
    names = {vulnerability["id"], *vulnerability.get("aliases", [])}
    return entry.package == package and entry.id in names


def _sentence(dependency: dict[str, Any], vulnerability: dict[str, Any]) -> str:
    fixed = ", ".join(vulnerability.get("fix_versions", [])) or "no version yet"
    return f"{dependency['name']} {dependency['version']} has {vulnerability['id']}, fixed in {fixed}"
