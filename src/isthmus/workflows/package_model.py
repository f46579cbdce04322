"""Make a bundle of a candidate: optimised model, processing, goldens, lineage; signed and in the bucket."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from isthmus.errors import Conflict, InvalidModel
from isthmus.inference.archive import LAYER_PREFIX, pack_bundle
from isthmus.inference.bundle import describe_files, seal_bundle
from isthmus.inference.limits import Serving, choose_serving
from isthmus.inference.onnx_model import describe_onnx, optimise
from isthmus.inference.processing import preprocess
from isthmus.model import layout
from isthmus.model.bundle import (
    MANIFEST_FILE,
    MODEL_FILE,
    SIGNATURE_FILE,
    BundleManifest,
    Golden,
    Lineage,
    Quantization,
    TensorSpec,
)
from isthmus.model.dataset import Manifest
from isthmus.model.job import Job, Training
from isthmus.ports import BlobStore, Item, Records, Signer
from isthmus.workflows.evaluate_model import fetch_candidate
from isthmus.workflows.loading import load_job, load_manifest
from isthmus.workflows.quantize_model import choose_variant
from isthmus.workflows.scoring import OpenEngine
from isthmus.workflows.start_pipeline import version_digest

GOLDEN_SAMPLES = 4
INT8_TOLERANCE = 0.05
"""A sum that a machine rounds differently may land on the next of 255 steps, in several layers."""
RAW_DATATYPES = {"uint8": "UINT8", "int16": "INT16", "int32": "INT32", "int64": "INT64", "float32": "FP32"}


class Packaged(msgspec.Struct, frozen=True):
    """``bundle`` is the digest of the bundle's manifest; ``release`` rises with every bundle; ``serving``
    is how its function gets it: ``layer``, or ``weights`` from the bucket."""

    model: str
    bundle: str
    release: int
    serving: str = "layer"


def package_model(
    job_key: str,
    fencing: int,
    *,
    blobs: BlobStore,
    records: Records,
    signer: Signer,
    open_engine: OpenEngine,
    installed: Callable[[], Mapping[str, int]],
    workdir: Path,
) -> Packaged:
    """Build, sign and upload the bundle of an attempt's candidate.

    ``installed`` gives the unzipped bytes of the serving function's own parts by name.

    Raises:
        InvalidModel: the ONNX file cannot be served.
        LimitExceeded: no function could hold it; nothing is published.
    """
    job, dataset = load_job(blobs, job_key), load_manifest(blobs, job_key)
    state = records.get(layout.job_pk(job_key), layout.STATE) or {}
    folder = workdir / "bundle"
    folder.mkdir()
    chosen = fetch_candidate(job, job_key, fencing, blobs, workdir)
    variant: Quantization | msgspec.UnsetType = msgspec.UNSET
    if job.quantization is not msgspec.UNSET:
        chosen, variant = choose_variant(
            chosen, job, dataset, blobs=blobs, open_engine=open_engine, workdir=workdir
        )
    optimise(chosen, folder / MODEL_FILE)
    release = _release(job.model, job_key, fencing, records)
    manifest = _with_variant(
        _manifest(job, dataset, job_key, fencing, release, state, folder, open_engine), variant
    )
    digest = seal_bundle(folder, manifest, signer).sha256
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    serving = choose_serving(installed(), size)
    pk, sk = layout.model_pk(job.model), layout.release_sk(release)
    published = records.get(pk, sk)
    if published is None or published["bundle"] != digest:
        upload_bundle(job.model, digest, manifest, folder, workdir, blobs, serving)
        item: Item = {"bundle": digest, "job_key": job_key, "metrics": dict(manifest.metrics)}
        item |= {"serving": msgspec.to_builtins(serving), "baseline": state.get("baseline")}
        item |= {"answers": state.get("answers")}
        records.put({"pk": pk, "sk": sk, **item})
    # Else it stays as it is: a new signature would change bytes whose digest Greengrass has on record.
    return Packaged(job.model, digest, release, serving.by)


def _release(model: str, job_key: str, fencing: int, records: Records) -> int:
    """Return the attempt's release number; packaged again it keeps it, another attempt gets its own."""
    item = records.get(layout.job_pk(job_key), layout.STATE) or {}
    if item.get("release") and item.get("release_fencing") == fencing:
        return int(item["release"])
    release = records.next_number(layout.model_pk(model), "RELEASES")
    values = {"release": release, "release_fencing": fencing}
    before = {"release": item.get("release")}
    try:
        records.update(layout.job_pk(job_key), layout.STATE, values, expect=before)
    except Conflict:
        return _release(model, job_key, fencing, records)
    return release


def _manifest(
    job: Job,
    dataset: Manifest,
    job_key: str,
    fencing: int,
    release: int,
    state: Mapping[str, Any],
    folder: Path,
    open_engine: OpenEngine,
) -> BundleManifest:
    inputs, outputs, opset = describe_onnx(folder / MODEL_FILE)
    raw = _raw_spec(job, inputs)
    goldens = _goldens(job, job_key, inputs, folder, open_engine)
    code = job.source.code.sha256 if isinstance(job.source, Training) else None
    score = state.get("evaluation", {}).get("candidate")
    return BundleManifest(
        model=job.model,
        release=release,
        files=describe_files(folder),
        opset=opset,
        inputs=inputs,
        outputs=outputs,
        raw=raw,
        image=job.image,
        preprocessing=job.preprocessing,
        postprocessing=job.postprocessing,
        goldens=goldens,
        metrics={} if score is None else {"accuracy": float(score)},
        lineage=Lineage(
            dataset=dataset.dataset,
            manifest_sha256=version_digest(dataset),
            job_sha256=dataset.job.sha256,
            job_key=job_key,
            code_sha256=code,
            fencing=fencing,
        ),
        created_at=str(state.get("started_at", "")),
        allow_nan=job.allow_nan,
    )


def _with_variant(manifest: BundleManifest, variant: Quantization | msgspec.UnsetType) -> BundleManifest:
    """Return the manifest with the figures of the 8-bit variant, and what follows from serving it."""
    if variant is msgspec.UNSET or not variant.served:
        return msgspec.structs.replace(manifest, quantization=variant)
    goldens = tuple(msgspec.structs.replace(golden, tolerance=INT8_TOLERANCE) for golden in manifest.goldens)
    metrics = {"accuracy": variant.accuracy} if variant.accuracy is not None else manifest.metrics
    return msgspec.structs.replace(manifest, quantization=variant, goldens=goldens, metrics=metrics)


def _raw_spec(job: Job, inputs: tuple[TensorSpec, ...]) -> TensorSpec | None:
    if job.raw_shape is None:
        return None
    if len(inputs) != 1:
        raise InvalidModel(
            f"the job has a raw_shape, which needs a model with one input; this one has {len(inputs)}"
        )
    datatype = RAW_DATATYPES[job.raw_dtype]
    return msgspec.convert({"name": "raw", "datatype": datatype, "shape": (-1, *job.raw_shape)}, TensorSpec)


def _goldens(
    job: Job, job_key: str, inputs: tuple[TensorSpec, ...], folder: Path, open_engine: OpenEngine
) -> tuple[Golden, ...]:
    """Write synthetic inputs and the model's answers: no sample of the data ever leaves in a bundle."""
    import numpy as np

    if len(inputs) != 1:
        return ()
    random = np.random.default_rng(int(job_key[:15], 16))
    dtype: str
    if job.raw_shape is not None:
        samples = 1 if inputs[0].shape[:1] == (1,) else GOLDEN_SAMPLES
        shape, dtype = (samples, *job.raw_shape), job.raw_dtype
    else:
        shape = tuple(
            GOLDEN_SAMPLES if size < 0 and axis == 0 else max(size, 1)
            for axis, size in enumerate(inputs[0].shape)
        )
        dtype = _numpy_dtype(inputs[0])
    whole = np.issubdtype(np.dtype(dtype), np.integer)
    sample = random.integers(0, 16, shape).astype(dtype) if whole else random.random(shape).astype(dtype)
    fed = preprocess(sample, job.preprocessing) if job.raw_shape is not None else sample
    expected = next(iter(open_engine(folder / MODEL_FILE).run({inputs[0].name: fed}).values()))
    (folder / "golden").mkdir()
    np.save(folder / "golden" / "0.input.npy", sample, allow_pickle=False)
    np.save(folder / "golden" / "0.expected.npy", expected, allow_pickle=False)
    return (Golden(inputs="golden/0.input.npy", expected="golden/0.expected.npy"),)


def _numpy_dtype(spec: TensorSpec) -> str:
    names = {"BOOL": "bool", "FP16": "float16", "FP32": "float32", "FP64": "float64"}
    if spec.datatype == "BYTES":
        raise InvalidModel(f"the input {spec.name} takes strings, for which no golden input can be made")
    return names.get(spec.datatype, spec.datatype.lower())


def upload_bundle(
    model: str,
    digest: str,
    manifest: BundleManifest,
    folder: Path,
    workdir: Path,
    blobs: BlobStore,
    serving: Serving,
) -> None:
    """Upload what the cloud and the edge will fetch; the manifest last, as the commit point."""
    key = layout.bundle_folder(model, digest)
    archives = (
        {"bundle.zip": ""} if serving.by == "weights" else {"bundle.zip": "", "layer.zip": LAYER_PREFIX}
    )
    for name, prefix in archives.items():
        packed = pack_bundle(folder, workdir / name, prefix=prefix)
        blobs.upload(key + name, packed.path, sha256=packed.sha256)
        packed.path.unlink()
    for file in manifest.files:
        if serving.by == "weights" or file.path == MODEL_FILE:
            blobs.upload(key + file.path, folder / file.path, sha256=file.sha256)
    for name in (SIGNATURE_FILE, MANIFEST_FILE):
        blobs.put(key + name, (folder / name).read_bytes())
