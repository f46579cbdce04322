"""What ``sliced.json`` says of each slice, and of what goes from one to another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from isthmus.model.bundle import MODEL_FILE
from isthmus.model.sliced import CALLER, Cast, ModelSlice, SlicePlace, SliceTransfer
from isthmus.model.slicing import SlicePlan, Transfer
from isthmus.planning.slicing.request import CAST_BYTES
from isthmus.planning.slicing.stages import Crossing, Stage, crossings
from isthmus.workflows.seal_slices import Sealed

if TYPE_CHECKING:
    from isthmus.frameworks.onnx.cut import Cutter
    from isthmus.frameworks.onnx.slices import Part

CASTABLE = "float32"


def cast_of(plan: SlicePlan) -> Cast:
    """Return what the plan sends 32-bit floating point as."""
    kinds: dict[str, Cast] = {"float16": "float16", "int8": "int8"}
    return next((kinds[entry.dtype] for entry in plan.transfers if entry.dtype in kinds), "")


def slice_entries(
    plan: SlicePlan,
    found: Sequence[Stage],
    parts: Sequence[Part],
    sealed: Sequence[Sealed],
    zones: Mapping[str, str],
    *,
    published: bool,
) -> tuple[ModelSlice, ...]:
    """Return an entry for each slice, in the order in which they run."""
    return tuple(
        ModelSlice(
            name=bundle.manifest.model,
            start=stage.start,
            end=stage.end,
            planned_as=stage.planned_as,
            places=_places(plan, stage, zones),
            inputs=bundle.manifest.inputs,
            outputs=bundle.manifest.outputs,
            sha256=next(file.sha256 for file in bundle.manifest.files if file.path == MODEL_FILE),
            size_bytes=next(file.size_bytes for file in bundle.manifest.files if file.path == MODEL_FILE),
            compute_seconds=_seconds(plan, stage),
            first=part.first,
            last=part.last,
            bundle=bundle.sha256,
            folder=bundle.folder,
            release=bundle.manifest.release if published else 0,
        )
        for stage, part, bundle in zip(found, parts, sealed, strict=True)
    )


def _places(plan: SlicePlan, stage: Stage, zones: Mapping[str, str]) -> tuple[SlicePlace, ...]:
    return tuple(
        SlicePlace(device=replica.device, zone=zones.get(replica.device, ""), share=replica.share)
        for replica in plan.slices[stage.planned_as].replicas
    )


def _seconds(plan: SlicePlan, stage: Stage) -> float:
    """Return a stage's share of its slice: as planned for its range, else by the number of operators."""
    entry = plan.slices[stage.planned_as]
    spans = [span for span in entry.ranges if span[0] < span[1]]
    if len(spans) == 1:
        return entry.compute_seconds
    if len(entry.range_seconds) == len(entry.ranges):
        return entry.range_seconds[entry.ranges.index((stage.start, stage.end))]
    return entry.compute_seconds * (stage.end - stage.start) / sum(end - start for start, end in spans)


def transfers(
    plan: SlicePlan, cutter: Cutter, found: Sequence[Stage], parts: Sequence[Part], cast: Cast
) -> tuple[SliceTransfer, ...]:
    """Return what goes from whom to whom, with the figures of the plan's transfer of the same tensors."""
    graph = cutter.graph.model.graph
    crossing = crossings(
        [entry.name for entry in graph.input],
        [entry.name for entry in graph.output],
        [part.inputs for part in parts],
        [part.outputs for part in parts],
    )
    return tuple(_transfer(plan, cutter, found, entry, cast) for entry in crossing)


def _transfer(
    plan: SlicePlan, cutter: Cutter, found: Sequence[Stage], crossing: Crossing, cast: Cast
) -> SliceTransfer:
    ends = [None if k == CALLER else found[k].planned_as for k in (crossing.source, crossing.target)]
    between = None not in ends and ends[0] != ends[1]
    planned = _planned(plan, ends, crossing.tensors)
    used: Cast = cast if between else ""
    return SliceTransfer(
        source=crossing.source,
        target=crossing.target,
        tensors=crossing.tensors,
        size_bytes=sum(_sent_bytes(cutter, name, used) for name in crossing.tensors),
        seconds=planned.seconds if planned else 0.0,
        transport=planned.transport if planned else "direct" if between else "local",
        cast=used,
        leakage_r2=planned.leakage_r2 if planned else None,
    )


def _planned(plan: SlicePlan, ends: Sequence[int | None], tensors: Sequence[str]) -> Transfer | None:
    """Return the plan's transfer of these tensors; where raw inputs lie, a plan has a slice without operators."""
    for entry in plan.transfers:
        source = entry.source if plan.slices[entry.source].works else None
        if [source, entry.target] == list(ends) and set(entry.tensors) == set(tensors):
            return entry
    return None


def _sent_bytes(cutter: Cutter, tensor: str, cast: Cast) -> int:
    from isthmus.frameworks.onnx.read import ELEMENT_BYTES
    from isthmus.frameworks.onnx.slices import sample_bytes

    kind = cutter.graph.shapes[tensor].dtype
    size = sample_bytes(cutter, tensor)
    return size // ELEMENT_BYTES[kind] * CAST_BYTES[cast] if cast and kind == CASTABLE else size
