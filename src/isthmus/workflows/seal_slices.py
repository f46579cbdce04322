"""Seal slices as bundles that are served like any other model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from isthmus.inference.bundle import describe_files, seal_bundle
from isthmus.inference.onnx_model import describe_onnx
from isthmus.inference.processing import preprocess
from isthmus.inference.proof import MAX_ELEMENTS
from isthmus.model import layout
from isthmus.model.bundle import BundleManifest, Golden, Lineage, TensorSpec
from isthmus.ports import Engine, Signer
from isthmus.workflows.prove_slices import Running

if TYPE_CHECKING:
    from isthmus.frameworks.onnx.slices import Part

DIGEST_SHOWN = 12


@dataclass(frozen=True)
class Source:
    """What the slices are of: digests of the whole ONNX file and of the plan, and the whole's manifest where it is a
    bundle, of which the slices keep the lineage, the pre-processing and the post-processing. ``now``: ISO 8601."""

    model_sha256: str
    plan_sha256: str
    now: str
    manifest: BundleManifest | None = None

    @property
    def job_key(self) -> str:
        """Names this model with this plan, as a job's key names a dataset with a job."""
        return layout.job_key(self.model_sha256, self.plan_sha256)


@dataclass(frozen=True)
class Sealed:
    """A slice's bundle; ``folder``: its name beside ``sliced.json``."""

    manifest: BundleManifest
    sha256: str
    folder: str


def seal_slices(
    parts: Sequence[Part],
    running: Sequence[Running],
    source: Source,
    *,
    releases: Mapping[str, int],
    feeds: Mapping[str, Any],
    signer: Signer,
) -> tuple[Sealed, ...]:
    """Write golden inputs and a signed manifest beside each part's file; its folder has the slice's name.

    ``feeds``: one run's made-up inputs of the whole: a slice's golden input is what the slices before it make of
    them, and no sample of anybody's data is in a bundle. A slice that takes several tensors has none, as other
    models that do; nor has one whose tensors are too wide for a request in JSON.
    """
    known = dict(feeds)
    found = []
    for part, entry in zip(parts, running, strict=True):
        folder, name = part.path.parent, part.path.parent.name
        taken = {tensor: known[tensor] for tensor in part.inputs}
        made = entry.engine.run(taken)
        known |= made
        manifest = _manifest(name, part, source, releases[name])
        manifest = _with_golden(manifest, folder, taken, made, entry.engine)
        manifest = msgspec.structs.replace(manifest, files=describe_files(folder))
        bundle = seal_bundle(folder, manifest, signer)
        found.append(Sealed(bundle.manifest, bundle.sha256, f"{name}-{bundle.sha256[:DIGEST_SHOWN]}"))
    return tuple(found)


def _manifest(name: str, part: Part, source: Source, release: int) -> BundleManifest:
    inputs, outputs, opset = describe_onnx(part.path)
    manifest = BundleManifest(
        model=name,
        release=release,
        files=(),
        opset=opset,
        inputs=inputs,
        outputs=outputs,
        lineage=_lineage(source),
        created_at=source.now,
        # What a mask adds to attention, for one, is infinite: activations are taken as they come.
        allow_nan=True,
    )
    return manifest if source.manifest is None else _with_processing(manifest, source.manifest)


def _lineage(source: Source) -> Lineage:
    before = Lineage(job_key=source.job_key) if source.manifest is None else source.manifest.lineage
    return msgspec.structs.replace(before, plan_sha256=source.plan_sha256, model_sha256=source.model_sha256)


def _with_processing(manifest: BundleManifest, whole: BundleManifest) -> BundleManifest:
    """Give the slice that takes what the whole takes its pre-processing, and the one that gives what it gives its
    post-processing."""
    changed: dict[str, Any] = {}
    if _names(manifest.inputs) == _names(whole.inputs):
        changed |= {"raw": whole.raw, "image": whole.image, "preprocessing": whole.preprocessing}
        changed |= {"allow_nan": whole.allow_nan}
    if _names(manifest.outputs)[:1] == _names(whole.outputs)[:1]:
        changed["postprocessing"] = whole.postprocessing
    return msgspec.structs.replace(manifest, **changed)


def _names(specs: Sequence[TensorSpec]) -> list[str]:
    return [spec.name for spec in specs]


def _with_golden(
    manifest: BundleManifest, folder: Path, taken: Mapping[str, Any], made: Mapping[str, Any], engine: Engine
) -> BundleManifest:
    import numpy as np

    if len(taken) != 1:
        return manifest
    (asked,) = taken.values()
    if manifest.raw is not None:
        asked = _raw(manifest.raw, len(asked) if asked.ndim else 1)
        made = engine.run({manifest.inputs[0].name: preprocess(asked, manifest.preprocessing)})
    expected = made[manifest.outputs[0].name]
    if not expected.size or not np.isfinite(expected.astype(np.float64)).all():
        return manifest  # nothing that can be compared
    if max(_asked_at_once(asked, manifest), _asked_at_once(expected, manifest)) > MAX_ELEMENTS:
        return manifest  # a golden is asked as JSON, and of wide activations one sample is more than Lambda takes
    (folder / "golden").mkdir()
    np.save(folder / "golden" / "0.input.npy", asked, allow_pickle=False)
    np.save(folder / "golden" / "0.expected.npy", expected, allow_pickle=False)
    golden = Golden(inputs="golden/0.input.npy", expected="golden/0.expected.npy")
    return msgspec.structs.replace(manifest, goldens=(golden,))


def _asked_at_once(array: Any, manifest: BundleManifest) -> int:
    """Return the elements of the smallest request that brings, or gives, a part of an array."""
    open_batch = (manifest.raw or manifest.inputs[0]).shape[:1] == (-1,)
    return int(array.size // len(array)) if open_batch and array.ndim and len(array) else int(array.size)


def _raw(spec: TensorSpec, count: int) -> Any:
    import numpy as np

    from isthmus.inference.datatypes import NUMPY

    random, dtype = np.random.default_rng(0), np.dtype(NUMPY[spec.datatype])
    shape = (count, *spec.shape[1:])
    whole = np.issubdtype(dtype, np.integer)
    return random.integers(0, 16, shape).astype(dtype) if whole else random.random(shape).astype(dtype)
