"""``isthmus doctor``: what this machine and the account have and lack, each with the command that mends it."""

from __future__ import annotations

import argparse
from typing import Any

from isthmus import bootstrap, bootstrap_rig
from isthmus.cli.context import Stack
from isthmus.cli.output import Output
from isthmus.errors import IsthmusError
from isthmus.model.finding import Finding
from isthmus.workflows.examine_account import examine
from isthmus.workflows.rig_certificates import certificate_findings

SIGNS = {"ok": "ok     ", "warn": "warn   ", "missing": "MISSING", "unknown": "?      "}


def register(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command."""
    text = "check this machine, credentials, region, quotas, permissions and the stack; 1 if something is missing"
    command = commands.add_parser("doctor", parents=[common], help=text)
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace, output: Output) -> int:
    findings = examine(options.stack, bootstrap.machine(), bootstrap.account())
    # A stack that stands; of any other its own finding says what to do.
    if any(finding.check == "stack" and finding.level == "ok" and not finding.mend for finding in findings):
        findings += _of_rigs(options.stack)
    output.result(findings, "\n".join(line for finding in findings for line in lines(finding)))
    return 1 if any(finding.level == "missing" for finding in findings) else 0


def _of_rigs(name: str) -> list[Finding]:
    try:
        rigs = bootstrap.devices(Stack(name).outputs["Table"]).list()
    except IsthmusError as error:
        return [Finding("certificates of rigs", "unknown", f"cannot be checked: {error}")]
    joined = [rig.id for rig in rigs if rig.kind == "rig"]
    return certificate_findings(joined, bootstrap_rig.certificates(name), bootstrap.clock())


def lines(finding: Finding) -> list[str]:
    """Return a finding as a person reads it, and below it what mends it."""
    line = f"{SIGNS[finding.level]}  {finding.check}: {finding.says}"
    return [line, f"         {finding.mend}"] if finding.mend else [line]
