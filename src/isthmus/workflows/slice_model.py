"""Cut a model as a plan says, prove that the slices are the whole, and seal each as a bundle of its own."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isthmus import documents
from isthmus.errors import EnvironmentProblem, InvalidCase, InvalidModel
from isthmus.inference.bundle import open_bundle
from isthmus.inference.onnx_model import describe_onnx
from isthmus.model import layout
from isthmus.model.bundle import MANIFEST_FILE, MODEL_FILE, BundleManifest
from isthmus.model.sliced import MAX_RELATIVE, Cast, ModelSlice, SlicedModel, SliceProof
from isthmus.model.slicing import SlicePlan
from isthmus.planning.slicing.stages import Stage, base_name, slice_names, stages
from isthmus.ports import Engine, Signer
from isthmus.workflows.number_slices import UNPUBLISHED_RELEASE, Reservation, contents_of, number_slices
from isthmus.workflows.plan_slices import LIBRARIES, load_plan
from isthmus.workflows.prove_slices import Running, prove_slices
from isthmus.workflows.scoring import OpenEngine
from isthmus.workflows.seal_slices import Source, seal_slices
from isthmus.workflows.slice_samples import InputForm, Samples, given, made_up
from isthmus.workflows.sliced_document import cast_of, slice_entries, transfers
from isthmus.workflows.sliced_folder import commit, scratch_folder, signed

if TYPE_CHECKING:
    from isthmus.frameworks.onnx.cut import Cutter
    from isthmus.frameworks.onnx.slices import Part

Say = Callable[[str], None]
SAY_EVERY = 16
"""Of samples that are compared."""


@dataclass(frozen=True)
class Given:
    """A person's samples: an array ``[samples, ...]`` for each input, or for the only one under any name.
    ``origin`` names them in the proof."""

    arrays: Mapping[str, Any]
    origin: str


@dataclass(frozen=True)
class Order:
    """What is to be sliced. ``model``: an ONNX file, or a bundle's folder; ``plan``: the plan's document.

    ``name``: what the slices' names begin with; else the network's. ``cast``: what crosses as what; None: as
    the plan says. ``zones``: of the plan's devices. ``dimensions``: as the plan was made with. ``samples``: None:
    made-up ones. ``tolerance``: the most that slices may differ from the whole without a cast, as a share of an
    output's range.
    """

    model: Path
    plan: bytes
    name: str = ""
    cast: Cast | None = None
    zones: Mapping[str, str] | None = None
    dimensions: Mapping[str, int] | None = None
    samples: Given | None = None
    tolerance: float = MAX_RELATIVE


def slice_model(
    order: Order,
    folder: Path,
    *,
    signer: Signer,
    open_engine: OpenEngine,
    now: str,
    reserve: Callable[[Reservation], Reservation] | None = None,
    say: Say = lambda line: None,
) -> SlicedModel:
    """Write the slices' bundles and ``sliced.json`` to ``folder``, which is new, empty, or holds an earlier slicing.

    ``sliced.json`` is written last, and is the commit point. ``reserve``: numbers the slices where they are to
    be published.

    Raises:
        InvalidDocument: the plan is none.
        InvalidCase: it is another model's.
        InvalidModel, InvalidInput: the model, or the samples, cannot be used.
        SlicesDiffer: the slices do not answer what the whole answers; nothing is left of them.
        EnvironmentProblem: a library is missing, or the folder holds other files.
    """
    # What is published is signed by the stack's key, and so must be the bundle that it comes from.
    work = _read(order, None if reserve is None else signer.public_key(), say)
    samples = _samples(work.cutter, order.samples)
    cast = cast_of(work.plan) if order.cast is None else order.cast
    with scratch_folder(folder) as scratch:
        parts = _parts(work, scratch, say)
        running = [Running(part.inputs, open_engine(part.path)) for part in parts]
        proof = _proof(work, open_engine(work.model), running, samples, cast, order.tolerance, say)
        source = Source(work.model_sha256, work.plan_sha256, now, work.manifest)
        releases, fencing = dict.fromkeys(work.names, UNPUBLISHED_RELEASE), 0
        feeds = _golden_feeds(work.cutter)
        sealed = seal_slices(parts, running, source, releases=releases, feeds=feeds, signer=signer)
        if reserve is not None:
            reserved = reserve(
                Reservation(work.base, work.job_key, contents_of(sealed), releases, now, fencing)
            )
            sealed = number_slices(sealed, [part.path.parent for part in parts], reserved, signer)
            fencing = reserved.fencing
        entries = slice_entries(
            work.plan, work.stages, parts, sealed, order.zones or {}, published=reserve is not None
        )
        document = signed(_document(work, entries, parts, cast, proof, fencing), signer)
        commit(folder, scratch, document, work.plan, signer.public_key())
    return document


@dataclass(frozen=True)
class _Work:
    """What was read: the plan with its stages, and the model with its manifest, where it is a bundle's."""

    plan: SlicePlan
    model: Path
    manifest: BundleManifest | None
    cutter: Cutter
    stages: tuple[Stage, ...]
    base: str

    @property
    def names(self) -> tuple[str, ...]:
        """Of the slices."""
        return slice_names(self.base, len(self.stages))

    @property
    def model_sha256(self) -> str:
        """Of the whole model."""
        return self.cutter.graph.digest

    @property
    def plan_sha256(self) -> str:
        """Of the plan's document."""
        return documents.digest(self.plan)

    @property
    def job_key(self) -> str:
        """Names this model with this plan."""
        return layout.job_key(self.model_sha256, self.plan_sha256)


def _read(order: Order, public_key_der: bytes | None, say: Say) -> _Work:
    plan = load_plan(order.plan, "the plan")
    model, manifest = _whole(order.model, public_key_der)
    say(f"reading {model.name} …")
    cutter = _cutter(model, order.dimensions)
    if plan.network_digest and plan.network_digest != cutter.graph.digest:
        raise InvalidCase(
            f"the plan is of {plan.network} ({plan.network_digest[:12]}), and {model.name} is another model "
            f"({cutter.graph.digest[:12]}): plan it with `isthmus plan {model.name}`"
        )
    found = stages(plan, len(cutter.groups))
    return _Work(plan, model, manifest, cutter, found, base_name(order.name or plan.network, len(found)))


def _document(
    work: _Work,
    entries: tuple[ModelSlice, ...],
    parts: Sequence[Part],
    cast: Cast,
    proof: SliceProof,
    fencing: int,
) -> SlicedModel:
    inputs, outputs, _ = describe_onnx(work.model)
    return SlicedModel(
        network=work.plan.network,
        name=work.base,
        model_sha256=work.model_sha256,
        plan_sha256=work.plan_sha256,
        batch_open=work.cutter.graph.open_batch,
        inputs=inputs,
        outputs=outputs,
        slices=entries,
        transfers=transfers(work.plan, work.cutter, work.stages, parts, cast),
        cast=cast,
        proof=proof,
        fencing=fencing,
    )


def input_forms(cutter: Cutter) -> tuple[InputForm, ...]:
    """Return what the whole model takes."""
    found = []
    for entry in cutter.graph.model.graph.input:
        shape = cutter.graph.shapes[entry.name]
        batched = cutter.graph.open_batch and (shape.one[:1], shape.two[:1]) == ((1,), (2,))
        found.append(InputForm(entry.name, shape.dtype, shape.one, batched))
    return tuple(found)


def _whole(path: Path, public_key_der: bytes | None) -> tuple[Path, BundleManifest | None]:
    """Return the ONNX file, and the manifest where it lies in a bundle, which is verified: what it says is signed anew
    with the slices. ``public_key_der``: of who must have signed it; None: anybody.

    Raises:
        SignatureInvalid, DigestMismatch, InvalidDocument, InvalidModel: as ``open_bundle``.
    """
    if not path.is_dir():
        return path, None
    if not (path / MODEL_FILE).is_file():
        raise InvalidModel(
            f"{path} is a folder without {MODEL_FILE}; name an ONNX file, or a bundle's folder"
        )
    if not (path / MANIFEST_FILE).is_file():
        return path / MODEL_FILE, None
    return path / MODEL_FILE, open_bundle(path, public_key_der).manifest


def _cutter(model: Path, dimensions: Mapping[str, int] | None) -> Cutter:
    try:
        from isthmus.frameworks.onnx.cut import Cutter

        return Cutter(model, dimensions)
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if library not in LIBRARIES:
            raise
        raise EnvironmentProblem(f"slicing needs {library}; install `isthmus[slicing]`") from error


def _parts(work: _Work, scratch: Path, say: Say) -> list[Part]:
    """Write each slice to its file in a folder of its name."""
    from isthmus.frameworks.onnx.slices import write_parts

    ranges = [(stage.start, stage.end) for stage in work.stages]
    paths = [scratch / name / MODEL_FILE for name in work.names]
    for path in paths:
        path.parent.mkdir()
    parts = []
    for part in write_parts(work.cutter, ranges, paths):
        parts.append(part)
        say(f"  {len(parts)}/{len(ranges)}  operators [{part.start},{part.end})  {part.first} .. {part.last}")
    return parts


def _golden_feeds(cutter: Cutter) -> Mapping[str, Any]:
    """The second run has several samples, where the batch is open."""
    _, (_, feeds) = itertools.islice(made_up(input_forms(cutter)).runs(), 2)
    return feeds


def _samples(cutter: Cutter, theirs: Given | None) -> Samples:
    forms = input_forms(cutter)
    return made_up(forms) if theirs is None else given(forms, theirs.arrays, theirs.origin)


def _proof(
    work: _Work,
    whole: Engine,
    running: Sequence[Running],
    samples: Samples,
    cast: Cast,
    allowed: float,
    say: Say,
) -> SliceProof:
    outputs = [entry.name for entry in work.cutter.graph.model.graph.output]
    say(f"comparing with the whole on {samples.count} samples ({samples.origin}) …")

    def report(done: int, count: int) -> None:
        if done // SAY_EVERY > (done - 1) // SAY_EVERY and done < count:
            say(f"  {done}/{count} samples")

    return prove_slices(whole, running, outputs, samples, cast=cast, allowed=allowed, report=report)
