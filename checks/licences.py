"""`make licences`: what we ship under which licences, from the metadata of the very files that are shipped.

Each shipped environment is installed into a scratch folder as its layer or rig installs it: the same
hashes, the same platform, wheels only.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import Distribution, distributions
from pathlib import Path

from license_expression import ExpressionError, get_spdx_licensing
from packaging.utils import canonicalize_name

from checks.areas import Area, chosen, requirements, uv
from checks.findings import Finding, report

TABLE = "docs/licences.md"
FOLDER = "build/licences"
PLATFORM = "x86_64-manylinux_2_28"

ALLOWED = {
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "MIT-CMU",
    "MPL-2.0",
    "PSF-2.0",
    "Python-2.0",
    "Unlicense",
    "Zlib",
}
"""To pass these on takes no more than their notices, which the wheels carry; MPL-2.0 asks for the source
of changed files too, and we change none."""

CLASSIFIERS = {
    "License :: OSI Approved :: Apache Software License": "Apache-2.0",
    "License :: OSI Approved :: BSD License": "BSD-3-Clause",
    "License :: OSI Approved :: ISC License (ISCL)": "ISC",
    "License :: OSI Approved :: MIT License": "MIT",
    "License :: OSI Approved :: MIT No Attribution License (MIT-0)": "MIT-0",
    "License :: OSI Approved :: Python Software Foundation License": "PSF-2.0",
}
NAMES = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache 2.0": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "Apache License, Version 2.0": "Apache-2.0",
    "Apache License v2.0": "Apache-2.0",
    "BSD": "BSD-3-Clause",
    "BSD License": "BSD-3-Clause",
    "MIT License": "MIT",
    "MIT license": "MIT",
}
"""Free text of the old ``License`` field, as SPDX."""

HEADER = """# Licences of what isthmus ships

Written by `make licences` from the metadata of the packages as they are shipped; a test compares.
isthmus itself is Apache-2.0. What runs only on a developer's machine is not listed.
Nor is the environment in which rigs train with PyTorch: a rig that is asked for it takes it from PyPI, with
NVIDIA's libraries under NVIDIA's licences.

| package | version | licence | in |
|---|---|---|---|
"""


@dataclass(frozen=True, order=True)
class Package:
    """A shipped package; ``licence`` is an SPDX expression, or what its metadata say instead."""

    name: str
    version: str
    licence: str


def main(root: Path) -> int:
    shipped = collect(root)
    status = report("licences", judge(shipped))
    if not status:
        (root / TABLE).write_text(table(shipped))
        print(f"{TABLE}: {len(shipped)} packages")
    return status


def collect(root: Path) -> dict[Package, list[str]]:
    """Return every shipped package with the names of the environments that hold it."""
    found: dict[Package, list[str]] = {}
    for area in chosen(root):
        if area.shipped:
            for package in packages(install(root, area)):
                found.setdefault(package, []).append(area.name)
    return dict(sorted(found.items()))


def install(root: Path, area: Area) -> Path:
    """Install an area into a folder of its own and return that."""
    folder = root / FOLDER / area.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    listed = folder.with_suffix(".txt")
    listed.write_text(requirements(root, area))
    exactly = ["--only-binary=:all:", "--no-deps", "--require-hashes", "--no-config", "--quiet"]
    platform = [f"--python-platform={PLATFORM}", "--python-version=3.13"]
    uv(root, ["pip", "install", *exactly, *platform, f"--target={folder}", f"--requirements={listed}"])
    return folder


def packages(folder: Path) -> Iterable[Package]:
    for distribution in distributions(path=[str(folder)]):
        yield Package(canonicalize_name(distribution.name), distribution.version, licence(distribution))


def licence(distribution: Distribution) -> str:
    """Return the SPDX expression (PEP 639), else the classifiers', else the old field's text."""
    metadata = distribution.metadata
    if metadata.get("License-Expression"):
        return str(metadata["License-Expression"])
    classifiers = metadata.get_all("Classifier") or []
    known = [CLASSIFIERS[entry] for entry in classifiers if entry in CLASSIFIERS]
    if known:
        return " OR ".join(sorted(known))
    text = str(metadata.get("License") or "").strip().partition("\n")[0]
    return NAMES.get(text, text) or "unknown"


def judge(shipped: Iterable[Package]) -> list[Finding]:
    return [
        Finding(
            package.name, f"{package.licence} is not on the list of allowed licences (checks/licences.py)"
        )
        for package in shipped
        if not is_allowed(package.licence)
    ]


def is_allowed(expression: str) -> bool:
    """Tell whether some choice of an SPDX expression needs allowed licences only."""
    licensing = get_spdx_licensing()
    try:
        parsed = licensing.parse(expression, validate=True, strict=True)
    except ExpressionError:
        return False
    if parsed is None:
        return False
    granted = parsed.subs({
        symbol: licensing.TRUE if str(symbol) in ALLOWED else licensing.FALSE for symbol in parsed.symbols
    }).simplify()  # fmt: skip
    return bool(granted == licensing.TRUE)


def table(shipped: dict[Package, list[str]]) -> str:
    rows = (
        f"| {package.name} | {package.version} | {package.licence} | {', '.join(areas)} |"
        for package, areas in shipped.items()
    )
    return HEADER + "\n".join(rows) + "\n"
