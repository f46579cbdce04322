"""``isthmus rig join``'s certificate, ``rotate`` and ``revoke``, as they are typed, against IoT's interface."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from isthmus import bootstrap_rig
from isthmus.adapters.aws.session import client
from isthmus.cli import rig_identity
from isthmus.cli.main import main
from isthmus.cli.output import Output
from isthmus.rig import certificate

pytestmark = pytest.mark.usefixtures("aws")

OUTPUTS = {
    "TrainAndDeployMachine": "arn:aws:states:eu-west-1:123456789012:stateMachine:shop-train-and-deploy",
    "RigAlias": "shop-rig",
}


@pytest.fixture
def folder(aws: None, tmp_path: Path) -> Path:
    """A rig's folder after its join."""
    client("iot").create_policy(policyName="shop-rig", policyDocument="{}")
    enrolled = bootstrap_rig.enrol_rig("lab-1", OUTPUTS, stack="shop", folder=tmp_path)
    assert enrolled is not None
    assert "it proves itself by its new certificate" in rig_identity.said(enrolled, "shop")
    return tmp_path


def statuses() -> list[str]:
    return [entry["status"] for entry in client("iot").list_certificates()["certificates"]]


def test_a_join_says_where_credentials_are_given_and_by_which_alias(folder: Path) -> None:
    found = certificate.read(folder)
    assert found is not None
    assert (found.rig, found.stack, found.region, found.alias) == ("lab-1", "shop", "eu-west-1", "shop-rig")
    assert found.endpoint.endswith("credentials.iot.eu-west-1.amazonaws.com")
    again = bootstrap_rig.enrol_rig("lab-1", OUTPUTS, stack="shop", folder=folder)
    assert again is not None
    assert rig_identity.said(again, "shop") == f"it keeps its certificate {found.certificate_id[:12]}"
    assert statuses() == ["ACTIVE"]


def test_a_stack_of_an_older_version_gives_none_and_says_what_to_do(tmp_path: Path) -> None:
    older = {name: value for name, value in OUTPUTS.items() if name != "RigAlias"}
    enrolled = bootstrap_rig.enrol_rig("lab-1", older, stack="shop", folder=tmp_path)
    assert enrolled is None
    assert "the stack shop is of an older version; deploy it, then join again" in rig_identity.said(
        enrolled, "shop"
    )
    assert certificate.read(tmp_path) is None


def test_rotate_and_revoke_as_they_are_typed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = certificate.read(folder)
    assert main(["rig", "rotate", "--folder", str(folder), "--json"]) == 0
    answer, new = json.loads(capsys.readouterr().out), certificate.read(folder)
    assert old is not None
    assert new is not None
    assert answer == {"rig": "lab-1", "certificate": new.certificate_id, "removed": old.certificate_id}
    assert main(["rig", "revoke", "lab-1", "--stack", "shop", "--certificate", new.certificate_id[:8]]) == 0
    text = capsys.readouterr().out
    assert new.certificate_id[:12] in text
    assert "credentials that were given out end within an hour" in text
    assert statuses() == ["INACTIVE"]
    assert main(["rig", "revoke", "lab-1", "--stack", "shop"]) == 1
    assert "lab-1 has no active certificate" in capsys.readouterr().err


def test_without_a_certificate_a_rotation_is_refused_and_a_run_says_what_it_works_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["rig", "rotate", "--folder", str(tmp_path)]) == 1
    assert "holds no certificate; get one with `isthmus rig join`" in capsys.readouterr().err
    rig_identity.use(tmp_path, rig="lab-1", stack="shop", output=Output(False))
    said = capsys.readouterr().err
    assert "this agent works with the machine's own AWS credentials" in said
    assert "`isthmus rig join --name lab-1` gives it one" in said
