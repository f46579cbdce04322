"""Takes out of an installed folder what no function needs, and makes its bytes repeatable.

    python3 trim.py FOLDER [--bytecode beside|instead] [--lambda-only | --baseline-only] [--keep PATTERN]...

Each removal states its reason. Licences and notices stay: they must travel with the binaries.
``--bytecode``: /opt is read-only in Lambda, so without it each cold start compiles all that it imports; ``instead``
leaves no sources. It fits this Python's minor version only. ``--lambda-only``: for Lambda's processors alone;
``--baseline-only``: of OpenBLAS's kernels for x86_64, those that every processor runs (on Arm all stay).
``--keep``: a removal that is not to be done.
"""

from __future__ import annotations

import argparse
import compileall
import os
import shutil
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from py_compile import PycInvalidationMode

from elf import slim, slim_openblas

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
    Removal("numpy/doc", "documentation"),
    Removal("numpy/random/_examples", "examples"),
    Removal("onnx/backend/test", "the onnx package's own test suite, with its data"),
    Removal("numpy/_core/_simd.*", "intrinsics by name, for the test suite"),
    Removal("numpy/_core/*_tests.*", "compiled parts of the test suite"),
    Removal("numpy/conftest.py", "configuration of the test suite"),
    Removal("onnxruntime/tools", "model conversion, for the training side"),
    Removal("onnxruntime/transformers", "graph rewriting for language models, offline"),
    Removal("onnxruntime/quantization", "quantisation, offline; needs the onnx package"),
    Removal("onnxruntime/datasets", "example models"),
    Removal("onnxruntime/backend", "the onnx package's backend interface; needs that package"),
    Removal("onnxruntime/capi/libonnxruntime.so*", "the C library again; the Python module has its own copy"),
    Removal("PIL/_avif.*.so", "AVIF; JPEG and PNG are what is read"),
    Removal("PIL/_webp.*.so", "WebP"),
    Removal("PIL/_imagingft.*.so", "fonts"),
    Removal("PIL/_imagingcms.*.so", "colour profiles"),
    Removal("PIL/_imagingtk.*.so", "windows"),
    Removal("PIL/_imagingmath.*.so", "arithmetic of images; numpy does it"),
    Removal("PIL/_imagingmorph.*.so", "morphology"),
    Removal("pillow.libs/libavif*", "AVIF"),
    Removal("pillow.libs/libwebp*", "WebP"),
    Removal("pillow.libs/libsharpyuv*", "WebP"),
    Removal("pillow.libs/libfreetype*", "fonts"),
    Removal("pillow.libs/libharfbuzz*", "fonts"),
    Removal("pillow.libs/libbrotli*", "fonts"),
    Removal("pillow.libs/libpng*", "fonts; Pillow reads PNG by itself"),
    Removal("pillow.libs/liblcms2*", "colour profiles"),
    Removal("aws_lambda_powertools/event_handler/openapi/swagger_ui", "a web page; no function serves it"),
)


EMPTIED = (
    Removal("numpy/_core/_add_newdocs.py", "hangs documentation on what is compiled, at each start"),
    Removal("numpy/_core/_add_newdocs_scalars.py", "hangs documentation on what is compiled, at each start"),
)
"""Modules that are imported, and say nothing that a function reads; with the docstrings, they go."""

NOT_IN_LAMBDA = (
    # x86_64: every processor has AVX2 (Lambda Developer Guide, "Using AVX2 vectorization in Lambda").
    *("PRESCOTT", "NEHALEM", "SANDYBRIDGE"),
    # arm64: Graviton processors are Neoverse (Lambda Developer Guide, "instruction set architecture"); ARMV8 stays for
    # those that this OpenBLAS does not know yet.
    *(
        "CORTEXA53",
        "CORTEXA57",
        "THUNDERX",
        "THUNDERX2T99",
        "THUNDERX3T110",
        "EMAG8180",
        "TSV110",
        "A64FX",
        "ARMV9SME",
    ),
)
"""Processors, by OpenBLAS's names, whose kernels a function in Lambda never calls."""

NOT_BASELINE = ("NEHALEM", "SANDYBRIDGE", "HASWELL", "SKYLAKEX")
"""Kernels for x86_64 but the oldest, which runs on every processor. Who leaves them out must say
``OPENBLAS_CORETYPE=Prescott`` before numpy is imported. No product of matrices is left to numpy at the edge."""


def trim(
    folder: Path, *, bytecode: str = "", leave_out: Collection[str] = (), keep: Collection[str] = ()
) -> int:
    """Remove, slim, compile, set all times and modes; return the bytes that went."""
    before = weight_bytes(folder)
    for removal in (entry for entry in REMOVALS if entry.pattern not in keep):
        _remove(folder, removal.pattern)
    for path in sorted(folder.rglob("*.so*")):
        _slim(path, leave_out)
    for removal in EMPTIED if bytecode == "instead" else ():
        for path in folder.glob(removal.pattern):
            path.write_text("")
    if bytecode:
        _compile(folder, instead=bytecode == "instead")
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
        os.utime(path, (EPOCH_SECONDS, EPOCH_SECONDS))
    return before - weight_bytes(folder)


def weight_bytes(path: Path) -> int:
    """Return the bytes of a file, or of all files below a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def _remove(folder: Path, pattern: str) -> None:
    # From the deepest up: a match may lie inside another.
    for path in sorted(folder.glob(pattern), key=lambda found: -len(found.parts)):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _slim(path: Path, leave_out: Collection[str]) -> None:
    data = path.read_bytes()
    if leave_out and "openblas" in path.name:
        path.write_bytes(slim_openblas(data, leave_out))
    else:
        path.write_bytes(slim(data))


def _compile(folder: Path, *, instead: bool) -> None:
    """Write bytecode that is never held against its source (PEP 552): no times, and no second look at start."""
    if os.environ.get("PYTHONHASHSEED") != "0":
        raise SystemExit("set PYTHONHASHSEED=0: the order of a set is written into bytecode")
    compiled = compileall.compile_dir(
        folder,
        quiet=1,
        legacy=instead,
        optimize=2 if instead else 0,
        stripdir=str(folder),
        prependdir="/opt/python",
        invalidation_mode=PycInvalidationMode.UNCHECKED_HASH,
    )
    if not compiled:
        raise SystemExit(f"{folder} holds a file that cannot be compiled")
    for source in folder.rglob("*.py") if instead else ():
        source.unlink()


def main(arguments: list[str]) -> int:
    """Trim the folder and say what it weighs."""
    parser = argparse.ArgumentParser(prog="trim.py")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--bytecode", choices=("beside", "instead"), default="")
    kernels = parser.add_mutually_exclusive_group()
    kernels.add_argument(
        "--lambda-only", action="store_const", dest="leave_out", const=NOT_IN_LAMBDA, default=()
    )
    kernels.add_argument("--baseline-only", action="store_const", dest="leave_out", const=NOT_BASELINE)
    parser.add_argument("--keep", action="append", default=[])
    options = parser.parse_args(arguments)
    saved = trim(options.folder, bytecode=options.bytecode, leave_out=options.leave_out, keep=options.keep)
    sys.stdout.write(f"{options.folder.name}: {weight_bytes(options.folder):,} bytes, {saved:,} trimmed\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
