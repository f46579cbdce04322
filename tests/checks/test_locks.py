"""Everything that is installed is pinned by digest; what is not is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from checks.locks import (
    action_faults,
    check,
    files,
    hook_faults,
    install_faults,
    lock_faults,
    requirements_faults,
)
from tests.checks.planting import ROOT

WHEEL = {"url": "https://files/x.whl", "hash": "sha256:" + "0" * 64}
REGISTRY = {"registry": "https://pypi.org/simple"}
COMMIT = "a" * 40


def package(**fields: Any) -> dict[str, Any]:
    return {"package": [{"name": "x", "version": "1", "source": REGISTRY, **fields}]}


def test_whatever_this_repository_installs_is_pinned() -> None:
    assert check(ROOT) == []


def test_every_lock_and_every_requirement_is_looked_at() -> None:
    seen = {path.relative_to(ROOT).as_posix() for path in files(ROOT)}
    assert {
        "uv.lock",
        "localcloud/uv.lock",
        "checks/checkov/uv.lock",
        "checks/toolkit/uv.lock",
        "checks/uv.txt",
        "layers/core/requirements.txt",
        "layers/onnx_runtime/requirements.txt",
        "layers/images/requirements.txt",
        "layers/quantization/requirements.txt",
        "edge_lambda/requirements.txt",
        "src/isthmus/rig/environments/mxnet-1.9.1/uv.lock",
        "src/isthmus/rig/environments/torch-2.13.0/uv.lock",
        "Makefile",
        ".ci/run",
    } <= seen


@pytest.mark.parametrize(
    ("lock", "count"),
    [
        (package(wheels=[WHEEL]), 0),
        (package(sdist=WHEEL), 0),
        (package(wheels=[WHEEL, {"url": "https://files/y.whl"}]), 1),
        (package(sdist={"url": "https://files/x.tar.gz", "hash": "md5:0"}), 1),
        (package(), 1),
        (package(source={"editable": "."}), 0),
        (package(source={"git": f"https://host/x?rev=main#{COMMIT}"}), 0),
        (package(source={"git": "https://host/x?rev=main"}), 1),
    ],
)
def test_a_lock_without_a_digest_is_named(lock: dict[str, Any], count: int) -> None:
    assert len(list(lock_faults(lock))) == count


@pytest.mark.parametrize(
    ("text", "count"),
    [
        (f"# why\nx==1 \\\n    --hash=sha256:{'0' * 64}\n", 0),
        ("x==1\n", 1),
        (f"x>=1 --hash=sha256:{'0' * 64}\n", 1),
        ("x==1 --hash=md5:0\n", 1),
        ("--only-binary :all:\n", 0),
    ],
)
def test_a_requirement_without_a_digest_is_named(text: str, count: int) -> None:
    assert len(list(requirements_faults(text))) == count


@pytest.mark.parametrize(("revision", "count"), [(COMMIT, 0), ("v4.5.0", 1), ("main", 1), ("", 1)])
def test_a_hook_is_pinned_by_a_commit(revision: str, count: int) -> None:
    repository = {"repo": "https://host/hooks", "rev": revision, "hooks": []}
    assert len(list(hook_faults({"repos": [{"repo": "local"}, repository]}))) == count


@pytest.mark.parametrize(
    ("used", "count"),
    [(f"actions/checkout@{COMMIT}", 0), ("actions/checkout@v4", 1), ("./own", 0), ("a/b", 1)],
)
def test_an_action_is_pinned_by_a_commit(used: str, count: int) -> None:
    assert len(list(action_faults(f"steps:\n  - uses: {used}\n"))) == count


@pytest.mark.parametrize(
    ("line", "count"),
    [
        ("\t@.tools/bin/pip install uv==1.0", 1),
        ("\t@.tools/bin/pip install --require-hashes -r checks/uv.txt", 0),
        ('\t"$(UV)" pip install --quiet \\\n\t\t--require-hashes -r x', 0),
        ("\t@$(UV) sync --quiet", 1),
        ("\t@$(UV) sync --frozen --quiet", 0),
        ("\t@$(UV) run --project localcloud pytest", 1),
        ("# pip install anything", 0),
    ],
)
def test_an_installation_that_takes_what_there_is_is_named(line: str, count: int) -> None:
    assert len(list(install_faults(line + "\n"))) == count


def test_a_project_without_a_lock_is_named(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\ndependencies = ["y"]\n')
    (finding,) = check(tmp_path)
    assert str(finding) == "pyproject.toml: has dependencies, but no uv.lock beside it: run `uv lock`"


def test_a_backend_that_is_fetched_is_named(tmp_path: Path) -> None:
    path = tmp_path / "pyproject.toml"
    path.write_text('[build-system]\nrequires = ["uv_build>=0.13"]\n')
    assert check(tmp_path) == []
    path.write_text('[build-system]\nrequires = ["hatchling"]\n')
    (finding,) = check(tmp_path)
    assert "is built by hatchling" in finding.what


def test_findings_name_their_file(tmp_path: Path) -> None:
    folder = tmp_path / ".github/workflows"
    folder.mkdir(parents=True)
    (folder / "ci.yml").write_text("      - uses: actions/checkout@v4\n")
    (tmp_path / "requirements-dev.txt").write_text("x==1\n")
    (tmp_path / ".pre-commit-config.yaml").write_text(
        "repos: [{repo: https://host/hooks, rev: v1, hooks: []}]\n"
    )
    assert {finding.where for finding in check(tmp_path)} == {
        ".github/workflows/ci.yml",
        "requirements-dev.txt",
        ".pre-commit-config.yaml",
    }
