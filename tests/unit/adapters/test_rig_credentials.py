"""A rig's credentials by its certificate, against a server that asks for one, over real TLS."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from isthmus import bootstrap_rig
from isthmus.adapters.aws.rig_credentials import CertificateCredentials
from isthmus.adapters.aws.session import client
from isthmus.errors import EnvironmentProblem, IsthmusError, PermissionMissing, Refused, Unavailable
from isthmus.rig import certificate
from isthmus.rig.membership import enrol, revoke, rotate
from tests.unit.adapters.credentials_endpoint import SECRET, Endpoint, serving


@pytest.fixture
def endpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    for name in ("HTTPS_PROXY", "https_proxy", "AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    with serving(tmp_path) as found:
        yield found


@pytest.fixture
def folder(endpoint: Endpoint, tmp_path: Path) -> Path:
    """A rig's folder after its join."""
    enrol(
        tmp_path / "rig", endpoint.registry, rig="lab-1", stack="shop", region="eu-west-1", alias="shop-rig"
    )
    return tmp_path / "rig"


def provider(folder: Path, endpoint: Endpoint) -> CertificateCredentials:
    return CertificateCredentials(lambda: certificate.proof(folder), str(endpoint.bundle))


def test_the_certificate_is_shown_and_the_thing_named(endpoint: Endpoint, folder: Path) -> None:
    found = provider(folder, endpoint).load()
    frozen = found.get_frozen_credentials()
    assert (frozen.access_key, frozen.secret_key, frozen.token) == ("ASIA1", SECRET, "token")
    (entry,) = endpoint.registry.of("lab-1")
    assert endpoint.asked == [("/role-aliases/shop-rig/credentials", "lab-1", entry.id)]
    assert found.get_frozen_credentials().access_key == "ASIA1", "an hour's credentials are kept"


def test_they_are_asked_for_again_before_they_end(endpoint: Endpoint, folder: Path) -> None:
    endpoint.lasts = datetime.timedelta(minutes=5)
    found = provider(folder, endpoint).load()
    endpoint.lasts = datetime.timedelta(hours=1)
    assert found.get_frozen_credentials().access_key == "ASIA2"
    assert found.get_frozen_credentials().access_key == "ASIA2"


def test_while_they_last_an_endpoint_that_is_away_is_no_trouble(endpoint: Endpoint, folder: Path) -> None:
    endpoint.lasts = datetime.timedelta(minutes=14)  # asked for again from 15 on, needed from 10 on
    found = provider(folder, endpoint).load()
    endpoint.answers = [(503, b"")]
    assert found.get_frozen_credentials().access_key == "ASIA1"


def test_a_rotation_is_seen_at_the_next_question(endpoint: Endpoint, folder: Path) -> None:
    endpoint.lasts = datetime.timedelta(minutes=5)
    found = provider(folder, endpoint).load()
    made, old = rotate(folder, endpoint.registry)
    found.get_frozen_credentials()
    assert [identity for _, _, identity in endpoint.asked] == [old, made.certificate_id]


def test_a_rotation_in_the_middle_of_a_question_is_no_trouble(endpoint: Endpoint, folder: Path) -> None:
    before = certificate.proof(folder)
    proofs = iter([before])
    rotating = CertificateCredentials(lambda: next(proofs, certificate.proof(folder)), str(endpoint.bundle))
    copy = {path: path.read_bytes() for path in (before.certificate, before.key)} if before else {}
    made, old = rotate(folder, endpoint.registry)
    for path, data in copy.items():
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    rotating.fetch()
    assert [identity for _, _, identity in endpoint.asked] == [old, made.certificate_id]


def test_a_revoked_certificate_gets_none_and_the_reason_says_what_to_do(
    endpoint: Endpoint, folder: Path
) -> None:
    (entry,) = revoke("lab-1", endpoint.registry)
    with pytest.raises(PermissionMissing, match="revoked, or not one of this rig") as caught:
        provider(folder, endpoint).load()
    assert entry.id[:12] in str(caught.value)
    assert "AWS IoT gives lab-1 no credentials (Access Denied)" in str(caught.value)
    assert "get a new one with `isthmus rig join`" in str(caught.value)


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (500, b"", Unavailable),
        (503, b"<html>", Unavailable),
        (429, b'{"message":"slow down"}', Unavailable),
        (404, b'{"message":"no such alias"}', EnvironmentProblem),
        (400, b"[]", EnvironmentProblem),
        (
            200,
            b'{"credentials":{"accessKeyId":"A","secretAccessKey":"' + SECRET.encode() + b'"}}',
            Unavailable,
        ),
        (200, b"", Unavailable),
    ],
)
def test_every_other_answer_has_its_error(
    endpoint: Endpoint, folder: Path, status: int, body: bytes, error: type[IsthmusError]
) -> None:
    endpoint.answers = [(status, body)]
    with pytest.raises(error) as caught:
        provider(folder, endpoint).fetch()
    assert SECRET not in str(caught.value)


def test_a_server_that_is_not_trusted_is_given_nothing(endpoint: Endpoint, folder: Path) -> None:
    with pytest.raises(Unavailable, match=r"SSL|certificate"):
        CertificateCredentials(lambda: certificate.proof(folder)).fetch()
    assert endpoint.asked == []


def test_an_endpoint_that_is_away_passes(endpoint: Endpoint, folder: Path) -> None:
    found = certificate.read(folder)
    assert found is not None
    endpoint.registry._endpoint = "127.0.0.1:1"
    enrol(folder, endpoint.registry, rig="lab-1", stack="shop", region="eu-west-1", alias="shop-rig")
    with pytest.raises(Unavailable, match="credentials provider could not be reached"):
        provider(folder, endpoint).fetch()


def test_files_that_are_gone_are_named(endpoint: Endpoint, folder: Path) -> None:
    proof = certificate.proof(folder)
    assert proof is not None
    proof.key.unlink()
    with pytest.raises(EnvironmentProblem, match=r"private\.key is missing"):
        provider(folder, endpoint).fetch()
    (folder / certificate.FILE).unlink()
    with pytest.raises(EnvironmentProblem, match="holds no certificate any more"):
        provider(folder, endpoint).fetch()


@pytest.fixture
def own_session() -> Iterator[None]:
    yield
    boto3.setup_default_session()
    client.cache_clear()


@pytest.mark.usefixtures("own_session")
def test_every_client_is_the_rigs_and_no_key_of_the_environment_is_looked_at(
    endpoint: Endpoint, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAOPERATOR")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "operators")
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(endpoint.bundle))
    with caplog.at_level(logging.DEBUG):
        found = bootstrap_rig.use_certificate(folder, rig="lab-1", stack="shop")
        assert found is not None
        signer = client("sqs")._request_signer
        assert signer._credentials.get_frozen_credentials().access_key == "ASIA1"
        assert client("sqs").meta.region_name == "eu-west-1"
    assert SECRET not in caplog.text


def test_a_folder_without_a_certificate_leaves_the_machines_credentials_in_use(tmp_path: Path) -> None:
    assert bootstrap_rig.use_certificate(tmp_path, rig="lab-1", stack="shop") is None


def test_another_rigs_certificate_is_not_used(endpoint: Endpoint, folder: Path) -> None:
    for rig, stack in (("lab-2", "shop"), ("lab-1", "shop-b")):
        with pytest.raises(
            Refused, match=r"holds the certificate of the rig lab-1 of the stack shop, not of"
        ):
            bootstrap_rig.use_certificate(folder, rig=rig, stack=stack)
