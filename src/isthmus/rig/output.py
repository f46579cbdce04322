"""What an attempt leaves in the bucket; ``output.json`` names every file and is written last."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import msgspec

from isthmus import documents
from isthmus.model.bundle import BundleFile
from isthmus.ports import BlobStore, TrainingRun
from isthmus.rig.cache import file_digest
from isthmus.rig.contract import Layout

OUTPUT_FILE = "output.json"
METRICS_FILE = "metrics.json"


class Output(msgspec.Struct, frozen=True, kw_only=True):
    """The files of an attempt: ``model.onnx`` and ``export.json`` if it has a model, ``metrics.json``,
    ``train.log``, and below ``data/`` what the script left in ``SM_OUTPUT_DATA_DIR``."""

    schema: str = "isthmus/output/1"
    files: tuple[BundleFile, ...]


def upload(run: TrainingRun, prefix: str, blobs: BlobStore) -> None:
    """Upload an attempt's files below ``prefix``; may be repeated."""
    layout = Layout(run.output)
    metrics = layout.output / METRICS_FILE
    metrics.write_text(json.dumps(run.metrics, sort_keys=True), encoding="utf-8")
    files = []
    for name, path in _files(layout, metrics):
        digest = file_digest(path)
        blobs.upload(f"{prefix}{name}", path, sha256=digest)
        files.append(BundleFile(path=name, sha256=digest, size_bytes=path.stat().st_size))
    blobs.put(f"{prefix}{OUTPUT_FILE}", documents.encode(Output(files=tuple(files))))


def _files(layout: Layout, metrics: Path) -> Iterator[tuple[str, Path]]:
    """Yield name and path of regular files; a link could lead to what is not the script's to publish."""
    fixed = [layout.model / "model.onnx", layout.model / "export.json", metrics, layout.log, layout.failure]
    yield from ((path.name, path) for path in fixed if path.is_file() and not path.is_symlink())
    for path in sorted(layout.output_data.rglob("*")):
        if path.is_file() and not path.is_symlink():
            yield f"data/{path.relative_to(layout.output_data).as_posix()}", path
