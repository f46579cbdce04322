"""Takes out of an installed folder what no function needs, and makes its bytes repeatable.

    python3 trim.py FOLDER

Each removal states its reason. Licences and notices stay: they must travel with the binaries.
"""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

EPOCH_SECONDS = 315_619_200
"""1980-01-02 UTC: one time for all files, and in no time zone before 1980, which zip cannot name."""


@dataclass(frozen=True)
class Removal:
    """A glob below the folder, and why what it matches can go."""

    pattern: str
    reason: str


REMOVALS = (
    Removal("bin", "console scripts; nothing in a function calls them, and they name the build's Python"),
    Removal("**/__pycache__", "compiled for the build machine's Python, with its times inside"),
    Removal("*.dist-info/RECORD", "lists what was installed, removed files included"),
    Removal("*.dist-info/INSTALLER", "names the tool that installed"),
    Removal("*.dist-info/REQUESTED", "left by the installer"),
    Removal("*.dist-info/direct_url.json", "names a path of the build machine"),
    Removal("*.dist-info/uv_cache.json", "left by the installer"),
    Removal("*.dist-info/sboms", "bills of material of the wheel; the lock and its hashes name the same"),
    Removal(".lock", "left by the installer"),
    Removal("**/*.pyi", "type stubs; read by checkers, never at run time"),
    Removal("**/*.pxd", "Cython declarations, for compiling extensions"),
    Removal("**/*.a", "static libraries, for compiling extensions"),
    Removal("**/*.h", "C headers, for compiling extensions"),
    Removal("**/tests", "test suites of the packages"),
    Removal("numpy/f2py", "Fortran compiler interface"),
    Removal("numpy/_core/include", "C headers, for compiling extensions"),
    Removal("numpy/_pyinstaller", "hooks of a packager that is not used"),
    Removal("numpy/typing", "typing aliases; nothing imports them when nothing is checked"),
    Removal("numpy/doc", "documentation"),
    Removal("numpy/random/_examples", "examples"),
    Removal("numpy/conftest.py", "configuration of the test suite"),
    Removal("onnxruntime/tools", "model conversion, for the training side"),
    Removal("onnxruntime/transformers", "graph rewriting for language models, offline"),
    Removal("onnxruntime/quantization", "quantisation, offline; needs the onnx package"),
    Removal("onnxruntime/datasets", "example models"),
    Removal("onnxruntime/backend", "the onnx package's backend interface; needs that package"),
    Removal("onnxruntime/capi/libonnxruntime.so*", "the C library again; the Python module has its own copy"),
    Removal("aws_lambda_powertools/event_handler/openapi/swagger_ui", "a web page; no function serves it"),
)


def trim(folder: Path) -> dict[str, int]:
    """Remove, set all times and modes, and return the bytes that each pattern took away."""
    saved = {removal.pattern: _remove(folder, removal.pattern) for removal in REMOVALS}
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
        os.utime(path, (EPOCH_SECONDS, EPOCH_SECONDS))
    return saved


def weight_bytes(path: Path) -> int:
    """Return the bytes of a file, or of all files below a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def _remove(folder: Path, pattern: str) -> int:
    removed = 0
    # From the deepest up: a match may lie inside another.
    for path in sorted(folder.glob(pattern), key=lambda found: -len(found.parts)):
        removed += weight_bytes(path)
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    return removed


def main(arguments: list[str]) -> int:
    """Trim the folder and say what it weighs."""
    folder = Path(arguments[0])
    saved = sum(trim(folder).values())
    sys.stdout.write(f"{folder.name}: {weight_bytes(folder):,} bytes, {saved:,} trimmed\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
