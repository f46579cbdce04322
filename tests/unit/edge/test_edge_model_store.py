from __future__ import annotations

import itertools
import os
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from bundle_factory import WEIGHTS, KeySigner, make_bundle

from isthmus.edge.model_store import MAX_ATTEMPTS, ModelStore, find_artifact
from isthmus.errors import EnvironmentProblem, MissingFile, ProofFailed, SignatureInvalid
from isthmus.inference.archive import pack_bundle
from isthmus.inference.bundle import Bundle
from isthmus.inference.proof import prove
from isthmus.inference.service import served

DIED = 9
# The children touch the disk only: no array and no session is used in them.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


def on_goldens(bundle: Bundle) -> float:
    return prove(bundle, served(bundle, threads=1))


def unseen(bundle: Bundle) -> None:
    """A proof that costs nothing, for tests of the store alone."""


def artifact(folder: Path, signer: KeySigner, release: int, **changes: object) -> Path:
    make_bundle(folder / f"bundle{release}", signer, release=release, **changes)
    return pack_bundle(folder / f"bundle{release}", folder / f"{release}.zip").path


def release_in(store: ModelStore, place: Path | None = None) -> int:
    return store.update(place, unseen).bundle.manifest.release


@pytest.fixture
def store(tmp_path: Path, signer: KeySigner) -> ModelStore:
    return ModelStore(tmp_path / "store", signer.public_key())


def in_child(action: Callable[[], object]) -> int:
    """Run in a forked process and return its exit code: 0 when it came to the end."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            action()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_proven_model_is_committed_and_survives_without_its_artifact(
    store: ModelStore, tmp_path: Path, signer: KeySigner
) -> None:
    assert store.update(artifact(tmp_path, signer, 1), on_goldens).refused == ""
    assert release_in(store) == 1
    assert store.update(None, unseen).refused == "MissingFile: no model artifact has arrived"
    assert store.update(artifact(tmp_path, signer, 2), on_goldens).bundle.manifest.release == 2
    assert release_in(store) == 2
    assert len(list((tmp_path / "store/models").iterdir())) == 1


def test_an_older_release_is_no_way_back(store: ModelStore, tmp_path: Path, signer: KeySigner) -> None:
    first, second = artifact(tmp_path, signer, 1), artifact(tmp_path, signer, 2)
    assert [release_in(store, place) for place in (first, second, first)] == [1, 2, 2]
    kept = store.update(first, unseen)
    assert kept.refused.startswith("ReleaseOutdated: release 1 is earlier than 2")
    assert not kept.is_failure, "a device that goes on serving is no failure"


def test_a_store_without_any_model_says_so(store: ModelStore) -> None:
    with pytest.raises(MissingFile, match="no model artifact has arrived"):
        store.update(None, unseen)


def test_a_wrong_answer_keeps_the_previous_model(
    store: ModelStore, tmp_path: Path, signer: KeySigner
) -> None:
    release_in(store, artifact(tmp_path, signer, 1))
    wrong = artifact(tmp_path, signer, 2, expected=np.zeros((2, 3), np.float32))
    for _ in range(MAX_ATTEMPTS + 1):
        kept = store.update(wrong, on_goldens)
        assert kept.bundle.manifest.release == 1
        assert kept.refused.startswith("ProofFailed: golden golden/0-in.npy differs")
    assert len(list((tmp_path / "store/models").iterdir())) == 1


def test_a_wrong_answer_without_a_previous_model_is_the_failure(
    store: ModelStore, tmp_path: Path, signer: KeySigner
) -> None:
    with pytest.raises(ProofFailed):
        store.update(artifact(tmp_path, signer, 1, expected=np.zeros((2, 3), np.float32)), on_goldens)


def test_what_another_signer_signed_never_serves(
    store: ModelStore, tmp_path: Path, signer: KeySigner
) -> None:
    foreign = artifact(tmp_path / "foreign", KeySigner(), 2)
    with pytest.raises(SignatureInvalid):
        store.update(foreign, unseen)
    release_in(store, artifact(tmp_path, signer, 1))
    assert "SignatureInvalid" in store.update(foreign, unseen).refused


def test_a_damaged_committed_model_is_staged_again(
    store: ModelStore, tmp_path: Path, signer: KeySigner
) -> None:
    place = artifact(tmp_path, signer, 1)
    folder = store.update(place, unseen).bundle.folder
    (folder / "model.onnx").write_bytes(b"lost")
    assert store.update(place, on_goldens).bundle.manifest.release == 1


def test_a_model_that_kills_the_process_is_given_up(
    store: ModelStore, tmp_path: Path, signer: KeySigner
) -> None:
    release_in(store, artifact(tmp_path, signer, 1))
    deadly = artifact(tmp_path, signer, 2)
    for _ in range(MAX_ATTEMPTS):
        assert in_child(lambda: store.update(deadly, lambda bundle: os._exit(DIED))) == DIED
        assert release_in(store) == 1
    kept = store.update(deadly, unseen)
    assert kept.bundle.manifest.release == 1
    assert kept.refused == "ProofFailed: the model stopped this process 2 times while it was proven"
    assert release_in(store, artifact(tmp_path, signer, 3)) == 3


DISK = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.symlink", "os.chmod", "shutil.rmtree", "open")


def die_at(step: int, root: Path) -> None:
    """Make this process die just before its ``step``-th touch of the disk below ``root``."""
    count = itertools.count()

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        touches = event in DISK and any(str(root) in str(argument) for argument in arguments)
        if touches and next(count) == step:
            os._exit(DIED)

    sys.addaudithook(hook)


def die_while(store: ModelStore, place: Path, root: Path, step: int) -> None:
    die_at(step, root)
    store.update(place, unseen)


@pytest.mark.parametrize("stride", [5, pytest.param(1, marks=pytest.mark.slow)])
def test_whenever_it_dies_the_disk_tells_the_next_start_what_to_serve(
    tmp_path: Path, signer: KeySigner, stride: int
) -> None:
    first, second = artifact(tmp_path, signer, 1), artifact(tmp_path, signer, 2, weights=WEIGHTS * 2)
    release_in(ModelStore(tmp_path / "origin", signer.public_key()), first)
    for step in itertools.count(0, stride):
        root = tmp_path / f"store{step}"
        shutil.copytree(tmp_path / "origin", root, symlinks=True)
        store = ModelStore(root, signer.public_key())

        code = in_child(partial(die_while, store, second, root, step))
        # Offline, what was committed serves: the old model, or the new one, never half of either.
        assert release_in(store) in ({1, 2} if code else {2})
        assert store.update(second, on_goldens).refused == ""
        assert release_in(store) == 2
        assert [path.name for path in (root / "models").iterdir()] == [os.readlink(root / "active")[7:]]
        shutil.rmtree(root)
        if code == 0:
            break
        assert code == DIED
    assert step > 20


def test_the_artifact_is_the_file_itself_or_the_one_zip_in_its_folder(tmp_path: Path) -> None:
    assert find_artifact(tmp_path / "nowhere") is None
    assert find_artifact(tmp_path) is None
    (tmp_path / ".new").touch()
    (tmp_path / "model.zip").touch()
    assert find_artifact(tmp_path) == find_artifact(tmp_path / "model.zip") == tmp_path / "model.zip"
    (tmp_path / "other.zip").touch()
    with pytest.raises(EnvironmentProblem, match="2 model artifacts"):
        find_artifact(tmp_path)
