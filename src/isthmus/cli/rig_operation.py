"""``isthmus rig status | drain | stop | logs | install``: a rig in operation."""

from __future__ import annotations

import argparse
import getpass
import os
import pwd
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isthmus import bootstrap, bootstrap_rig, documents
from isthmus.cli.context import Stack
from isthmus.cli.output import Output, table
from isthmus.errors import EnvironmentProblem, InvalidInput
from isthmus.model.blob import Name
from isthmus.model.units import format_bytes, format_seconds

if TYPE_CHECKING:
    from collections.abc import Callable

    from isthmus.workflows.rig_status import RigStatus

AGENT_COLUMNS = ("agent", "host", "state", "job", "attempt", "since", "seen")
ORPHAN_COLUMNS = ("job", "attempt", "since", "cause")
TAIL_BYTES = 64 * 1024
USUAL_FOLDER = Path(".local", "share", "isthmus")
PASSED_ON = ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE",
             "AWS_CA_BUNDLE", "HTTPS_PROXY", "NO_PROXY", "UV_PYTHON", "CUDA_VISIBLE_DEVICES", "CONTAINER_HOST",
             "DOCKER_HOST")  # fmt: skip
"""What of this shell's settings a service needs as well; never a key."""


def register(verbs: Any, common: argparse.ArgumentParser, folder: Callable[[Any], None]) -> None:
    """Add the verbs; ``folder`` adds the option of that name."""
    status = verbs.add_parser("status", parents=[common], help="what a rig's agents do, and what waits")
    status.add_argument("name", metavar="NAME", help="the rig's name")
    status.set_defaults(run=_status)
    drain = verbs.add_parser(
        "drain", parents=[common], help="let this machine's agent finish its job, and leave"
    )
    folder(drain)
    drain.add_argument(
        "--within", type=float, default=None, metavar="SECONDS", help="stop it if it has not finished by then"
    )
    drain.set_defaults(run=_drain)
    stop = verbs.add_parser(
        "stop",
        parents=[common],
        help="end this machine's agent now; its job goes on elsewhere from its checkpoint",
    )
    folder(stop)
    stop.set_defaults(run=_stop)
    logs = verbs.add_parser("logs", parents=[common], help="what a job prints on this machine")
    logs.add_argument("job_key", nargs="?", default="", help="its beginning is enough (default: the newest)")
    folder(logs)
    logs.add_argument("--follow", action="store_true", help="go on as it is written")
    logs.set_defaults(run=_logs)
    _register_install(verbs, common)


def gpus_option(parser: argparse.ArgumentParser) -> None:
    """Add the option that chooses an agent's GPUs."""
    parser.add_argument(
        "--gpus",
        type=read_gpus,
        metavar="0,1",
        help="give trainings these GPUs alone, or none; an agent for each GPU runs one training on each (default: all)",
    )


def read_gpus(text: str) -> list[int]:
    """Read ``0,1`` or ``none``."""
    if text == "none":
        return []
    if not re.fullmatch(r"[0-9]+(,[0-9]+)*", text):
        raise argparse.ArgumentTypeError(f"needs numbers of GPUs, as 0,1, or none; got {text}")
    return [int(number) for number in text.split(",")]


def _register_install(verbs: Any, common: argparse.ArgumentParser) -> None:
    verb = verbs.add_parser("install", parents=[common], help="keep the agent running as a systemd service")
    verb.add_argument("--name", required=True, help="the rig's name")
    verb.add_argument(
        "--folder", type=Path, help=f"where it works (default: {USUAL_FOLDER} in the home of whom it runs as)"
    )
    gpus_option(verb)
    verb.add_argument("--user", default="", help="whom the service runs as (default: who calls this)")
    verb.add_argument(
        "--own", action="store_true", help="a service of your own, without root (systemctl --user)"
    )
    verb.add_argument("--print", action="store_true", help="print the unit file, and install nothing")
    verb.set_defaults(run=_install)


def _status(options: argparse.Namespace, output: Output) -> None:
    from isthmus.workflows.rig_status import rig_status

    name, stack = documents.convert(Name, options.name, "the rig's name"), Stack(options.stack)
    devices = bootstrap.devices(stack.outputs["Table"])
    found = rig_status(
        name,
        devices=devices,
        records=stack.records,
        certificates=bootstrap_rig.certificates(options.stack),
        clock=bootstrap.clock(),
    )
    output.result(found, _describe(found))


def _describe(status: RigStatus) -> str:
    from isthmus.workflows.rig_certificates import said

    rig = status.rig
    gpus = ", ".join(gpu.model for gpu in rig.accelerators) or "no GPU"
    lines = [f"{rig.id} in {rig.zone}: {rig.cores} cores, {format_bytes(rig.memory_bytes)}, {gpus}"]
    rows = [
        {
            "agent": agent.agent[:8],
            "host": agent.host,
            "state": f"{agent.state} (was {agent.was})" if agent.was else agent.state,
            "job": agent.job_key[:12] or "-",
            "attempt": agent.attempt or "-",
            "since": agent.since,
            "seen": agent.seen_at,
        }
        for agent in status.agents
    ]
    lines.append(table(rows, AGENT_COLUMNS) if rows else "no agent has worked for it in the last week")
    lines.append(f"{status.waiting} waiting" if status.waiting else "nobody waits for it")
    lines += [said(rig.id, certificate) for certificate in status.certificates]
    if status.not_seen:
        lines.append(f"its certificate cannot be looked at: {status.not_seen}")
    if status.orphans:
        lines.append(f"results that came too late, see `isthmus rig orphans`: {len(status.orphans)}")
        late = [
            {
                "job": str(orphan.get("job_key", ""))[:12],
                "attempt": orphan.get("fencing", "-"),
                "since": orphan.get("since", "-"),
                "cause": orphan.get("cause", "-"),
            }
            for orphan in status.orphans
        ]
        lines.append(table(late, ORPHAN_COLUMNS))
    return "\n".join(lines)


def _drain(options: argparse.Namespace, output: Output) -> None:
    from isthmus.rig import control

    if options.within is not None and options.within < 0:
        raise InvalidInput(f"--within takes seconds from 0 on; it is {options.within:g}")
    process = control.order(options.folder, "drain")
    if options.within is None:
        said = f"the agent (process {process}) takes no more work, and leaves when its job has ended"
        output.result({"process": process, "left": False}, said)
        return
    output.progress(
        f"the agent (process {process}) takes no more work; {format_seconds(options.within)} for its job"
    )
    if control.wait_until_left(options.folder, bootstrap.clock(), options.within):
        output.result({"process": process, "left": True}, "it has left")
        return
    _end(options.folder, output)


def _stop(options: argparse.Namespace, output: Output) -> None:
    _end(options.folder, output)


def _end(folder: Path, output: Output) -> None:
    from isthmus.rig import control, unit

    process = control.order(folder, "stop")
    output.progress(f"the agent (process {process}) ends its job, which has 120 s to write a checkpoint")
    if not control.wait_until_left(folder, bootstrap.clock(), unit.STOP_SECONDS):
        raise EnvironmentProblem(
            f"the agent (process {process}) has not left within {unit.STOP_SECONDS} s; its training's processes "
            f"end with it: kill -KILL {process}"
        )
    output.result({"process": process, "left": True}, "it has left; what it ran goes on elsewhere")


def _logs(options: argparse.Namespace, output: Output) -> None:
    from isthmus.rig import identity, logs

    path = logs.log_of(options.folder, options.job_key)
    if output.as_json:
        text = b"".join(logs.read(path, TAIL_BYTES)).decode("utf-8", "replace")
        output.result({"path": str(path), "tail": text}, "")
        return
    if not options.follow:
        _write(logs.read(path))
        return
    _write(logs.follow(path, bootstrap.clock(), lambda: identity.running_agent(options.folder) is None))


def _write(chunks: Any) -> None:
    for chunk in chunks:
        sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()


def _install(options: argparse.Namespace, output: Output) -> None:
    from isthmus.rig.unit import Unit

    name = documents.convert(Name, options.name, "the rig's name")
    user = "" if options.own else options.user or os.environ.get("SUDO_USER") or getpass.getuser()
    folder = (options.folder or _home(user) / USUAL_FOLDER).expanduser().absolute()
    program = str(Path(sys.executable).with_name("isthmus"))
    words: tuple[str, ...] = ("rig", "run", "--name", name, "--stack", options.stack, "--folder", str(folder))
    instance: str = name
    if options.gpus is not None:
        chosen = ",".join(map(str, options.gpus)) or "none"
        words, instance = (*words, "--gpus", chosen), f"{name}-gpu-{chosen.replace(',', '-')}"
    unit = Unit(
        rig=instance,
        folder=folder,
        command=(program, *words),
        user=user,
        environment=tuple((key, os.environ[key]) for key in PASSED_ON if key in os.environ),
    )
    if options.print:
        output.result({"name": unit.name, "text": unit.text()}, unit.text().rstrip("\n"))
        return
    make_folder(folder, user)
    path = bootstrap_rig.service_manager(own=options.own).install(unit.name, unit.text())
    journal = f"journalctl {'--user ' if options.own else ''}-u {unit.name} -f"
    output.result({"unit": str(path)}, f"{unit.name} runs; its log: {journal}")


def _home(user: str) -> Path:
    """Return a user's home; of no user, the caller's. With sudo the caller's own would be root's."""
    return Path(_account(user).pw_dir) if user else Path.home()


def _account(user: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(user)
    except KeyError as error:
        raise InvalidInput(f"this machine has no user {user}: name another with --user") from error


def make_folder(folder: Path, user: str) -> None:
    """Make a service's folder; what root makes of it belongs to ``user``.

    Raises:
        InvalidInput: there is no such user.
        EnvironmentProblem: the folder cannot be made.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    owner = _account(user) if user and os.geteuid() == 0 else None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if owner is not None:
            for path in missing:
                os.chown(path, owner.pw_uid, owner.pw_gid, follow_symlinks=False)
    except OSError as error:
        raise EnvironmentProblem(
            f"{folder} cannot be made ({error.strerror}): run this with sudo, or name another with --folder"
        ) from error
