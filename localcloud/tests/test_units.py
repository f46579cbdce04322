"""Pure parts: version ranges, dependency resolution, topics, S3 names."""

import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from isthmus_localcloud.edge.lambda_component import topic_matches
from isthmus_localcloud.edge.resolver import CannotResolve, resolve
from isthmus_localcloud.edge.store import BadArtifact, unpack
from isthmus_localcloud.edge.versions import satisfies
from isthmus_localcloud.sagemaker.s3_files import relative_name
from isthmus_localcloud.sagemaker.store import Job


@pytest.mark.parametrize(
    ("version", "requirement", "fits"),
    [
        ("1.2.3", "^1.0.0", True), ("2.0.0", "^1.0.0", False), ("0.2.9", "^0.2.0", True), ("0.3.0", "^0.2.0", False),
        ("1.2.9", "~1.2.0", True), ("1.3.0", "~1.2.0", False), ("1.5.0", ">=1.0.0 <2.0.0", True),
        ("2.0.0", ">=1.0.0 <2.0.0", False), ("10.0.0", ">=9.0.0", True), ("1.4.0", "1.4", True), ("1.5.0", "1.4", False),
        ("3.0.0", "^1.0.0 || ^3.0.0", True), ("7.1.0", "*", True), ("1.0.0", "=1.0.0", True), ("1.0.1", "1.0.0", False),
    ],
)  # fmt: skip
def test_version_ranges(version: str, requirement: str, fits: bool) -> None:
    assert satisfies(version, requirement) is fits


def entry(name: str, version: str, **depends: str) -> dict[str, Any]:
    rules = {other: {"VersionRequirement": text, "DependencyType": "HARD"} for other, text in depends.items()}
    recipe = {"ComponentName": name, "ComponentVersion": version, "ComponentDependencies": rules}
    return {"recipe": recipe, "function": None}


def plan(entries: list[dict[str, Any]], **components: str) -> list[tuple[str, str]]:
    wanted = {name: {"componentVersion": version} for name, version in components.items()}
    deployments = [{"id": "d", "target": "t", "components": wanted}]
    found = resolve(deployments, lambda name: [e for e in entries if e["recipe"]["ComponentName"] == name])
    return [(item.name, item.version) for item in found]


def test_dependencies_come_first_and_the_highest_fitting_version_wins() -> None:
    entries = [
        entry("a", "1.0.0", b="^1.0.0"),
        entry("b", "1.2.0"),
        entry("b", "1.10.0"),
        entry("b", "2.0.0"),
    ]
    assert plan(entries, a="1.0.0") == [("b", "1.10.0"), ("a", "1.0.0")]
    assert plan(entries, a="1.0.0", b="1.2.0") == [("b", "1.2.0"), ("a", "1.0.0")]


def test_what_cannot_be_resolved_says_why() -> None:
    with pytest.raises(CannotResolve, match=r"no version of b satisfies \^9.0.0; there are: 1.0.0"):
        plan([entry("a", "1.0.0", b="^9.0.0"), entry("b", "1.0.0")], a="1.0.0")
    with pytest.raises(CannotResolve, match="cycle"):
        plan([entry("a", "1.0.0", b="*"), entry("b", "1.0.0", a="*")], a="1.0.0")


@pytest.mark.parametrize(
    ("pattern", "topic", "matches"),
    [
        ("a/b", "a/b", True),
        ("a/+", "a/b", True),
        ("a/+", "a/b/c", False),
        ("a/#", "a/b/c", True),
        ("a", "a/b", False),
    ],
)
def test_topics(pattern: str, topic: str, matches: bool) -> None:
    assert topic_matches(pattern, topic) is matches


def test_names_in_a_channel() -> None:
    assert relative_name("data/a/x.txt", "data") == "a/x.txt"
    assert relative_name("data/a/x.txt", "data/") == "a/x.txt"
    assert relative_name("data/train.csv", "data/train.csv") == "train.csv"


def test_an_archive_cannot_write_outside_its_folder(tmp_path: Path) -> None:
    archive = tmp_path / "evil.zip"
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.writestr("../outside.txt", "x")
    with pytest.raises(BadArtifact, match="outside"):
        unpack(archive, tmp_path / "inner" / "target")
    assert not (tmp_path / "outside.txt").exists() and not (tmp_path / "inner/outside.txt").exists()


@pytest.mark.parametrize(("spot", "billed"), [(True, 40), (False, 100)])
def test_of_spot_less_is_billed_than_it_took(spot: bool, billed: int) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    job = Job("1", "eu-west-1", {"TrainingJobName": "a", "EnableManagedSpotTraining": spot}, started=start)
    job.ended = start + timedelta(seconds=100)
    found = job.describe()
    assert (found["TrainingTimeInSeconds"], found["BillableTimeInSeconds"]) == (100, billed)
