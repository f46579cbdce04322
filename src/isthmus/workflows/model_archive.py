"""What SageMaker makes of a training's output, as what a rig leaves: single files, and a list of them written last."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from isthmus import documents
from isthmus.errors import InvalidModel
from isthmus.model.bundle import MODEL_FILE, BundleFile
from isthmus.model.judgement import JUDGEMENT_FILE
from isthmus.model.output import CURVES_FILE, OUTPUT_FILE, Output
from isthmus.model.units import GIB, format_bytes
from isthmus.ports import BlobStore

KEPT = (MODEL_FILE, "export.json", "metrics.json", CURVES_FILE)
"""Of the model's archive; what else a framework saved stays in it."""
MAX_BYTES = 3 * GIB
"""Of the kept files of an archive, unpacked: what a function's own disk holds."""


def take(model_key: str, prefix: str, blobs: BlobStore, workdir: Path) -> dict[str, float]:
    """Put a finished training's files where a rig's lie, ``prefix``; return its metrics. May be repeated.

    ``model_key`` is the archive of the model folder; that of ``SM_OUTPUT_DATA_DIR`` lies beside it, if there is one.

    Raises:
        InvalidModel: the archive has no model, is too large, or cannot be read.
    """
    files = [*_members(model_key, KEPT, blobs, workdir / "model")]
    if MODEL_FILE not in {name for name, _ in files}:
        raise InvalidModel(f"the training left no {MODEL_FILE} in {model_key}")
    output_key = f"{model_key.rpartition('/')[0]}/output.tar.gz"
    files += [(f"data/{name}", path) for name, path in _members(output_key, None, blobs, workdir / "data")]
    entries = []
    for name, path in files:
        digest = _sha256(path)
        blobs.upload(f"{prefix}{name}", path, sha256=digest)
        entries.append(BundleFile(path=name, sha256=digest, size_bytes=path.stat().st_size))
    blobs.put(f"{prefix}{OUTPUT_FILE}", documents.encode(Output(files=tuple(entries))))
    return _metrics(dict(files).get("metrics.json"))


def _metrics(path: Path | None) -> dict[str, float]:
    if path is None or path.stat().st_size > documents.MAX_DOCUMENT_BYTES:
        return {}
    return documents.decode(dict[str, float], path.read_bytes(), "metrics.json")


def _members(
    key: str, names: tuple[str, ...] | None, blobs: BlobStore, folder: Path
) -> Iterator[tuple[str, Path]]:
    """Unpack regular files of an archive: those of ``names``, None: all. No archive: none."""
    archive = folder.with_suffix(".tar.gz")
    packed = blobs.info(key)
    if packed is None:
        return
    if packed.size_bytes > MAX_BYTES:
        raise InvalidModel(
            f"{key} is {format_bytes(packed.size_bytes)}; at most {format_bytes(MAX_BYTES)} is taken: leave less in "
            "SM_MODEL_DIR and SM_OUTPUT_DATA_DIR"
        )
    left = MAX_BYTES
    try:
        blobs.download(key, archive)
        with tarfile.open(archive, "r:gz") as opened:
            for member in opened:
                name = PurePosixPath(member.name).as_posix()
                if not member.isfile() or not (_is_inside(name) and (names is None or name in names)):
                    continue
                left -= member.size
                if left < 0:
                    raise InvalidModel(f"{key} is more than {format_bytes(MAX_BYTES)} unpacked")
                source = opened.extractfile(member)
                if source is not None:
                    yield name, _write(folder / name, source)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise InvalidModel(f"{key} cannot be unpacked: {error}") from error
    finally:
        archive.unlink(missing_ok=True)


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and path.name != JUDGEMENT_FILE


def _write(path: Path, source: IO[bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        shutil.copyfileobj(source, file)
    return path


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
