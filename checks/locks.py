"""Whatever is installed is pinned and has a digest: locks, requirements, hooks and actions."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from checks.findings import Finding

IGNORED = {".git", ".venv", ".tools", ".aws-sam", ".isthmus", "build", "node_modules"}
COMMIT = re.compile(r"[0-9a-f]{40}")


def check(root: Path) -> list[Finding]:
    """Return everything below ``root`` that could be replaced without a change here."""
    found: list[Finding] = []
    for path in files(root):
        where = path.relative_to(root).as_posix()
        found += [Finding(where, what) for what in _faults(path, where)]
    return found


def files(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(set(folders) - IGNORED)
        yield from (Path(folder, name) for name in sorted(names))


def _faults(path: Path, where: str) -> Iterator[str]:
    if path.name == "uv.lock":
        yield from lock_faults(tomllib.loads(path.read_text()))
    elif path.name == "pyproject.toml":
        yield from project_faults(tomllib.loads(path.read_text()), path.with_name("uv.lock").exists())
    elif (path.name.startswith("requirements") and path.suffix == ".txt") or where == "checks/uv.txt":
        yield from requirements_faults(path.read_text())
    elif path.name == ".pre-commit-config.yaml":
        yield from hook_faults(yaml.safe_load(path.read_text()))
    elif "workflows" in path.parts and path.suffix in (".yml", ".yaml"):
        yield from action_faults(path.read_text())
    elif path.name == "Makefile" or path.suffix == ".mk" or where == ".ci/run":
        yield from install_faults(path.read_text())


def project_faults(project: dict[str, Any], has_lock: bool) -> Iterator[str]:
    """Yield what installing a project would take unpinned: its dependencies, or what builds it.

    ``uv_build`` is part of uv, which runs it without fetching anything
    (https://docs.astral.sh/uv/concepts/build-backend/).
    """
    if project.get("project", {}).get("dependencies") and not has_lock:
        yield "has dependencies, but no uv.lock beside it: run `uv lock`"
    for requirement in project.get("build-system", {}).get("requires", []):
        if not requirement.startswith("uv_build"):
            yield f"is built by {requirement}, which is fetched without a digest: use uv_build"


def lock_faults(lock: dict[str, Any]) -> Iterator[str]:
    """Yield each package of a uv.lock that a registry or a URL serves without a digest."""
    for package in lock.get("package", []):
        source, name = package["source"], package["name"]
        if {"editable", "virtual", "directory"} & set(source):
            continue
        if "git" in source and not re.search(r"#[0-9a-f]{40}$", source["git"]):
            yield f"{name} comes from git without a commit"
        artifacts = [*package.get("wheels", []), *([package["sdist"]] if "sdist" in package else [])]
        if "git" not in source and not artifacts:
            yield f"{name} has no file at all"
        for artifact in artifacts:
            if not artifact.get("hash", "").startswith("sha256:"):
                yield f"{name} has no sha256 for {artifact.get('url', 'one of its files')}"


def requirements_faults(text: str) -> Iterator[str]:
    """Yield each requirement that is not pinned by version and digest."""
    for line in text.replace("\\\n", " ").splitlines():
        entry = line.partition("#")[0].strip()
        if not entry or entry.startswith("-"):
            continue
        if "==" not in entry or "--hash=sha256:" not in entry:
            yield f"{entry.split()[0]} has no version or no --hash"


def hook_faults(config: dict[str, Any]) -> Iterator[str]:
    for repository in config["repos"]:
        local = repository["repo"] in ("local", "meta")
        if not local and not COMMIT.fullmatch(str(repository.get("rev", ""))):
            yield f"{repository['repo']} is pinned by {repository.get('rev')!r}, not by a commit"


def action_faults(text: str) -> Iterator[str]:
    for used in re.findall(r"^\s*-?\s*uses:\s*(\S+)", text, re.MULTILINE):
        _, _, revision = used.partition("@")
        if not used.startswith("./") and not COMMIT.fullmatch(revision):
            yield f"{used} is not pinned by a commit"


def install_faults(text: str) -> Iterator[str]:
    """Yield each installation in a script that would take what the index serves today."""
    for line in text.replace("\\\n", " ").splitlines():
        command = line.strip()
        if command.startswith("#"):
            continue
        if re.search(r"\bpip\"? install\b", command) and "--require-hashes" not in command:
            yield f"`{command}` installs without --require-hashes"
        locked = "--frozen" in command or "--locked" in command
        if re.search(r"\(?UV\)?\"? (sync|run)\b", command) and not locked:
            yield f"`{command}` may change the lock: add --frozen"
