"""What an attempt leaves in the bucket; ``output.json`` names every file and is written last."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from isthmus import documents
from isthmus.model.bundle import BundleFile
from isthmus.model.judgement import JUDGEMENT_FILE
from isthmus.model.output import CURVES_FILE, DATA, OUTPUT_FILE, Output
from isthmus.ports import BlobStore
from isthmus.rig.cache import file_digest
from isthmus.rig.contract import Layout

METRICS_FILE = "metrics.json"


def upload(root: Path, metrics: Mapping[str, float], prefix: str, blobs: BlobStore) -> None:
    """Upload what an attempt left in its folder ``root`` below ``prefix``; may be repeated."""
    _note(root, metrics)
    entries = []
    for name, file in files(root):
        digest = file_digest(file)
        blobs.upload(f"{prefix}{name}", file, sha256=digest)
        entries.append(BundleFile(path=name, sha256=digest, size_bytes=file.stat().st_size))
    blobs.put(f"{prefix}{OUTPUT_FILE}", documents.encode(Output(files=tuple(entries))))


def files(root: Path) -> Iterator[tuple[str, Path]]:
    """Yield name and path of regular files; a link could lead to what is not the script's to publish."""
    layout = Layout(root)
    told = [root / METRICS_FILE, root / CURVES_FILE, root / JUDGEMENT_FILE]
    fixed = [layout.model / "model.onnx", layout.model / "export.json", *told, layout.log, layout.failure]
    yield from ((path.name, path) for path in fixed if path.is_file() and not path.is_symlink())
    if layout.output_data.is_symlink() or not layout.output_data.is_dir():
        return
    for path in sorted(layout.output_data.rglob("*")):
        if path.is_file() and not path.is_symlink():
            yield f"{DATA}{path.relative_to(layout.output_data).as_posix()}", path


def secure(root: Path, metrics: Mapping[str, float]) -> None:
    """Make the files survive a power cut, as the spool's word that they are there does."""
    _note(root, metrics)
    folders = {root}
    for _, path in files(root):
        _sync(path)
        folders.update(parent for parent in path.parents if parent.is_relative_to(root))
    for folder in folders:
        _sync(folder)


def _note(root: Path, metrics: Mapping[str, float]) -> None:
    """Write the metrics where no container sees them, in the place of whatever a script put there."""
    if not Layout(root).output.is_dir():
        raise FileNotFoundError(f"{Layout(root).output} is gone")
    write(root / METRICS_FILE, json.dumps(metrics, sort_keys=True).encode())


def write(path: Path, data: bytes) -> None:
    """Write a file at once, in the place of whatever a script put there."""
    handle, fresh = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    with open(handle, "wb") as file:
        file.write(data)
    os.replace(fresh, path)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
