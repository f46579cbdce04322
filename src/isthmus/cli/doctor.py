"""``isthmus doctor``: what this machine and the account have and lack, each with the command that mends it."""

from __future__ import annotations

import argparse
from typing import Any

from isthmus import bootstrap
from isthmus.cli.output import Output
from isthmus.workflows.examine_account import Finding, examine

SIGNS = {"ok": "ok     ", "warn": "warn   ", "missing": "MISSING", "unknown": "?      "}


def register(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command."""
    text = "check this machine, credentials, region, quotas, permissions and the stack; 1 if something is missing"
    command = commands.add_parser("doctor", parents=[common], help=text)
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace, output: Output) -> int:
    findings = examine(options.stack, bootstrap.machine(), bootstrap.account())
    output.result(findings, "\n".join(line for finding in findings for line in _lines(finding)))
    return 1 if any(finding.level == "missing" for finding in findings) else 0


def _lines(finding: Finding) -> list[str]:
    line = f"{SIGNS[finding.level]}  {finding.check}: {finding.says}"
    return [line, f"         {finding.mend}"] if finding.mend else [line]
