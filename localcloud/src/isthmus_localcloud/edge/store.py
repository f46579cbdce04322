"""A device's folder, laid out as the nucleus lays out its root, and what is installed in it."""

import base64
import hashlib
import json
import os
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .cloud import Cloud
from .resolver import Item

CHUNK_BYTES = 1024 * 1024


class BadArtifact(Exception):
    """A digest does not match, or an archive would write outside its folder."""


@dataclass(frozen=True)
class DeviceFolder:
    """``packages/artifacts/NAME/VERSION`` and so on, below the device's root."""

    root: Path

    def artifacts(self, name: str, version: str) -> Path:
        return self.root / "packages/artifacts" / name / version

    def unarchived(self, name: str, version: str) -> Path:
        return self.root / "packages/artifacts-unarchived" / name / version

    def work(self, name: str) -> Path:
        return self.root / "work" / name

    def log(self, name: str) -> Path:
        return self.root / "logs" / f"{name}.log"

    @property
    def plan_file(self) -> Path:
        return self.root / "config/effective.json"

    def make(self) -> None:
        for name in (
            "packages/artifacts",
            "packages/artifacts-unarchived",
            "packages/recipes",
            "work",
            "logs",
            "config",
            "tmp",
        ):
            (self.root / name).mkdir(parents=True, exist_ok=True)


def platform_matches(platform: dict[str, Any]) -> bool:
    machine = {"x86_64": "amd64", "aarch64": "aarch64"}.get(os.uname().machine, os.uname().machine)
    system = str(platform.get("os", "*"))
    architecture = str(platform.get("architecture", "*"))
    runtime = str(platform.get("runtime", "*"))
    return (
        system in ("*", "all", "linux")
        and architecture in ("*", machine)
        and runtime in ("*", "aws_nucleus_classic")
    )


def manifest_of(recipe: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """The first manifest for this machine and the index of its first artifact. Raises BadArtifact if none
    fits."""
    first = 0
    manifests: list[dict[str, Any]] = recipe.get("Manifests") or [{}]
    for manifest in manifests:
        if platform_matches(manifest.get("Platform") or {}):
            return first, manifest
        first += len(manifest.get("Artifacts") or [])
    raise BadArtifact(f"{recipe['ComponentName']} has no manifest for this platform")


def install_files(folder: DeviceFolder, item: Item, cloud: Cloud) -> None:
    """Fetch what is not here yet; a file whose digest matches is never fetched twice."""
    first, manifest = manifest_of(item.recipe)
    target = folder.artifacts(item.name, item.version)
    target.mkdir(parents=True, exist_ok=True)
    for offset, artifact in enumerate(manifest.get("Artifacts") or []):
        file = target / artifact["Uri"].rpartition("/")[2].rpartition(":")[2]
        if not (file.exists() and file_digest(file) == artifact["Digest"]):
            fetch(cloud, item, first + offset, file, artifact)
        if str(artifact.get("Unarchive", "NONE")).upper() == "ZIP":
            unpack(file, folder.unarchived(item.name, item.version) / file.stem)
    recipe = folder.root / "packages/recipes" / f"{item.name}-{item.version}.json"
    recipe.write_text(json.dumps(item.recipe, indent=2))


def fetch(cloud: Cloud, item: Item, index: int, file: Path, artifact: dict[str, Any]) -> None:
    digest = artifact["Digest"]
    draft = file.with_name(file.name + ".part")
    cloud.download(item.name, item.version, index, draft, artifact["Uri"])
    found = file_digest(draft)
    if found != digest:
        draft.unlink()
        raise BadArtifact(
            f"Integrity check of artifact {file.name} of {item.name} {item.version} failed: "
            f"the recipe names SHA-256 {digest}, but it is {found}"
        )
    draft.replace(file)


def file_digest(file: Path) -> str:
    sha = hashlib.sha256()
    with file.open("rb") as stream:
        while data := stream.read(CHUNK_BYTES):
            sha.update(data)
    return base64.b64encode(sha.digest()).decode()


def unpack(archive: Path, target: Path) -> None:
    """Into a new folder that takes its final name last. Raises BadArtifact for a member that would escape."""
    if target.exists():
        return
    draft = target.with_name(target.name + ".part")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    with zipfile.ZipFile(archive) as zipped:
        for member in zipped.infolist():
            place = (draft / member.filename).resolve()
            if not place.is_relative_to(draft.resolve()):
                raise BadArtifact(f"{archive.name} has the member {member.filename!r}, which lies outside it")
            zipped.extract(member, draft)
            if not member.is_dir():
                place.chmod((member.external_attr >> 16 & 0o777) | 0o600)
    draft.rename(target)
