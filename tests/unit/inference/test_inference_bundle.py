from __future__ import annotations

import os
import shutil
import stat
import zipfile
from pathlib import Path

import msgspec
import numpy as np
import pytest
from bundle_factory import KeySigner, make_bundle, npy, save, write_identity_model, write_linear_model
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from isthmus.errors import (
    Conflict,
    DigestMismatch,
    InvalidDocument,
    InvalidModel,
    IsthmusError,
    LimitExceeded,
    ProofFailed,
    SignatureInvalid,
)
from isthmus.inference import archive
from isthmus.inference.archive import LAYER_PREFIX, pack_bundle, unpack_bundle
from isthmus.inference.bundle import Bundle, open_bundle, seal_bundle
from isthmus.inference.limits import UNZIPPED_LIMIT_BYTES, check_unzipped, unzipped_bytes
from isthmus.inference.onnx_model import describe_onnx, optimise
from isthmus.inference.opset import read_opset
from isthmus.inference.proof import check_golden_response, golden_requests, prove
from isthmus.inference.service import ModelService, served
from isthmus.model.bundle import TensorSpec


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_a_sealed_bundle_opens_with_its_signers_key(bundle: Bundle, signer: KeySigner) -> None:
    opened = open_bundle(bundle.folder, signer.public_key())
    assert opened == bundle
    assert opened.manifest.inputs == (TensorSpec(name="x", datatype="FP32", shape=(-1, 4)),)
    assert opened.manifest.opset == 17


@pytest.mark.parametrize("stride", [7, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "name", ["manifest.json", "manifest.sig", "model.onnx", "golden/0-in.npy", "golden/0-out.npy"]
)
def test_each_flipped_byte_is_refused(bundle: Bundle, signer: KeySigner, name: str, stride: int) -> None:
    path, key = bundle.folder / name, signer.public_key()
    whole = path.read_bytes()
    for at in range(0, len(whole), stride):
        flip(path, at)
        with pytest.raises(SignatureInvalid if name.startswith("manifest") else DigestMismatch):
            open_bundle(bundle.folder, key)
        path.write_bytes(whole)


def test_another_signers_bundle_is_refused(bundle: Bundle) -> None:
    with pytest.raises(SignatureInvalid, match="not what its signer signed"):
        open_bundle(bundle.folder, KeySigner().public_key())


@pytest.mark.parametrize("key", [b"", b"nonsense"])
def test_a_key_that_is_none_is_refused(bundle: Bundle, key: bytes) -> None:
    with pytest.raises(SignatureInvalid, match="public key"):
        open_bundle(bundle.folder, key)


def test_the_signature_is_checked_before_the_manifest_is_parsed(bundle: Bundle, signer: KeySigner) -> None:
    (bundle.folder / "manifest.json").write_text("not even JSON")
    with pytest.raises(SignatureInvalid):
        open_bundle(bundle.folder, signer.public_key())
    with pytest.raises(InvalidDocument):
        open_bundle(bundle.folder, None)


def test_missing_unknown_and_linked_files_are_refused(
    bundle: Bundle, signer: KeySigner, tmp_path: Path
) -> None:
    key, extra = signer.public_key(), bundle.folder / "golden/extra"
    extra.write_text("x")
    with pytest.raises(InvalidModel, match="golden/extra"):
        open_bundle(bundle.folder, key)
    extra.unlink()
    model = bundle.folder / "model.onnx"
    shutil.move(model, tmp_path / "elsewhere")
    with pytest.raises(InvalidModel, match=r"lacks model\.onnx"):
        open_bundle(bundle.folder, key)
    model.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InvalidModel, match="link"):
        open_bundle(bundle.folder, key)
    model.unlink()
    shutil.move(tmp_path / "elsewhere", model)
    (bundle.folder / "manifest.sig").unlink()
    with pytest.raises(InvalidModel, match=r"no manifest\.sig"):
        open_bundle(bundle.folder, key)


@pytest.mark.parametrize("path", ["../model.onnx", "/etc/passwd", "a//b", "a/./b", "a\\b", ""])
def test_even_a_signed_manifest_may_not_leave_its_folder(
    bundle: Bundle, signer: KeySigner, path: str
) -> None:
    file = msgspec.structs.replace(bundle.manifest.files[0], path=path)
    manifest = msgspec.structs.replace(bundle.manifest, files=(file, *bundle.manifest.files[1:]))
    with pytest.raises(InvalidModel, match="not a safe path"):
        seal_bundle(bundle.folder, manifest, signer)


def test_packing_is_repeatable_and_unpacking_gives_the_same_bundle(
    bundle: Bundle, signer: KeySigner, tmp_path: Path
) -> None:
    first = pack_bundle(bundle.folder, tmp_path / "a.zip")
    os.utime(bundle.model_path, (1, 1))
    bundle.model_path.chmod(0o600)
    assert pack_bundle(bundle.folder, tmp_path / "b.zip").sha256 == first.sha256
    folder = unpack_bundle(first.path, tmp_path / "deep" / "unpacked")
    assert open_bundle(folder, signer.public_key()).sha256 == bundle.sha256
    assert unzipped_bytes(first.path) == unzipped_bytes(bundle.folder)


def test_the_same_content_makes_a_layer(bundle: Bundle, signer: KeySigner, tmp_path: Path) -> None:
    layer = pack_bundle(bundle.folder, tmp_path / "layer.zip", prefix=LAYER_PREFIX)
    with zipfile.ZipFile(layer.path) as archive:
        assert "isthmus/model/model.onnx" in archive.namelist()
    unpack_bundle(layer.path, tmp_path / "opt")
    assert open_bundle(tmp_path / "opt/isthmus/model", signer.public_key()).sha256 == bundle.sha256
    unpack_bundle(layer.path, tmp_path / "stripped", prefix=LAYER_PREFIX)
    assert open_bundle(tmp_path / "stripped", signer.public_key()).sha256 == bundle.sha256


def entry(name: str, mode: int = stat.S_IFREG | 0o644) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = mode << 16
    return info


@pytest.mark.parametrize(
    "entries",
    [
        [entry("../outside")],
        [entry("a/../../outside")],
        [entry("/absolute")],
        [entry("C:/windows")],
        [entry("a\\..\\b")],
        [entry("line\nbreak")],
        [entry("link", stat.S_IFLNK | 0o777)],
        [entry("device", stat.S_IFCHR | 0o644)],
        [entry("pipe", stat.S_IFIFO | 0o644)],
        [entry("Model.onnx"), entry("model.onnx")],
    ],
)
def test_hostile_archives_leave_nothing_behind(tmp_path: Path, entries: list[zipfile.ZipInfo]) -> None:
    path, into = tmp_path / "evil.zip", tmp_path / "store" / "into"
    with zipfile.ZipFile(path, "w") as archive:
        for info in entries:
            archive.writestr(info, "/etc/passwd")
    with pytest.raises(InvalidModel):
        unpack_bundle(path, into)
    assert list((tmp_path / "store").iterdir()) == []
    assert not (tmp_path / "outside").exists()


def test_a_bomb_is_refused_by_its_declared_size(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(10_000_000))
    with pytest.raises(LimitExceeded, match=r"9\.5 MiB"):
        unpack_bundle(tmp_path / "bomb.zip", tmp_path / "into", max_bytes=1_000_000)
    assert not (tmp_path / "into").exists()


def test_a_bomb_that_lies_about_its_size_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(1_000_000))
    path.write_bytes(
        path.read_bytes().replace((1_000_000).to_bytes(4, "little"), (100).to_bytes(4, "little"))
    )
    with pytest.raises(InvalidModel):
        unpack_bundle(path, tmp_path / "into")
    assert sorted(tmp_path.iterdir()) == [path]


def test_too_many_files_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "many.zip", "w") as many:
        for number in range(archive.MAX_BUNDLE_FILES + 1):
            many.writestr(str(number), "")
    with pytest.raises(LimitExceeded, match="1025 entries"):
        unpack_bundle(tmp_path / "many.zip", tmp_path / "into")


def test_what_exists_is_not_overwritten(bundle: Bundle, tmp_path: Path) -> None:
    pack_bundle(bundle.folder, tmp_path / "a.zip")
    with pytest.raises(Conflict):
        unpack_bundle(tmp_path / "a.zip", bundle.folder)


@pytest.mark.parametrize("stride", [53, pytest.param(13, marks=pytest.mark.slow)])
def test_a_damaged_archive_never_gives_a_bundle(
    bundle: Bundle, signer: KeySigner, tmp_path: Path, stride: int
) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        for file in archive.list_files(bundle.folder):
            packed.write(bundle.folder / file, file)
    whole = (tmp_path / "a.zip").read_bytes()
    for at in range(0, len(whole), stride):
        damaged, into = tmp_path / "damaged.zip", tmp_path / f"into{at}"
        damaged.write_bytes(whole[:at] + bytes([whole[at] ^ 0x41]) + whole[at + 1 :])
        try:
            opened = open_bundle(unpack_bundle(damaged, into), signer.public_key())
        except IsthmusError:
            continue
        # The flipped byte was no content (a time, a flag); what came out was still verified.
        assert opened.sha256 == bundle.sha256


@given(st.binary(max_size=300))
def test_random_bytes_are_no_archive(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    folder = tmp_path_factory.mktemp("random")
    (folder / "a.zip").write_bytes(data)
    with pytest.raises(InvalidModel):
        unpack_bundle(folder / "a.zip", folder / "into")


@given(st.binary(max_size=200))
def test_random_bytes_are_no_onnx_model(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("random") / "model.onnx"
    path.write_bytes(data)
    with pytest.raises(InvalidModel):
        describe_onnx(path)


def test_describe_reads_types_shapes_and_opset(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    write_identity_model(path, {"a": TensorProto.INT64, "b": TensorProto.STRING}, ["n", 3])
    inputs, outputs, opset = describe_onnx(path)
    assert opset == read_opset(path) == 17
    assert [(spec.name, spec.datatype, spec.shape) for spec in inputs] == [
        ("a", "INT64", (-1, 3)),
        ("b", "BYTES", (-1, 3)),
    ]
    assert [spec.name for spec in outputs] == ["out_a", "out_b"]


def test_an_untransportable_type_is_named(tmp_path: Path) -> None:
    write_identity_model(tmp_path / "m.onnx", {"a": TensorProto.BFLOAT16}, [1])
    with pytest.raises(InvalidModel, match="bfloat16"):
        describe_onnx(tmp_path / "m.onnx")


def test_the_opset_of_another_domain_is_not_taken(tmp_path: Path) -> None:
    graph = helper.make_graph([], "empty", [], [])
    path = tmp_path / "m.onnx"
    import onnx

    opsets = [helper.make_opsetid("com.example", 3), helper.make_opsetid("", 19)]
    onnx.save(helper.make_model(graph, opset_imports=opsets), path)
    assert read_opset(path) == 19
    save(graph, path)
    assert read_opset(path) == 17


def test_optimise_fuses_and_keeps_the_answers(tmp_path: Path) -> None:
    write_linear_model(tmp_path / "m.onnx")
    optimise(tmp_path / "m.onnx", tmp_path / "fast.onnx")
    assert describe_onnx(tmp_path / "fast.onnx") == describe_onnx(tmp_path / "m.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"\x08\x08")
    with pytest.raises(IsthmusError):
        optimise(tmp_path / "broken.onnx", tmp_path / "out.onnx")


def test_goldens_prove_a_bundle_in_process_and_through_its_door(bundle: Bundle) -> None:
    assert prove(bundle, served(bundle, threads=1)) < 1e-6
    service = ModelService([served(bundle, threads=1)])
    for golden, request, expected in golden_requests(bundle):
        assert check_golden_response(golden, service.handle(request), expected) < 1e-6


def test_large_goldens_are_asked_sample_by_sample(tmp_path: Path, signer: KeySigner) -> None:
    bundle = make_bundle(tmp_path / "b", signer)
    pixels = np.zeros((3, 400, 400), np.uint8)
    (bundle.folder / "golden/0-in.npy").write_bytes(npy(pixels))
    (bundle.folder / "golden/0-out.npy").write_bytes(npy(np.float32([[0], [1], [2]])))
    requests = golden_requests(bundle)
    assert [expected.tolist() for _, _, expected in requests] == [[[0]], [[1]], [[2]]]
    assert all(
        msgspec.json.decode(request.body)["inputs"][0]["shape"] == [1, 400, 400] for _, request, _ in requests
    )


@pytest.mark.parametrize(
    "expected",
    [np.zeros((2, 3), np.float32), np.zeros((1, 3), np.float32), np.full((2, 3), np.nan, np.float32)],
)
def test_a_wrong_answer_fails_the_proof(tmp_path: Path, signer: KeySigner, expected: np.ndarray) -> None:
    bundle = make_bundle(tmp_path / "wrong", signer, expected=expected)
    with pytest.raises(ProofFailed):
        prove(bundle, served(bundle, threads=1))
    service = ModelService([served(bundle, threads=1)])
    ((golden, request, _),) = golden_requests(bundle)
    with pytest.raises(ProofFailed):
        check_golden_response(golden, service.handle(request), expected)


def test_the_limit_names_the_sum_and_the_largest_parts() -> None:
    assert check_unzipped({"a": UNZIPPED_LIMIT_BYTES}) == 262_144_000
    parts = {"model": 200_000_000, "onnx_runtime": 80_000_000, "core": 20_000_000, "function": 1}
    with pytest.raises(
        LimitExceeded, match=r"300,000,001 .* 262,144,000.*model 200,000,000, onnx_runtime 80,000,000, core"
    ):
        check_unzipped(parts)


def test_a_digest_that_is_known_stands_for_the_signature(bundle: Bundle) -> None:
    (bundle.folder / "manifest.sig").write_bytes(b"of somebody else")
    assert open_bundle(bundle.folder, b"no key", sha256=bundle.sha256) == bundle


def test_another_bundle_than_the_one_that_is_known_is_refused(tmp_path: Path, signer: KeySigner) -> None:
    one, other = (
        make_bundle(tmp_path / name, signer, release=release) for name, release in (("a", 1), ("b", 2))
    )
    with pytest.raises(DigestMismatch, match="is not that of the bundle"):
        open_bundle(one.folder, signer.public_key(), sha256=other.sha256)
