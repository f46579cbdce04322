"""Start one program so that it can never outlive the process that asked for it.

Run as ``python -I -S launch SPEC`` with SPEC a JSON object: ``parent`` (pid), ``argv``, ``cwd``,
``isolate`` (bool), ``root`` (an empty folder), ``grafts`` ({target: [source, "ro" | "rw"]}) and ``keep``
(paths that must stay visible although a graft covers them).

With ``isolate`` the program gets a mount namespace (its files at the paths AWS documents) and a process
namespace: the kernel kills everything in it as soon as its first process ends. Three processes result:

* this one, which dies with the thread that spawned it (prctl PDEATHSIG), and mirrors the exit status;
* the namespace's first process, which dies with this one, reaps orphans and passes SIGTERM on;
* the program.
"""

import ctypes
import json
import os
import resource
import signal
import struct
import sys
from types import FrameType
from typing import Any, NoReturn

from sandbox_root import enter_root

PR_SET_PDEATHSIG = 1
SETUP_FAILED = 126


def die_with_parent(parent: int | None) -> None:
    """Ask the kernel for SIGKILL when the parent goes; end at once if it has already gone."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if parent is not None and os.getppid() != parent:
        os._exit(SETUP_FAILED)


def unshare_namespaces() -> None:
    """New mount and process namespaces; without root also a user namespace that maps the user to itself."""
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0:
        os.unshare(os.CLONE_NEWNS | os.CLONE_NEWPID)
        return
    os.unshare(os.CLONE_NEWUSER | os.CLONE_NEWNS | os.CLONE_NEWPID)
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def forward_sigterm(child: list[int]) -> None:
    def handler(signum: int, _frame: FrameType | None) -> None:
        if child:
            os.kill(child[0], signum)

    signal.signal(signal.SIGTERM, handler)


def run_program(spec: dict[str, Any]) -> NoReturn:
    os.chdir(spec["cwd"])
    os.execvp(spec["argv"][0], spec["argv"])


def first_process(spec: dict[str, Any], status_fd: int) -> NoReturn:
    """Process 1 of the namespace: build the root, start the program, reap until it ends."""
    die_with_parent(None)
    program: list[int] = []
    forward_sigterm(program)
    enter_root(spec["root"], spec["grafts"], spec["keep"])
    pid = os.fork()
    if pid == 0:
        os.close(status_fd)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        try:
            run_program(spec)
        except OSError as error:
            print(f"cannot start {spec['argv'][0]}: {error}", file=sys.stderr, flush=True)
            os._exit(127)
    program.append(pid)
    while True:
        ended, status = os.wait()
        if ended == pid:
            os.write(status_fd, struct.pack("i", status))
            os._exit(0)


def mirror(status: int) -> NoReturn:
    """End as the program ended, by the same signal or with the same code."""
    if os.WIFSIGNALED(status):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if os.WTERMSIG(status) != signal.SIGKILL:
            signal.signal(os.WTERMSIG(status), signal.SIG_DFL)
        os.kill(os.getpid(), os.WTERMSIG(status))
    os._exit(os.WEXITSTATUS(status))


def main() -> NoReturn:
    spec = json.loads(sys.argv[1])
    die_with_parent(spec["parent"])
    if not spec["isolate"]:
        run_program(spec)
    read_fd, write_fd = os.pipe()
    unshare_namespaces()
    child: list[int] = []
    forward_sigterm(child)
    pid = os.fork()
    if pid == 0:
        os.close(read_fd)
        try:
            first_process(spec, write_fd)
        except OSError as error:
            print(f"cannot set up the namespace: {error}", file=sys.stderr, flush=True)
            os._exit(SETUP_FAILED)
    child.append(pid)
    os.close(write_fd)
    _, own_status = os.waitpid(pid, 0)
    report = os.read(read_fd, 4)
    mirror(struct.unpack("i", report)[0] if len(report) == 4 else own_status)


if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        print(f"cannot create namespaces: {error}", file=sys.stderr, flush=True)
        sys.exit(SETUP_FAILED)
