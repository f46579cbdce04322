"""What goes wrong before or around the local cloud. Errors of the emulated services are AWS's own.

LocalcloudError
├── PreflightError   the machine lacks something: a port, an interpreter, disk space
├── NotRunningError  a command needs a running local cloud
└── EdgeError        a command to a core device cannot be carried out
"""


class LocalcloudError(Exception):
    """One clear sentence: what was needed, what there was, what to do."""


class PreflightError(LocalcloudError):
    """The machine cannot run a local cloud as asked."""


class NotRunningError(LocalcloudError):
    """There is no local cloud on this state folder."""


class EdgeError(LocalcloudError):
    """A core device refused or failed a command."""
