"""Build a root directory in which chosen folders lie at chosen paths, without touching the host's tree.

The new root is a tmpfs; what is not replaced is bind-mounted from the host. A target whose parent does not
exist on the host (``/var/task``) is made in the tmpfs, so nothing is ever created on the host itself.
"""

import ctypes
import os
import stat

MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC = 1, 32, 4096, 16384
MS_UNBINDABLE, MS_PRIVATE = 1 << 17, 1 << 18
# Flags that a user namespace must repeat when it remounts, or the kernel refuses (mount_namespaces(7)).
LOCKED_FLAGS = os.ST_NOSUID | os.ST_NODEV | os.ST_NOEXEC | os.ST_NOATIME | os.ST_NODIRATIME | os.ST_RELATIME

_libc = ctypes.CDLL(None, use_errno=True)
Grafts = dict[str, list[str]]


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    """mount(2). Raises OSError with the two paths."""
    if _libc.mount(source.encode(), target.encode(), kind.encode(), flags, data.encode()) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), source, None, target)


def bind(source: str, target: str, read_only: bool = False) -> None:
    mount(source, target, flags=MS_BIND | MS_REC)
    if read_only:
        locked = os.statvfs(target).f_flag & LOCKED_FLAGS
        mount(source, target, flags=MS_BIND | MS_REMOUNT | MS_RDONLY | locked)


def below(path: str, paths: list[str]) -> list[str]:
    prefix = path.rstrip("/") + "/"
    return [other for other in paths if other.startswith(prefix)]


class RootBuilder:
    """Mirrors the host under ``root``, with grafts. Host paths are read through ``host``."""

    def __init__(self, root: str, grafts: Grafts, keep: list[str]) -> None:
        self.root, self.grafts, self.keep = root, grafts, keep

    def place(self, path: str, source: str, read_only: bool = False) -> None:
        """Put the host's ``source`` at ``path``, or what replaces parts of it."""
        target = self.root + path
        if path in self.grafts:
            source, mode = self.grafts[path]
            read_only = mode == "ro"
        if path == "/proc" and self.mount_proc(target):
            return
        inner = below(path, list(self.grafts)) + below(path, self.keep)
        if inner:
            self.mirror(path, source, read_only, inner)
        elif os.path.islink(source):
            os.symlink(os.readlink(source), target)
        elif os.path.isdir(source):
            os.makedirs(target, exist_ok=True)
            bind(source, target, read_only)
        elif stat.S_ISREG(os.stat(source).st_mode):
            open(target, "x").close()
            bind(source, target, read_only)

    def mirror(self, path: str, source: str, read_only: bool, inner: list[str]) -> None:
        """A directory of which some entries are replaced: made anew, its other entries bound one by one."""
        os.makedirs(self.root + path, exist_ok=True)
        if path == "/tmp":
            os.chmod(self.root + path, 0o1777)
        names = set(os.listdir(source)) if os.path.isdir(source) else set()
        depth = len(path.rstrip("/")) + 1
        names |= {other[depth:].split("/", 1)[0] for other in inner}
        for name in sorted(names):
            child, origin = f"{path.rstrip('/')}/{name}", f"{source.rstrip('/')}/{name}"
            if child in self.keep and not os.path.lexists(origin):
                origin = child
            self.place(child, origin, read_only)

    def mount_proc(self, target: str) -> bool:
        """A /proc that knows the new process namespace; False where the kernel refuses it."""
        os.makedirs(target, exist_ok=True)
        try:
            mount("proc", target, "proc")
        except PermissionError:
            return False
        return True


def enter_root(root: str, grafts: Grafts, keep: list[str]) -> None:
    """Make the new root on the empty folder ``root`` and change into it. Raises OSError where forbidden."""
    mount("none", "/", flags=MS_REC | MS_PRIVATE)
    if not grafts:
        RootBuilder("", {}, []).mount_proc("/proc")
        return
    mount("tmpfs", root, "tmpfs", data="mode=0755")
    mount("none", root, flags=MS_UNBINDABLE)  # else a bind of a folder around it would contain it again
    hidden = [path for path in keep if any(below(target, [path]) for target in grafts)]
    RootBuilder(root, grafts, hidden).mirror("/", "/", False, [*grafts, *hidden])
    os.chroot(root)
    os.chdir("/")
