"""Bills of materials, the audit's exceptions, and licences."""

from __future__ import annotations

import datetime as dt
import json
from email.message import Message
from importlib.metadata import Distribution
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.model.bom import Bom

from checks import audit, licences, sbom
from checks.areas import Area, areas, chosen
from checks.audit import Exemption, judge, load_exemptions
from checks.findings import CheckError
from checks.licences import Package
from tests.checks.planting import ROOT

AREAS = {area.name: area for area in areas(ROOT)}

# ------------------------------------------------------------------------------ bills of materials


@pytest.fixture(scope="module", params=sorted(AREAS))
def bill(request: pytest.FixtureRequest) -> tuple[Area, dict[str, Any]]:
    area = AREAS[request.param]
    return area, sbom.make(ROOT, area)


@pytest.mark.filterwarnings("ignore::UserWarning")  # uv names its tool as CycloneDX 1.4 did
def test_a_bill_is_read_by_cyclonedxs_own_library(bill: tuple[Area, dict[str, Any]]) -> None:
    """Its schema's format checks parse each of thousands of addresses for minutes; the model is enough."""
    made = bill[1]
    assert (made["bomFormat"], made["specVersion"]) == ("CycloneDX", "1.5")
    read = Bom.from_json(made)
    assert {component.name for component in read.components} == {
        entry["name"] for entry in made["components"]
    }
    assert read.validate()


def test_a_bill_has_versions_and_digests(bill: tuple[Area, dict[str, Any]]) -> None:
    components = bill[1]["components"]
    assert components
    for component in components:
        assert component["version"]
        assert component["purl"] == f"pkg:pypi/{component['name']}@{component['version']}"
        digests = [
            digest["content"]
            for reference in component["externalReferences"]
            for digest in reference["hashes"]
            if digest["alg"] == "SHA-256"
        ]
        assert len(digests) == len(component["externalReferences"]) > 0, component["name"]


def test_the_bill_of_what_ships_is_what_is_installed(bill: tuple[Area, dict[str, Any]]) -> None:
    area, made = bill
    listed = {(entry["name"], entry["version"]) for entry in made["components"]}
    if area.shipped:
        assert listed == sbom.installed(ROOT, area)
        names = [name for name, _ in listed]
        assert len(names) == len(set(names)), "one version of each"
    if area.name == "engine-layer":
        assert {name for name, _ in listed} == {"numpy", "onnxruntime"}


def test_a_bill_for_every_lock(tmp_path: Path) -> None:
    locks = {path.parent for path in ROOT.glob("src/isthmus/rig/environments/*/uv.lock")}
    locks |= {ROOT, ROOT / "localcloud", ROOT / "checks/checkov", ROOT / "checks/toolkit"}
    assert {ROOT / area.project for area in AREAS.values()} == locks


def test_unknown_areas_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AREAS", "edge nowhere")
    with pytest.raises(CheckError, match="AREAS names nowhere; there are dev"):
        chosen(ROOT)


# --------------------------------------------------------------------------------------- the audit

REPORT = json.loads((Path(__file__).parent / "audit_report.json").read_text())
TODAY = dt.date(2026, 3, 1)
FIRST = Exemption("PYSEC-2019-179", "flask", "memory is bounded by the function", dt.date(2026, 3, 1))
SECOND = Exemption("CVE-2018-1000656", "flask", "no JSON body is read", dt.date(2026, 6, 1))
NOT_AUDITED = "edge: own was not audited: Dependency not found on PyPI and could not be audited: own (1.0)"


def judged(*exemptions: Exemption, today: dt.date = TODAY, complete: bool = True) -> list[str]:
    return [str(finding) for finding in judge({"edge": REPORT}, exemptions, today, complete=complete)]


def test_each_vulnerability_is_named_with_its_fix() -> None:
    assert judged() == [
        "edge: flask 0.5 has PYSEC-2018-66, fixed in 0.12.3",
        "edge: flask 0.5 has PYSEC-2019-179, fixed in 1.0",
        NOT_AUDITED,
    ]


def test_an_exception_holds_until_its_day_by_id_or_alias() -> None:
    assert judged(FIRST, SECOND) == [NOT_AUDITED]


def test_an_expired_exception_fails_with_its_vulnerability() -> None:
    assert judged(FIRST, SECOND, today=dt.date(2026, 3, 2)) == [
        "checks/audit-exceptions.toml: PYSEC-2019-179 of flask expired on 2026-03-01",
        "edge: flask 0.5 has PYSEC-2019-179, fixed in 1.0",
        NOT_AUDITED,
    ]


def test_an_exception_that_nothing_needs_fails_unless_only_some_areas_were_asked() -> None:
    needless = Exemption("PYSEC-2000-1", "jinja2", "gone", dt.date(2027, 1, 1))
    said = "checks/audit-exceptions.toml: PYSEC-2000-1 of jinja2 is not needed any more: remove it"
    assert judged(FIRST, SECOND, needless) == [said, NOT_AUDITED]
    assert judged(FIRST, SECOND, needless, complete=False) == [NOT_AUDITED]


def test_an_exception_covers_its_own_package_only() -> None:
    other = Exemption("PYSEC-2019-179", "django", "not ours", dt.date(2027, 1, 1))
    assert "edge: flask 0.5 has PYSEC-2019-179, fixed in 1.0" in judged(other, SECOND)


@pytest.mark.parametrize(
    "entry",
    [
        'id = "A"\npackage = "x"\nreason = "r"',
        'id = "A"\npackage = "x"\nreason = "r"\nuntil = "2027-01-01"',
        'id = "A"\npackage = "x"\nreason = " "\nuntil = 2027-01-01',
    ],
)
def test_an_exception_needs_all_its_fields(tmp_path: Path, entry: str) -> None:
    path = tmp_path / "exceptions.toml"
    path.write_text(f"[[exception]]\n{entry}\n")
    with pytest.raises(CheckError, match=r"exceptions\.toml"):
        load_exemptions(path)


def test_our_own_exceptions_are_well_formed() -> None:
    assert all(entry.reason for entry in load_exemptions(ROOT / audit.EXCEPTIONS))


# ---------------------------------------------------------------------------------------- licences


@pytest.mark.parametrize(
    ("expression", "allowed"),
    [
        ("MIT", True),
        ("BSD-3-Clause AND 0BSD AND MIT AND Zlib AND CC0-1.0", True),
        ("GPL-3.0-only OR MIT", True),
        ("GPL-3.0-only AND MIT", False),
        ("GPL-2.0-or-later", False),
        ("LicenseRef-NVIDIA-Proprietary", False),
        ("unknown", False),
        ("", False),
    ],
)
def test_an_expression_is_allowed_when_a_choice_of_it_is(expression: str, allowed: bool) -> None:
    assert licences.is_allowed(expression) is allowed


def test_a_licence_outside_the_list_is_named() -> None:
    (finding,) = licences.judge([Package("good", "1", "MIT"), Package("planted", "1", "AGPL-3.0-only")])
    assert str(finding).startswith("planted: AGPL-3.0-only is not on the list")


class Metadata(Distribution):
    """A distribution that is metadata alone."""

    def __init__(self, **fields: str | list[str]) -> None:
        self._message = Message()
        for name, values in fields.items():
            for value in values if isinstance(values, list) else [values]:
                self._message[name.replace("_", "-")] = value

    def read_text(self, filename: str) -> str | None:
        return self._message.as_string() if filename == "METADATA" else None

    def locate_file(self, path: Any) -> Any:
        raise NotImplementedError


MIT = "License :: OSI Approved :: MIT License"


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        (Metadata(License_Expression="Apache-2.0", Classifier=[MIT]), "Apache-2.0"),
        (Metadata(Classifier=["Topic :: X", MIT], License="whatever"), "MIT"),
        (Metadata(License="Apache License, Version 2.0"), "Apache-2.0"),
        (Metadata(License="Our Own Terms"), "Our Own Terms"),
        (Metadata(Name="x"), "unknown"),
    ],
)
def test_the_licence_is_read_from_the_best_field(metadata: Metadata, expected: str) -> None:
    assert licences.licence(metadata) == expected


@pytest.mark.slow
def test_the_table_of_licences_is_up_to_date_and_all_are_allowed() -> None:
    shipped = licences.collect(ROOT)
    assert licences.judge(shipped) == []
    assert (ROOT / licences.TABLE).read_text() == licences.table(shipped), "run `make licences`"
