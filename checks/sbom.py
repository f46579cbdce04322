"""`make sbom`: a software bill of materials of each environment, in CycloneDX 1.5.

Written by uv from the lock (https://docs.astral.sh/uv/concepts/projects/export/), so it lists what the
lock pins, with the digest of every file that may be installed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from checks.areas import LAMBDA, Area, chosen, export, requirements

FOLDER = "build/sbom"


def main(root: Path) -> int:
    folder = root / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for area in chosen(root):
        bill = make(root, area)
        path = folder / f"{area.name}.cdx.json"
        path.write_text(json.dumps(bill, indent=1) + "\n")
        print(f"{path.relative_to(root)}: {len(bill['components'])} components")
    return 0


def make(root: Path, area: Area) -> dict[str, Any]:
    """Return the bill of an area; of a shipped one, only what its platform installs."""
    bill: dict[str, Any] = json.loads(export(root, area, "cyclonedx1.5"))
    return only(bill, installed(root, area)) if area.shipped else bill


def installed(root: Path, area: Area) -> set[tuple[str, str]]:
    """Return name and version of what the shipped platform installs of an area's requirements."""
    lines = requirements(root, area).replace("\\\n", " ").splitlines()
    wanted = [Requirement(line.partition(" --hash")[0]) for line in lines if line[:1].isalnum()]
    return {
        (entry.name, str(entry.specifier).removeprefix("=="))
        for entry in wanted
        if entry.marker is None or entry.marker.evaluate(LAMBDA)
    }


def only(bill: dict[str, Any], kept: set[tuple[str, str]]) -> dict[str, Any]:
    """Return the bill with the kept components, and the dependencies between them."""
    components = [entry for entry in bill["components"] if (entry["name"], entry["version"]) in kept]
    references = {entry["bom-ref"] for entry in (*components, bill["metadata"]["component"])}
    edges = [
        {**edge, "dependsOn": [name for name in edge.get("dependsOn", []) if name in references]}
        for edge in bill.get("dependencies", [])
        if edge["ref"] in references
    ]
    return {**bill, "components": components, "dependencies": edges}
