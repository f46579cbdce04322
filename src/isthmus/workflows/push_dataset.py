"""Upload a dataset version with its job; the manifest last, which starts the pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from isthmus import documents
from isthmus.errors import InvalidDocument, InvalidInput, InvalidJob
from isthmus.frameworks.sliced import PACKAGES
from isthmus.model import layout
from isthmus.model.blob import BlobRef
from isthmus.model.dataset import DatasetFile, InPlace, Manifest
from isthmus.model.job import Job
from isthmus.planning.requirements import FILE, versions_of
from isthmus.ports import BlobStore
from isthmus.sync.collect import code_files, collect, file_sha256, pack_code
from isthmus.sync.delta import Deltas
from isthmus.sync.upload import Progress, upload_missing
from isthmus.workflows.pack_notebook import with_notebooks
from isthmus.workflows.start_pipeline import manifest_job_key


class Pushed(msgspec.Struct, frozen=True):
    """``job_key`` names the execution that the manifest starts."""

    job_key: str
    manifest_key: str
    files: int
    sent_files: int
    sent_bytes: int


class Prepared(msgspec.Struct, frozen=True):
    """A manifest, and every object that must be in the bucket before it: key, path and SHA-256."""

    manifest: Manifest
    uploads: list[tuple[str, Path, str]]

    @property
    def manifest_key(self) -> str:
        """Where the manifest goes; named by its own digest."""
        return layout.manifest_key(self.manifest.dataset, documents.digest(self.manifest))


def prepare(
    dataset: str,
    folder: Path | None,
    job: dict[str, Any],
    base: Path,
    workdir: Path,
    *,
    prefix: str | None = None,
    in_place: InPlace | None = None,
    installs: bool = True,
) -> Prepared:
    """Hash everything and make the manifest; nothing is uploaded.

    ``job`` is a job as people write it: ``source.code`` (a folder) or ``source.artifact`` (an ONNX
    file) are paths relative to ``base``. ``in_place``: where the files of ``folder`` stay; then they are no uploads.
    ``installs``: whether the packages of the code's own are installed where it runs; else nothing is asked of them.

    Raises:
        InvalidJob: the job does not fit its schema, names what does not exist, or has a ``requirements.txt`` that no
            rig installs.
        InvalidInput: of files that stay where they are, one leads out of their folder or is part of the code.
    """
    files: tuple[DatasetFile, ...] = collect(folder, prefix=prefix) if folder is not None else ()
    home = layout.dataset_folder(dataset)
    uploads = []
    if folder is not None and in_place is None:
        uploads = [(home + (f.key or layout.blob_path(f.sha256)), folder / f.path, f.sha256) for f in files]
    source, blob = _source(job, base, workdir, installs=installs)
    if folder is not None and in_place is not None:
        _check_stays(folder, files, job, base)
    uploads.append(blob)
    try:
        checked = documents.convert(Job, {**job, "source": source}, "the job")
        raw = documents.encode(checked)
        digest = documents.sha256(raw)
        reference = BlobRef(key=f"{home}jobs/{digest}.json", sha256=digest, size_bytes=len(raw))
        manifest = documents.convert(Manifest, _plain(dataset, files, reference, in_place), "the manifest")
    except InvalidDocument as error:
        raise InvalidJob(str(error)) from error
    (workdir / "job.json").write_bytes(raw)
    uploads.append((reference.key, workdir / "job.json", digest))
    return Prepared(manifest, uploads)


def push(prepared: Prepared, blobs: BlobStore, progress: Progress, *, whole: bool = False) -> Pushed:
    """Upload what is missing, then the manifest: the commit point.

    Of a large file that changed, what changed is sent, and ``register_dataset`` puts it together; ``whole``: never.
    """
    deltas = Deltas(prepared.manifest.dataset, blobs)
    home, stays = (
        layout.dataset_folder(prepared.manifest.dataset),
        prepared.manifest.in_place is not msgspec.UNSET,
    )
    names = {home + layout.blob_path(f.sha256): f.path for f in prepared.manifest.files if f.key is None}

    def shortcut(key: str, path: Path, sha256: str) -> int | None:
        return deltas.send(names[key], path, sha256) if key in names and not whole else None

    sent, sent_bytes = upload_missing(prepared.uploads, blobs, progress, shortcut)
    blobs.put(prepared.manifest_key, documents.encode(prepared.manifest))
    if not stays:
        deltas.commit(prepared.manifest_key)
    return Pushed(
        job_key=manifest_job_key(prepared.manifest),
        manifest_key=prepared.manifest_key,
        files=len(prepared.manifest.files),
        sent_files=sent,
        sent_bytes=sent_bytes,
    )


def _plain(
    dataset: str, files: tuple[DatasetFile, ...], job: BlobRef, in_place: InPlace | None
) -> dict[str, Any]:
    plain = {"dataset": dataset, "files": msgspec.to_builtins(files), "job": msgspec.to_builtins(job)}
    return plain if in_place is None else {**plain, "in_place": msgspec.to_builtins(in_place)}


def _check_stays(folder: Path, files: tuple[DatasetFile, ...], job: dict[str, Any], base: Path) -> None:
    """Nothing of the data goes with the code, and no rig will refuse a link that leads elsewhere."""
    home = folder.resolve()
    for file in files:
        if not (folder / file.path).resolve().is_relative_to(home):
            raise InvalidInput(
                f"needs files that lie in {folder}; {file.path} is a link that leads out of it: put the file there"
            )
    source = job["source"]
    if source["kind"] != "training":
        raise InvalidJob(
            "needs a job that trains where the data are; this one imports a model, which no rig judges"
        )
    code = (base / source["code"]).resolve()
    data = {file.sha256: file.path for file in files if file.size_bytes}
    for path in code_files(code):
        if path.resolve().is_relative_to(home) or file_sha256(path) in data:
            raise InvalidInput(
                f"needs code without the data that stay where they are; {path.relative_to(code)} in {code} is one of "
                "their files, and code is uploaded: keep them apart"
            )


def _check_requirements(code: Path, job: dict[str, Any]) -> None:
    """Ask now whether a rig would install the packages of the code's own, and not when it has the attempt."""
    own, wishes = code / FILE, job.get("wishes")
    is_cloud = isinstance(wishes, dict) and wishes.get("run_on") == "sagemaker"
    if job["source"].get("image") or is_cloud or not own.is_file():
        return
    try:
        versions_of(own.read_bytes())
    except InvalidJob as error:
        raise InvalidJob(
            f"{error}; no rig installs {own} as it is. SageMaker's containers do: then wish run_on: sagemaker"
        ) from error


def _check_slices(code: Path, source: dict[str, Any]) -> None:
    """Ask now whether the environment of a training in slices will have what its workers need."""
    if not source.get("slices") or source.get("image"):
        return
    own = code / FILE
    there = versions_of(own.read_bytes()) if own.is_file() else {}
    if missing := [name for name in PACKAGES if name not in there]:
        raise InvalidJob(
            f"slices need {' and '.join(missing)} beside the framework; list them in {own}, with versions and digests: "
            "write it with `uv pip compile --generate-hashes`"
        )


def _source(
    job: dict[str, Any], base: Path, workdir: Path, *, installs: bool
) -> tuple[dict[str, Any], tuple[str, Path, str]]:
    """Replace the path in a job's source by a reference to its bytes; return both."""
    source = job.get("source")
    if not isinstance(source, dict) or source.get("kind") not in ("training", "import"):
        raise InvalidJob("the job needs a `source` of the kind `training` or `import`")
    field = "code" if source["kind"] == "training" else "artifact"
    if not isinstance(source.get(field), str):
        raise InvalidJob(f"the job's source needs `{field}`: a path relative to the job's own file")
    path = (base / source[field]).resolve()
    if field == "code":
        if not (path / str(source.get("entry_point", ""))).is_file():
            raise InvalidJob(f"there is no entry point {source.get('entry_point')!r} in {path}")
        packed = workdir / "code.zip"
        source, changed = with_notebooks(source, path)
        if installs:
            _check_requirements(path, job)
            _check_slices(path, source)
        pack_code(path, packed, changed)
        path = packed
    elif not path.is_file():
        raise InvalidJob(f"there is no model at {path}")
    digest, size = file_sha256(path), path.stat().st_size
    key = f"code/{digest}.zip" if field == "code" else f"code/{digest}.onnx"
    reference = {"key": key, "sha256": digest, "size_bytes": size}
    return {**source, field: reference}, (key, path, digest)
