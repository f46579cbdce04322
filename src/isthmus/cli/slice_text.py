"""What ``isthmus slice`` prints for a person."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from isthmus.model.sliced import CALLER, ModelSlice, SlicedModel, SliceTransfer
from isthmus.model.slicing import SlicePlan
from isthmus.model.units import format_bytes
from isthmus.planning.slicing import render
from isthmus.planning.slicing.frontier import CutFigures, Frontier
from isthmus.planning.slicing.wording import columns, duration, listed, percent, shorten
from isthmus.workflows.prove_slices import counted

MOST_CUTS = 20
"""Of a frontier's best cuts in the table; the JSON has all cuts."""


def sliced(document: SlicedModel, plan: SlicePlan | None) -> str:
    """Return the slices, what crosses, the proof; and why it is cut there, where the plan is known."""
    parts = [_head(document), _slices(document.slices), _transfers(document), _proof(document)]
    if plan is not None:
        parts.append(_why(plan))
    return "\n\n".join("\n".join(part) for part in map(list, parts) if part)


def planned(plan: SlicePlan) -> str:
    """Return a plan that was not cut yet, and what would cut it."""
    return f"{render.table(plan)}\n\nnothing is cut yet: `isthmus slice MODEL --plan PLAN.json` does"


def _head(document: SlicedModel) -> Iterator[str]:
    count = len(document.slices)
    batch = "any batch" if document.batch_open else "the batch of the whole"
    yield f"{document.network} in {count} slice{'s' if count > 1 else ''}, for {batch}"
    yield f"model {document.model_sha256[:12]}, plan {document.plan_sha256[:12]}"


def _slices(slices: Sequence[ModelSlice]) -> Iterator[str]:
    rows = [("SLICE", "LAYERS", "OPERATORS", "DEVICE", "ZONE", "COMPUTE", "SIZE", "RELEASE", "BUNDLE")]
    for entry in slices:
        operators = " .. ".join(dict.fromkeys(shorten(name, 24) for name in (entry.first, entry.last)))
        rows.append(
            (
                entry.name,
                f"[{entry.start},{entry.end})",
                operators,
                " + ".join(place.device for place in entry.places),
                entry.zone or "-",
                duration(entry.compute_seconds) if entry.compute_seconds else "-",
                format_bytes(entry.size_bytes),
                str(entry.release or "-"),
                (entry.bundle or "-")[:12],
            )
        )
    yield from columns(rows, right=frozenset({5, 6, 7}))


def _transfers(document: SlicedModel) -> Iterator[str]:
    rows = [("FROM", "TO", "TENSORS", "SIZE", "TIME", "BY", "AS", "R2")]
    for entry in document.transfers:
        rows.append(
            (
                _end(entry.source, document),
                _end(entry.target, document),
                listed(entry.tensors, most=2, width=28),
                format_bytes(entry.size_bytes),
                duration(entry.seconds) if entry.seconds else "-",
                _by(entry),
                entry.cast or "it is",
                "-" if entry.leakage_r2 is None else f"{entry.leakage_r2:.3f}",
            )
        )
    yield from columns(rows, right=frozenset({3, 4, 7}))


def _end(number: int, document: SlicedModel) -> str:
    return "who asks" if number == CALLER else f"slice {number} ({document.slices[number].device})"


def _by(entry: SliceTransfer) -> str:
    return "request" if CALLER in (entry.source, entry.target) else entry.transport


def _proof(document: SlicedModel) -> Iterator[str]:
    proof = document.proof
    kind = "" if proof.source == "file" else " (made up: give --samples for real ones)"
    yield f"against the whole on {counted(proof.samples)}, {proof.origin}{kind}:"
    rows: list[tuple[str, ...]] = [("  OUTPUT", "LARGEST DIFFERENCE", "RANGE", "RELATIVE")]
    for entry in proof.outputs:
        figures = (entry.largest_difference, entry.range, entry.relative)
        rows.append((f"  {shorten(entry.name, 40)}", *(f"{figure:.3g}" for figure in figures)))
    yield from columns(rows, right=frozenset({1, 2, 3}))
    if proof.cast:
        yield f"  what crosses is sent as {proof.cast}, which is where the difference comes from"
    else:
        yield f"  at most {proof.allowed:g} of its range is allowed"


def _why(plan: SlicePlan) -> Iterator[str]:
    """Name what the plan says for its cuts: its objective and bound, what it is compared with, and each device."""
    proof = "no plan is better" if plan.exact else f"at most {percent(plan.gap)} from the best"
    yield f"why here: planned for {plan.objective} by {plan.method}; {proof}"
    yield render.pays(plan)
    rows = [
        (f"  {entry.device}", "used" if entry.used else "not used", entry.reason) for entry in plan.reasons
    ]
    if rows:
        yield from columns(rows)


def frontier(found: Frontier) -> str:
    """Return the cuts that no other is better than in all respects."""
    best = [cut for cut in found.cuts if cut.best]
    head = f"{found.network}: of {len(found.cuts)} cuts, {len(best)} that no other is better than in every respect"
    rows = [("CUT", "AFTER", "TENSORS", "SIZE", "LATENCY", "R2"), *(_cut(cut) for cut in best[:MOST_CUTS])]
    more = f"\nand {len(best) - MOST_CUTS} more: -o FILE writes all" if len(best) > MOST_CUTS else ""
    lines = "\n".join(columns(rows, right=frozenset({0, 3, 4, 5})))
    return f"{head}\nbefore the cut on {found.first}, after it on {found.second}\n\n{lines}{more}"


def _cut(cut: CutFigures) -> tuple[str, ...]:
    return (
        str(cut.at),
        shorten(cut.after, 32) or "-",
        listed(cut.tensors, most=2, width=28) or "-",
        format_bytes(cut.size_bytes),
        "-" if cut.latency_seconds is None else duration(cut.latency_seconds),
        "-" if cut.leakage_r2 is None else f"{cut.leakage_r2:.3f}",
    )
