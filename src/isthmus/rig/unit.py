"""The systemd unit that keeps a rig's agent running, with what such a service does not need taken away.

Sources: systemd.service(5), systemd.exec(5) "Sandboxing", systemd.kill(5).
"""

from __future__ import annotations

import string
from dataclasses import dataclass
from pathlib import Path

from isthmus.errors import InvalidInput

UNIT_NAME = "isthmus-rig-{rig}.service"
STOP_SECONDS = 180
"""More than the grace of 120 s between SIGTERM and SIGKILL, and the last copy of checkpoints."""

TEMPLATE = string.Template("""\
[Unit]
Description=isthmus agent of the rig $rig
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
Type=exec
$user_line
ExecStart=$command
$environment_lines
Restart=on-failure
RestartSec=10
# 2: the settings or the account have to be mended first; asking again every ten seconds would not help.
RestartPreventExitStatus=2
# The agent alone is told to stop: it ends its training in order. What is left after the time is killed.
KillMode=mixed
KillSignal=$kill_signal
TimeoutStopSec=$stop_seconds
WorkingDirectory=$folder

# A rig listens to nobody, and writes below its own folder alone.
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
UMask=0077
ProtectSystem=strict
ProtectHome=read-only
ReadWritePaths=$folder
PrivateTmp=yes
PrivateMounts=yes
ProtectClock=yes
ProtectHostname=yes
ProtectControlGroups=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
RemoveIPC=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
# PrivateDevices and MemoryDenyWriteExecute stay off: trainings need the GPUs' devices, and compile code.

[Install]
WantedBy=$wanted_by
""")


@dataclass(frozen=True)
class Unit:
    """A service to be written: ``command`` is what starts the agent, ``environment`` what it needs besides.

    ``user`` is empty for a user's own service manager.
    """

    rig: str
    folder: Path
    command: tuple[str, ...]
    user: str
    environment: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        """The unit's file name."""
        return UNIT_NAME.format(rig=self.rig)

    def text(self) -> str:
        """Return the unit file.

        Raises:
            InvalidInput: a path or a value holds a line break, which a unit file cannot.
        """
        for value in (str(self.folder), self.user, *self.command, *(v for _, v in self.environment)):
            if "\n" in value or "\r" in value:
                raise InvalidInput(f"a unit file cannot hold a line break, and {value!r} has one")
        lines = [f"Environment={_quoted(f'{name}={value}')}" for name, value in self.environment]
        return TEMPLATE.substitute(
            rig=self.rig,
            user_line=f"User={self.user}" if self.user else "# of the user whose service manager this is",
            command=" ".join(_quoted(word.replace("$", "$$")) for word in self.command),
            environment_lines="\n".join(lines) if lines else "# no settings besides",
            kill_signal="SIGUSR1",
            stop_seconds=STOP_SECONDS,
            folder=_escaped(str(self.folder)),
            # A user's own manager has no multi-user.target (systemd.special(7), "Units managed by the user").
            wanted_by="multi-user.target" if self.user else "default.target",
        )


def _escaped(value: str) -> str:
    """Percent signs begin specifiers (systemd.unit(5), "Specifiers")."""
    return value.replace("%", "%%")


def _quoted(value: str) -> str:
    """Quote a word as systemd.syntax(7) reads it."""
    escaped = _escaped(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
