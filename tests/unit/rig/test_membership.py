"""A rig's certificate on its disk: made there, kept to its owner, rotated and taken back."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from isthmus.adapters.local.certificates import MemoryCertificates
from isthmus.errors import InvalidDocument, InvalidInput, Refused
from isthmus.model.rig_identity import Certificate
from isthmus.rig import certificate
from isthmus.rig.membership import Enrolled, enrol, revoke, rotate


def join(folder: Path, registry: MemoryCertificates, **changes: Any) -> Enrolled:
    given = {"rig": "lab-1", "stack": "shop", "region": "eu-west-1", "alias": "shop-rig"} | changes
    return enrol(folder, registry, **given)


def files(folder: Path) -> tuple[Path, Path]:
    proof = certificate.proof(folder)
    assert proof is not None
    return proof.certificate, proof.key


def test_a_join_leaves_a_key_of_this_machine_and_a_certificate_of_it(tmp_path: Path) -> None:
    registry = MemoryCertificates()
    made = join(tmp_path / "rig", registry)
    assert made.new
    assert made.identity == certificate.read(tmp_path / "rig")
    pem, key_file = files(tmp_path / "rig")
    key = load_pem_private_key(key_file.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert key.curve.name == "secp256r1"
    told = x509.load_pem_x509_certificate(pem.read_bytes())
    assert told.public_key() == key.public_key()
    assert [entry.value for entry in told.subject] == ["lab-1"]
    assert certificate.expires(pem) == told.not_valid_after_utc


def test_its_files_are_the_owners_alone(tmp_path: Path) -> None:
    join(tmp_path, MemoryCertificates())
    pem, key = files(tmp_path)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (pem, key, tmp_path / certificate.FILE)}
    assert set(modes.values()) == {0o600}, modes
    assert stat.S_IMODE(key.parent.stat().st_mode) == 0o700
    assert b"PRIVATE" not in (tmp_path / certificate.FILE).read_bytes()


def test_joining_again_keeps_a_certificate_that_is_of_use(tmp_path: Path) -> None:
    registry = MemoryCertificates()
    first = join(tmp_path, registry).identity
    again = join(tmp_path, registry, alias="other-alias")
    assert not again.new
    assert (again.identity.certificate_id, again.identity.alias) == (first.certificate_id, "other-alias")
    assert certificate.read(tmp_path) == again.identity
    assert len(registry.of("lab-1")) == 1


@pytest.mark.parametrize("trouble", ["revoked", "removed", "key lost", "another stack", "another rig"])
def test_joining_again_replaces_one_that_is_of_no_use(tmp_path: Path, trouble: str) -> None:
    registry = MemoryCertificates()
    first = join(tmp_path, registry).identity
    (entry,) = registry.of("lab-1")
    match trouble:
        case "revoked":
            registry.deactivate(entry)
        case "removed":
            registry.remove(entry, "lab-1")
        case "key lost":
            files(tmp_path)[1].unlink()
    changes = {"another stack": {"stack": "shop-b"}, "another rig": {"rig": "lab-2"}}.get(trouble, {})
    made = join(tmp_path, registry, **changes)
    assert made.new
    assert made.identity.certificate_id != first.certificate_id
    assert all(path.is_file() for path in files(tmp_path))
    assert len(list((tmp_path / certificate.CERTIFICATES).iterdir())) == 1, "the old key is gone"


class Watching(MemoryCertificates):
    """Notes which certificate the folder says is in use whenever one is removed."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder, self.in_use_at_removal = folder, ""

    def remove(self, certificate_: Certificate, rig: str) -> None:
        found = certificate.read(self.folder)
        self.in_use_at_removal = found.certificate_id if found else ""
        super().remove(certificate_, rig)


def test_a_rotation_takes_the_old_certificate_back_when_the_new_one_is_in_use(tmp_path: Path) -> None:
    registry = Watching(tmp_path)
    first = join(tmp_path, registry).identity
    made, old = rotate(tmp_path, registry)
    assert old == first.certificate_id != made.certificate_id
    assert registry.in_use_at_removal == made.certificate_id
    assert [(entry.id, entry.active) for entry in registry.of("lab-1")] == [(made.certificate_id, True)]
    assert certificate.read(tmp_path) == made


def test_a_rotation_that_gets_no_certificate_leaves_the_old_one_in_use(tmp_path: Path) -> None:
    class Broken(MemoryCertificates):
        def issue(self, rig: str, request: str) -> tuple[Certificate, str]:
            if self.known:
                raise ConnectionError
            return super().issue(rig, request)

    registry = Broken()
    first = join(tmp_path, registry).identity
    with pytest.raises(ConnectionError):
        rotate(tmp_path, registry)
    assert certificate.read(tmp_path) == first
    assert all(path.is_file() for path in files(tmp_path))
    assert [entry.active for entry in registry.of("lab-1")] == [True]


def test_without_a_certificate_there_is_nothing_to_rotate(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="holds no certificate; get one with `isthmus rig join`"):
        rotate(tmp_path, MemoryCertificates())
    assert certificate.proof(tmp_path) is None


def test_a_file_that_something_else_wrote_is_refused(tmp_path: Path) -> None:
    (tmp_path / certificate.FILE).write_text("{}")
    with pytest.raises(InvalidDocument, match=certificate.FILE):
        certificate.read(tmp_path)


def test_revoking_takes_all_certificates_or_the_one_that_is_named(tmp_path: Path) -> None:
    registry = MemoryCertificates()
    made = [join(tmp_path / str(n), registry).identity.certificate_id for n in range(3)]
    assert [entry.id for entry in revoke("lab-1", registry, made[1][:20])] == [made[1]]
    assert {entry.id for entry in registry.of("lab-1") if entry.active} == {made[0], made[2]}
    with pytest.raises(Refused, match=rf"lab-1 has no active certificate {made[1][:20]}; active: "):
        revoke("lab-1", registry, made[1][:20])
    assert {entry.id for entry in revoke("lab-1", registry)} == {made[0], made[2]}
    assert not any(entry.active for entry in registry.of("lab-1"))
    with pytest.raises(Refused, match="no active certificate at all; active: none"):
        revoke("lab-1", registry)


def test_a_beginning_that_several_have_is_not_guessed_at(tmp_path: Path) -> None:
    registry = MemoryCertificates()
    for number in range(17):  # of 16 hex digits one comes twice
        join(tmp_path / str(number), registry)
    firsts = [entry.id[0] for entry in registry.of("lab-1")]
    twice = next(digit for digit in firsts if firsts.count(digit) > 1)
    with pytest.raises(InvalidInput, match="give more of the id"):
        revoke("lab-1", registry, twice)
    assert all(entry.active for entry in registry.of("lab-1"))
