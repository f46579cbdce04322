"""Publish a sliced model to a stack: bundles in the bucket, a release of each slice, and which slices the model is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import msgspec

from isthmus import documents
from isthmus.errors import Conflict, InvalidCase
from isthmus.inference.bundle import open_bundle
from isthmus.inference.limits import Serving, choose_serving
from isthmus.model import layout
from isthmus.model.sliced import ModelSlice, SlicedModel
from isthmus.model.units import MIB
from isthmus.ports import BlobStore, Executions, Item, Records
from isthmus.workflows.number_slices import Reservation
from isthmus.workflows.package_model import upload_bundle

SERVING_BYTES = 128 * MIB
"""A serving function with its layers, unzipped: 108 MiB on x86_64 as built (core 31, onnxruntime 68, images 8), and
some room. What it leaves of Lambda's 250 MiB is for a bundle in a layer; a larger one is fetched from the bucket."""
CLOUD = "aws:"
"""How the zones begin whose devices a stack's functions stand for."""


def reserve(asked: Reservation, *, records: Records) -> Reservation:
    """Number the slices: the same bundles of a model with a plan keep their numbers, others get their own."""
    pk, sk = layout.job_pk(asked.job_key), layout.sliced_sk(asked.contents)
    item = records.get(pk, sk) or {}
    before: Mapping[str, int] = item.get("releases") or {}
    numbers = {name: int(before[name]) for name in asked.releases if name in before}
    for name in asked.releases:
        if name not in numbers:
            numbers[name] = records.next_number(layout.model_pk(name), "RELEASES")
    created = str(item.get("created_at") or asked.created_at)
    values = {"releases": {**before, **numbers}, "created_at": created}
    if values["releases"] != before:
        try:
            records.update(pk, sk, values, expect={"releases": item.get("releases")})
        except Conflict:
            return reserve(asked, records=records)
    fencing = records.next_number(layout.model_pk(asked.name), "SLICINGS")
    return replace(asked, releases=numbers, created_at=created, fencing=fencing)


def publish_slices(
    document: SlicedModel, folder: Path, *, blobs: BlobStore, records: Records, workdir: Path
) -> str:
    """Upload each slice's bundle and enter its release, then the document; return the document's key.

    A slice is then a model like any other: what deploys models can put it in service.

    Raises:
        LimitExceeded: no function could hold a slice; the model's slices stay those that they were.
        InvalidCase: the slices were not numbered by this stack, or newer ones were published meanwhile.
        InvalidModel, DigestMismatch: a bundle in ``folder`` is not what the document says.
    """
    if not all(entry.release for entry in document.slices):
        raise InvalidCase(f"the slices of {document.name} were made for a folder alone: slice with --publish")
    servings = [_serving(entry, folder) for entry in document.slices]
    for entry, serving in zip(document.slices, servings, strict=True):
        _publish(entry, folder, serving, document, blobs, records, workdir)
    digest = documents.digest(document)
    key = layout.sliced_key(document.name, digest)
    blobs.put(key, documents.encode(document), sha256=digest)
    values = {"document": key, "sha256": digest, "fencing": document.fencing}
    try:
        # The commit point: from here on the model is served as these slices.
        below = {"fencing": document.fencing}
        records.update(layout.model_pk(document.name), layout.SLICED, values, below=below)
    except Conflict as error:
        raise InvalidCase(
            f"{document.name} was sliced again meanwhile, and that is what is served: nothing is to be done"
        ) from error
    return key


def _serving(entry: ModelSlice, folder: Path) -> Serving:
    size = sum(file.stat().st_size for file in (folder / entry.folder).rglob("*") if file.is_file())
    return choose_serving({"function and layers": SERVING_BYTES}, size)


def _publish(
    entry: ModelSlice,
    folder: Path,
    serving: Serving,
    document: SlicedModel,
    blobs: BlobStore,
    records: Records,
    workdir: Path,
) -> None:
    bundle = open_bundle(folder / entry.folder, None, sha256=entry.bundle or "")
    pk, sk = layout.model_pk(entry.name), layout.release_sk(entry.release)
    if (published := records.get(pk, sk)) is not None:
        # A new signature would change bytes whose digest Greengrass has on record.
        _check_same(entry, bundle.sha256, published)
        return
    upload_bundle(entry.name, bundle.sha256, bundle.manifest, bundle.folder, workdir, blobs, serving)
    item: Item = {"bundle": bundle.sha256, "job_key": bundle.manifest.lineage.job_key, "metrics": {}}
    item |= {"serving": msgspec.to_builtins(serving), "baseline": None}
    item |= {"slice_of": document.name, "plan": document.plan_sha256}
    if not records.create({"pk": pk, "sk": sk, **item}):
        _check_same(entry, bundle.sha256, records.get(pk, sk) or {})


def _check_same(entry: ModelSlice, bundle: str, published: Item) -> None:
    if (there := published.get("bundle", "")) != bundle:
        raise InvalidCase(
            f"release {entry.release} of {entry.name} is the bundle {there[:12]} already, and a release is one bundle "
            f"for ever; this one is {bundle[:12]}: slice it anew with --publish, and it gets a number of its own"
        )


def deploy_slices(
    document: SlicedModel, *, records: Records, executions: Executions, machine: str
) -> list[str]:
    """Start the roll-out of each slice whose device lies in AWS, or whose zone is not known; return their names.

    Raises:
        InvalidCase: no slice is for the cloud.
    """
    started, asked = [], 0
    for entry in document.slices:
        if entry.zone and not entry.zone.startswith(CLOUD):
            continue
        asked += 1
        champion = records.get(layout.CHAMPIONS, entry.name)
        release = records.get(layout.model_pk(entry.name), layout.release_sk(entry.release)) or {}
        payload = {"model": entry.name, "bundle": entry.bundle, "release": entry.release}
        payload |= {"job_key": release["job_key"], "against": champion["release"] if champion else 0}
        if executions.start(machine, f"{entry.name}-{entry.release}-{document.fencing}", payload):
            started.append(entry.name)
    if not asked:
        zones = ", ".join(sorted({entry.zone for entry in document.slices}))
        raise InvalidCase(f"needs a slice on a device in AWS to deploy; the slices' zones are {zones}")
    return started
