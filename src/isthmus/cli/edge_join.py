"""``isthmus edge join | leave | check``: this machine as a core device of Greengrass."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from isthmus import bootstrap_cores, documents
from isthmus.cli.context import Stack
from isthmus.cli.doctor import lines
from isthmus.cli.output import Output
from isthmus.errors import EnvironmentProblem, Refused
from isthmus.model.blob import Name
from isthmus.model.core_device import ROOTS, Flavour

USERS: dict[Flavour, str] = {"classic": "ggc_user:ggc_group", "lite": "ggcore:ggcore"}
FOLDERS: dict[Flavour, str] = {"classic": "/greengrass/isthmus", "lite": "/etc/greengrass/isthmus"}
OWNERS: dict[Flavour, str] = {"classic": "", "lite": "ggcore:ggcore"}
"""As whom the nucleus itself runs (aws-greengrass-lite, docs/INSTALL.md); the one in Java is root."""


def register(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verbs."""
    join = verbs.add_parser(
        "join",
        parents=[common],
        help="make this machine a core device: its thing, certificate, policy and nucleus configuration",
    )
    join.add_argument("--name", required=True, help="the device's name, and its thing's")
    _nucleus(join)
    join.add_argument("--folder", type=Path, help="of its certificate and configuration")
    join.add_argument(
        "--user",
        metavar="USER:GROUP",
        help="as whom components run (default: as each nucleus' installer has it)",
    )
    join.add_argument(
        "--owner",
        metavar="USER:GROUP",
        help="as whom the nucleus itself runs, whose the files are (default with sudo: ggcore:ggcore for lite)",
    )
    join.add_argument(
        "--canary",
        action=argparse.BooleanOptionalAction,
        help="whether it gets a release before the others (default: as it is; a new device is none)",
    )
    join.add_argument(
        "--force", action="store_true", help="join although something is missing, which `edge check` lists"
    )
    join.set_defaults(run=_join)
    leave = verbs.add_parser("leave", parents=[common], help="take a core device from the stack")
    leave.add_argument("name", metavar="NAME", help="the device's name")
    leave.add_argument(
        "--folder", type=Path, help="of its certificate, on the device itself: removed as well"
    )
    leave.set_defaults(run=_leave)
    check = verbs.add_parser(
        "check",
        parents=[common],
        help="what this machine lacks to be a core device; 1 if something is missing",
    )
    _nucleus(check)
    check.set_defaults(run=_check)


def _nucleus(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--nucleus",
        choices=tuple(ROOTS),
        default="classic",
        help="the one in Java (default), or nucleus lite",
    )
    parser.add_argument("--root", metavar="FOLDER", help="where the nucleus works (default: its own)")


def _join(options: argparse.Namespace, output: Output) -> None:
    from isthmus.edge.preflight import lacking

    name = documents.convert(Name, options.name, "the device's name")
    outputs = Stack(options.stack).outputs
    if not (alias := outputs.get("CoreAlias")):
        raise EnvironmentProblem(f"the stack {options.stack} is of an older version; deploy it, then join")
    root = options.root or ROOTS[options.nucleus]
    findings = bootstrap_cores.examine_device(options.nucleus, Path(root))
    if (missing := lacking(findings)) and not options.force:
        raise Refused(f"this machine cannot serve models yet; {missing}. With --force it joins nevertheless")
    for finding in findings:
        if finding.level == "warn":
            output.progress(f"{finding.check}: {finding.says}; {finding.mend}")
    joined = bootstrap_cores.join_core(
        name,
        options.stack,
        alias,
        folder=options.folder or Path(FOLDERS[options.nucleus]),
        flavour=options.nucleus,
        root=root,
        user=options.user or USERS[options.nucleus],
        canary=options.canary,
        owner=_owner(options),
    )
    certificate = f"{'its new' if joined.new else 'it keeps its'} certificate {joined.certificate_id[:12]}"
    text = f"{name} is a core device of {options.stack}; {certificate}\n{_next(joined.flavour, joined.config, root)}"
    output.result(joined, text)


def _owner(options: argparse.Namespace) -> str:
    """Only root can give files away."""
    if options.owner is not None:
        return str(options.owner)
    return OWNERS[options.nucleus] if os.geteuid() == 0 and options.folder is None else ""


def _next(flavour: Flavour, config: str, root: str) -> str:
    """Return how the nucleus is started with what was written."""
    if flavour == "lite":
        return (
            f"start nucleus lite with it: sudo ln -sf {config} /etc/greengrass/config.yaml && "
            "sudo systemctl restart greengrass-lite.target"
        )
    return (
        f"start the nucleus with it: sudo -E java -Droot={root} -Dlog.store=FILE -jar "
        f"GreengrassInstaller/lib/Greengrass.jar --init-config {config} --setup-system-service true"
    )


def _leave(options: argparse.Namespace, output: Output) -> None:
    from isthmus.edge.provisioning import leave

    name = documents.convert(Name, options.name, "the device's name")
    removed = leave(name, bootstrap_cores.registry(options.stack), options.folder)
    text = f"{name} is no core device of {options.stack} any more; certificates removed: {len(removed)}"
    output.result({"name": name, "certificates": removed}, text)


def _check(options: argparse.Namespace, output: Output) -> int:
    root = Path(options.root or ROOTS[options.nucleus])
    findings = bootstrap_cores.examine_device(options.nucleus, root)
    output.result(findings, "\n".join(line for finding in findings for line in lines(finding)))
    return 1 if any(finding.level == "missing" for finding in findings) else 0
