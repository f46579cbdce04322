"""What a device lets in: keys that follow each other, releases that rise, and archives of an enemy."""

from __future__ import annotations

import json
import resource
import stat
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bundle_factory import KeySigner, make_bundle

from isthmus.edge.model_store import InService, ModelStore
from isthmus.edge.trust import Papers, Trust
from isthmus.errors import InvalidDocument, SignatureInvalid
from isthmus.inference.archive import pack_bundle
from isthmus.inference.bundle import Bundle
from isthmus.inference.signed import key_id, seal
from isthmus.model.signing import KeyDocument, ReleaseDocument
from isthmus.model.units import GIB, MIB


def unseen(bundle: Bundle) -> None:
    """A proof that costs nothing, for tests of what is refused before one."""


class Device:
    """A store that outlives its process; ``pinned`` is what each process is told."""

    def __init__(self, folder: Path, pinned: KeySigner) -> None:
        self.folder, self.pinned, self.proven = folder, pinned, 0

    def starts(self, artifact: Path | None, *, place: str = "", **papers: Any) -> InService:
        """Start a process with what was deployed."""

        def proof(bundle: Bundle) -> None:
            self.proven += 1

        store = ModelStore(self.folder / "store", self.pinned.public_key(), Papers(**papers))
        return store.update(artifact, proof, place)

    def artifact(self, release: int, signer: KeySigner | None = None, **changes: Any) -> Path:
        """Make an artifact."""
        folder = self.folder / f"made{len(list(self.folder.glob('made*')))}"
        make_bundle(folder, signer or self.pinned, release=release, **changes)
        return pack_bundle(folder, folder.with_suffix(".zip")).path


@pytest.fixture
def device(tmp_path: Path, signer: KeySigner) -> Device:
    return Device(tmp_path, signer)


def keys(version: int, named: list[KeySigner], signers: list[KeySigner]) -> bytes:
    return seal(KeyDocument(version=version, keys=tuple(key.public_key() for key in named)), signers)


# ------------------------------------------------------------------------------ keys


def test_a_new_key_comes_by_a_document_of_an_old_one(device: Device, signer: KeySigner) -> None:
    second = KeySigner()
    device.starts(device.artifact(1))
    newer = device.artifact(2, second)
    assert "SignatureInvalid: no key that is trusted here" in device.starts(newer).refused
    introduced = keys(1, [signer, second], [signer, second])
    taken = device.starts(newer, keys=[introduced])
    assert (taken.refused, taken.warnings, taken.bundle.manifest.release) == ("", (), 2)
    assert device.starts(device.artifact(3, second)).refused == "", "it is known without the document"
    assert device.starts(device.artifact(4)).refused == "", "the old one still is too"


def test_what_the_environment_pins_later_changes_nothing(device: Device) -> None:
    device.starts(device.artifact(1))
    device.pinned = KeySigner()
    assert "SignatureInvalid" in device.starts(device.artifact(2)).refused


def test_a_key_that_is_named_no_more_signs_nothing_more(device: Device, signer: KeySigner) -> None:
    second = KeySigner()
    device.starts(device.artifact(1))
    revoked = keys(1, [second], [signer, second])
    kept = device.starts(device.artifact(2), keys=[revoked])
    assert kept.bundle.manifest.release == 1, "what is in service serves on"
    name = key_id(signer.public_key())[:12]
    assert kept.refused == f"SignatureInvalid: the bundle is signed by {name}, which is trusted no more"
    assert kept.warnings == (f"the model in service is signed by {name}, which is trusted no more",)
    assert device.starts(None).warnings == kept.warnings
    assert device.starts(device.artifact(3, second)).warnings == ()


def test_a_model_of_a_revoked_key_is_still_told_from_a_damaged_one(device: Device, signer: KeySigner) -> None:
    second = KeySigner()
    first = device.starts(device.artifact(1))
    device.starts(None, keys=[keys(1, [second], [signer, second])])
    (first.bundle.folder / "model.onnx").write_bytes(b"lost")
    taken = device.starts(device.artifact(2, second))
    assert (taken.bundle.manifest.release, taken.refused) == (2, "")


def test_a_device_that_was_away_follows_the_chain(device: Device, signer: KeySigner) -> None:
    second, third = KeySigner(), KeySigner()
    device.starts(device.artifact(1))
    chain = [keys(1, [second], [signer, second]), keys(2, [third], [second, third])]
    assert device.starts(device.artifact(2, third), keys=chain).refused == ""
    assert device.starts(device.artifact(3, third), keys=chain).warnings == ()
    assert "trusted no more" in device.starts(device.artifact(4, second), keys=chain).refused


@pytest.mark.parametrize("trouble", ["a stranger's", "unsigned by the new", "older", "no key", "no document"])
def test_key_documents_that_do_not_lead_on_change_nothing(
    device: Device, signer: KeySigner, trouble: str
) -> None:
    second, stranger = KeySigner(), KeySigner()
    device.starts(device.artifact(1), keys=[keys(2, [signer, second], [signer, second])])
    payload = KeyDocument(version=3, keys=(b"no key",))
    document = {
        "a stranger's": keys(3, [stranger], [stranger]),
        "unsigned by the new": keys(3, [stranger], [signer]),
        "older": keys(1, [signer, stranger], [signer, stranger]),
        "no key": seal(payload, [signer]),
        "no document": b'{"payload": 7}',
    }[trouble]
    kept = device.starts(device.artifact(2, stranger), keys=[document])
    assert (kept.bundle.manifest.release, kept.refused.partition(":")[0]) == (1, "SignatureInvalid")
    assert bool(kept.warnings) is (trouble != "older")
    assert device.starts(device.artifact(3, second)).refused == ""


def test_nobody_is_handed_more_documents_than_are_read() -> None:
    signer = KeySigner()
    trust = Trust(keys={key_id(signer.public_key()): signer.public_key()})
    with pytest.raises(InvalidDocument, match="17 key documents came; at most 16"):
        trust.following([keys(number + 1, [signer], [signer]) for number in range(17)])


def test_a_manifests_signature_is_none_for_a_document(device: Device, signer: KeySigner) -> None:
    """Bundles and documents are signed by the same key: neither passes for the other."""
    bundle = make_bundle(device.folder / "b", signer)
    digest = key_id(signer.public_key())
    raw = json.dumps({"payload": "e30=", "signatures": {digest: "MAA="}}).encode()
    trust = Trust(keys={digest: signer.public_key()})
    with pytest.raises(SignatureInvalid):
        trust.release_of(bundle, raw)


# ------------------------------------------------------------------------------ releases


def test_a_rollback_is_a_new_release_of_an_old_bundle(device: Device, signer: KeySigner) -> None:
    first, second = device.artifact(1), device.artifact(2)
    bundle = device.starts(first).bundle.sha256
    device.starts(second)
    assert device.starts(first).bundle.manifest.release == 2
    paper = seal(ReleaseDocument(model="fashion", release=3, bundle=bundle), [signer])
    back = device.starts(first, release=paper)
    assert (back.bundle.manifest.release, back.refused) == (1, "")
    assert device.starts(first).refused == "", "what is in service needs no paper"
    assert "release 2 is earlier than 3" in device.starts(second).refused
    assert device.starts(device.artifact(4)).bundle.manifest.release == 4


@pytest.mark.parametrize("change", [{"bundle": "0" * 64}, {"model": "other"}, {"release": 1}])
def test_a_paper_of_something_else_lets_nothing_back(
    device: Device, signer: KeySigner, change: dict[str, Any]
) -> None:
    first, second = device.artifact(1), device.artifact(2)
    told = {"model": "fashion", "release": 3, "bundle": device.starts(first).bundle.sha256, **change}
    device.starts(second)
    kept = device.starts(first, release=seal(ReleaseDocument(**told), [signer]))
    assert kept.refused.startswith("ReleaseOutdated")


def test_a_strangers_paper_is_refused(device: Device) -> None:
    first, second = device.artifact(1), device.artifact(2)
    told = ReleaseDocument(model="fashion", release=3, bundle=device.starts(first).bundle.sha256)
    device.starts(second)
    assert (
        "a release document must be signed" in device.starts(first, release=seal(told, [KeySigner()])).refused
    )


def test_another_models_bundle_has_no_business_here(device: Device) -> None:
    device.starts(device.artifact(1))
    kept = device.starts(device.artifact(9, model="other"))
    assert kept.refused == "SignatureInvalid: the bundle is of the model other; this store is of fashion"


def test_what_was_committed_comes_back_to_a_disk_that_lost_it(device: Device, signer: KeySigner) -> None:
    """Its release is below the mark after a rollback, and it is still the one to serve."""
    first, second = device.artifact(1), device.artifact(2)
    bundle = device.starts(first).bundle
    device.starts(second)
    device.starts(
        first, release=seal(ReleaseDocument(model="fashion", release=3, bundle=bundle.sha256), [signer])
    )
    (bundle.folder / "model.onnx").write_bytes(b"lost")
    assert device.starts(first).bundle.manifest.release == 1


# ------------------------------------------------------------------------------ archives


def entry(name: str, mode: int = stat.S_IFREG | 0o644) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, mode << 16
    return info


def bomb(says_bytes: int) -> Callable[[Path], None]:
    """Write an archive of one file of 10 GiB, which takes 10 MB, and which it says is of so many bytes."""

    def write(path: Path) -> None:
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        piece = packer.compress(bytes(MIB)) + packer.flush(zlib.Z_FULL_FLUSH)
        body = piece * (10 * GIB // MIB) + packer.flush(zlib.Z_FINISH)
        info = entry("model.onnx")
        info.compress_type = zipfile.ZIP_DEFLATED
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(info, b"")
            archive.fp.seek(30 + len(info.filename))  # of a local header
            archive.fp.write(body)
            archive.start_dir = archive.fp.tell()
            info.compress_size, info.file_size = len(body), says_bytes

    return write


def unpacked_bytes(path: Path) -> int:
    """Return what the archive's one file really is, read until it is more than 1 GiB."""
    unpacker, total, fed = zlib.decompressobj(-15), 0, path.read_bytes()[40:]
    while fed and total < GIB:
        total += len(unpacker.decompress(fed, 64 * MIB))
        fed = unpacker.unconsumed_tail
    return total


def hostile(*entries: zipfile.ZipInfo) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            for info in entries:
                archive.writestr(info, "/etc/passwd")

    return write


def many(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(5000):
            archive.writestr(str(number), b"")


def strange(path: Path) -> None:
    """An archive that says that it needs a version of zip that there is not: zipfile raises NotImplementedError."""
    hostile(entry("model.onnx"))(path)
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"PK\x01\x02") + 6] = 99
    path.write_bytes(bytes(raw))


ARCHIVES = {
    "..": hostile(entry("../outside")),
    "link": hostile(entry("link", stat.S_IFLNK | 0o777)),
    "twice": hostile(entry("a"), entry("A")),
    "bomb": bomb(10 * GIB),
    "bomb that lies": bomb(MIB),
    "many": many,
    "strange": strange,
    "text": lambda path: path.write_text("no archive") and None,
    "empty": lambda path: path.write_bytes(b"") and None,
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_hostile_archives_are_refused_before_anything_is_activated(device: Device, name: str) -> None:
    device.starts(device.artifact(1))
    path = device.folder / "hostile.zip"
    ARCHIVES[name](path)
    before, proven = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, device.proven
    kept = device.starts(path)
    assert kept.bundle.manifest.release == 1
    assert kept.refused
    assert device.proven == proven, "nothing of it is run"
    assert device.starts(None).bundle.manifest.release == 1
    assert len(list((device.folder / "store/models").iterdir())) == 1
    assert not (device.folder / "outside").exists()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024, "of memory, in KiB"


@pytest.mark.slow
def test_the_bomb_is_one(tmp_path: Path) -> None:
    bomb(MIB)(tmp_path / "bomb.zip")
    assert unpacked_bytes(tmp_path / "bomb.zip") >= GIB
    assert (tmp_path / "bomb.zip").stat().st_size < 16 * MIB


@pytest.mark.parametrize("name", ["manifest.json", "manifest.sig", "model.onnx", "golden/0-in.npy"])
def test_each_tampered_file_is_refused_before_anything_is_activated(device: Device, name: str) -> None:
    device.starts(device.artifact(1))
    folder = make_bundle(device.folder / "tampered", device.pinned, release=2).folder
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    kept = device.starts(pack_bundle(folder, device.folder / "tampered.zip").path)
    assert kept.bundle.manifest.release == 1
    assert kept.refused.partition(":")[0] in ("SignatureInvalid", "DigestMismatch")
    assert kept.is_failure
    assert device.proven == 1


# ------------------------------------------------------------------------------ what ends a process


def test_what_became_unreadable_after_it_was_in_service_ends_nothing(device: Device) -> None:
    artifact = device.artifact(1)
    device.starts(artifact, place="1.0.0")
    artifact.write_bytes(b"lost")
    kept = device.starts(artifact, place="1.0.0")
    assert kept.refused
    assert not kept.is_failure
    assert not device.starts(None, place="1.0.0").is_failure
    assert device.starts(artifact, place="2.0.0").is_failure
