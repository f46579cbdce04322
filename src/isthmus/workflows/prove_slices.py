"""Prove that slices, one after the other, answer what the whole model answers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from isthmus.errors import SlicesDiffer
from isthmus.model.sliced import MAX_RELATIVE, Cast, OutputProof, SliceProof
from isthmus.ports import Engine
from isthmus.transport.casts import pack, read_table, unpack
from isthmus.workflows.slice_samples import Samples

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Arrays = dict[str, NDArray[Any]]

Turn = Callable[["Arrays"], "Arrays"]
"""What arrays become on their way from one slice to another."""


@dataclass(frozen=True)
class Running:
    """A slice that can be run, and the names of the tensors that it takes."""

    inputs: tuple[str, ...]
    engine: Engine


def turned(cast: Cast) -> Turn:
    """Return what the wire makes of arrays: packed and unpacked as a transport does it."""
    if not cast:
        return lambda arrays: arrays

    def turn(arrays: Arrays) -> Arrays:
        import numpy as np

        packed = pack(arrays, cast)
        payload = np.frombuffer(b"".join(packed.pieces), np.uint8)
        return unpack(read_table(packed.table, packed.size_bytes), payload)

    return turn


def chain(slices: Sequence[Running], feeds: Mapping[str, Any], cast: Cast = "") -> Arrays:
    """Run slices one after the other; return every tensor that is then known, raw inputs too, as it was made."""
    known: Arrays = dict(feeds)
    arrived: Arrays = dict(feeds)
    turn = turned(cast)
    for entry in slices:
        made = entry.engine.run({name: arrived[name] for name in entry.inputs})
        known |= made
        arrived |= turn(made)
    return known


def prove_slices(
    whole: Engine,
    slices: Sequence[Running],
    outputs: Sequence[str],
    samples: Samples,
    *,
    cast: Cast = "",
    allowed: float = MAX_RELATIVE,
    report: Callable[[int, int], None] = lambda done, count: None,
) -> SliceProof:
    """Run both on every sample, and return the largest differences.

    ``cast``: what 32-bit floating point crosses as. ``report`` is told how many samples of how many are done.

    Raises:
        SlicesDiffer: without a cast, by more than ``allowed`` of an output's range; with one, in shape, NaN or
            infinities.
        InvalidRequest: the model refuses the samples.
        InvalidModel: a model cannot be loaded, or fails.
    """
    found = {name: _Largest(name) for name in outputs}
    digest, done = hashlib.sha256(), 0
    for count, feeds in samples.runs():
        for name in sorted(feeds):
            digest.update(feeds[name].tobytes())
        ours, reference = chain(slices, feeds, cast), whole.run(feeds)
        for name, largest in found.items():
            largest.add(ours[name], reference[name])
        done += count
        report(done, samples.count)
    proof = SliceProof(
        samples=samples.count,
        source=samples.source,
        origin=samples.origin,
        samples_sha256=digest.hexdigest(),
        outputs=tuple(largest.proof() for largest in found.values()),
        allowed=allowed,
        cast=cast,
    )
    if not cast:
        _check(proof)
    return proof


def counted(samples: int) -> str:
    """Return how many samples there are, in words."""
    return f"{samples} samples" if samples != 1 else "one sample"


def _check(proof: SliceProof) -> None:
    worst = max(proof.outputs, key=lambda entry: entry.relative, default=None)
    if worst is None or worst.relative <= proof.allowed:
        return
    advice = (
        "give real samples (--samples FILE), on which its outputs vary as in service"
        if proof.source == "synthetic"
        else "plan a cut elsewhere, or allow more (--tolerance)"
    )
    raise SlicesDiffer(
        f"the slices' {worst.name} differs from the whole's by {worst.relative:.2g} of its range "
        f"({worst.largest_difference:.3g} of {worst.range:.3g}) on {counted(proof.samples)} ({proof.origin}), and at "
        f"most {proof.allowed:g} is allowed: {advice}"
    )


@dataclass
class _Largest:
    """Of one output over all runs."""

    name: str
    difference: float = 0.0
    low: float = float("inf")
    high: float = float("-inf")

    def add(self, ours: Any, reference: Any) -> None:
        import numpy as np

        if ours.shape != reference.shape:
            raise SlicesDiffer(
                f"the slices give {self.name} as {list(ours.shape)}, and the whole as {list(reference.shape)}"
            )
        a, b = ours.astype(np.float64), reference.astype(np.float64)
        finite = np.isfinite(b)
        if not np.array_equal(a[~finite], b[~finite], equal_nan=True) or not np.isfinite(a[finite]).all():
            raise SlicesDiffer(
                f"the slices give {self.name} with other NaN or infinite values than the whole"
            )
        if finite.any():
            self.difference = max(self.difference, float(np.abs(a[finite] - b[finite]).max()))
            self.low, self.high = (
                min(self.low, float(b[finite].min())),
                max(self.high, float(b[finite].max())),
            )

    def proof(self) -> OutputProof:
        """Where all values are one, the difference counts as a share of that value."""
        spread = max(self.high - self.low, 0.0)
        scale = spread or abs(self.high)
        relative = self.difference / scale if self.difference and scale else self.difference
        return OutputProof(
            name=self.name, largest_difference=self.difference, range=spread, relative=relative
        )
