from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from isthmus.errors import DigestMismatch
from isthmus.inference import early
from isthmus.inference.bundle import Bundle, open_bundle
from isthmus.inference.runtime import end_loading
from isthmus.inference.service import service_for_folder


@pytest.fixture(autouse=True)
def ended(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever a test begins ends with it."""
    monkeypatch.setattr(early, "_begun", None)
    yield
    end_loading()


def begin(bundle: Bundle, **more: str) -> None:
    environment = {"ISTHMUS_MODEL_DIR": str(bundle.folder), "ISTHMUS_BUNDLE_SHA256": bundle.sha256}
    early.begin({**environment, "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769", **more})


def test_a_model_is_opened_before_it_is_asked_for_and_serves(bundle: Bundle) -> None:
    begin(bundle)
    session = early._begun and early._begun.session()
    assert session is not None
    service = service_for_folder(bundle.folder, b"no key", threads=1, sha256=bundle.sha256)
    service.releases()
    (model,) = service.models.values()
    assert model.engine.load() is session
    assert early.take_session(bundle.model_path, 1) is None, "it has been taken"


def test_a_session_for_other_threads_is_another_session(bundle: Bundle) -> None:
    begin(bundle)
    assert early.take_session(bundle.model_path, 2) is None


def test_a_model_that_was_changed_is_not_opened(bundle: Bundle) -> None:
    with bundle.model_path.open("ab") as file:
        file.write(b"\0")
    begin(bundle)
    assert early.known_digest(bundle.model_path) == ""
    assert early.take_session(bundle.model_path, 1) is None
    with pytest.raises(DigestMismatch, match=r"model\.onnx"):
        open_bundle(bundle.folder, b"no key", sha256=bundle.sha256)


def test_another_bundle_than_the_staged_one_is_not_opened(bundle: Bundle) -> None:
    begin(bundle, ISTHMUS_BUNDLE_SHA256="0" * 64)
    assert early.take_session(bundle.model_path, 1) is None


@pytest.mark.parametrize(
    "more",
    [
        {"ISTHMUS_BUNDLE_SHA256": ""},
        {"ISTHMUS_BUNDLE": "m/0"},
        {"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": ""},
    ],
)
def test_nothing_is_opened_early_but_a_staged_layers_bundle(bundle: Bundle, more: dict[str, str]) -> None:
    begin(bundle, **more)
    assert early.take_session(bundle.model_path, 1) is None
    assert early.known_digest(bundle.model_path) == ""


@pytest.mark.parametrize("manifest", [None, b"{", b"{}", b"null"])
def test_what_cannot_be_opened_is_left_to_who_can_say_why(tmp_path: Path, manifest: bytes | None) -> None:
    model = b"no model"
    (tmp_path / "model.onnx").write_bytes(model)
    if manifest is None:
        entry = {"path": "model.onnx", "sha256": hashlib.sha256(model).hexdigest()}
        manifest = json.dumps({"files": [entry]}).encode()
    (tmp_path / "manifest.json").write_bytes(manifest)
    begun = early.EarlySession(str(tmp_path), hashlib.sha256(manifest).hexdigest(), 1)
    assert begun.session() is None
