"""A model in slices: what each slice takes and gives, where it runs, and the proof that together they are the whole."""

from __future__ import annotations

from typing import Literal

import msgspec

from isthmus.model.blob import Name, Sha256, SizeBytes
from isthmus.model.bundle import TensorSpec

Cast = Literal["", "float16", "int8"]
"""What 32-bit floating point is sent as; empty: as it is."""
CALLER = -1
"""The number that stands for who asks, where a transfer comes from a request or goes into the answer."""
MAX_RELATIVE = 2e-6
"""The most that slices may differ from the whole, as a share of an output's range, where nobody asks for more."""


class SlicePlace(msgspec.Struct, frozen=True, kw_only=True):
    """A device that runs a slice, its zone (empty: not known), and its share of the samples."""

    device: str
    zone: str = ""
    share: float = 1.0


class ModelSlice(msgspec.Struct, frozen=True, kw_only=True):
    """One slice, served under ``name`` like any other model.

    ``start``, ``end``: its half-open range ``[start, end)`` of the network's operators. ``planned_as``: the number
    of the plan's slice that it is, or is a part of: a slice of several ranges runs as several. ``inputs``,
    ``outputs``: as the model takes and gives them; -1 is the batch, where it is open. ``sha256``, ``size_bytes``: of
    its ONNX file. ``bundle``: digest of its bundle's manifest, and ``folder`` where that lies beside this
    document; ``release``: its number in the stack, 0 when it was not published.
    """

    name: Name
    start: int
    end: int
    planned_as: int
    places: tuple[SlicePlace, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    sha256: Sha256
    size_bytes: SizeBytes
    compute_seconds: float = 0.0
    """As planned, of one sample."""
    first: str = ""
    last: str = ""
    """Names of its first and last operator."""
    bundle: Sha256 | None = None
    folder: str = ""
    release: int = 0

    @property
    def ranges(self) -> tuple[tuple[int, int], ...]:
        """Its range, as plans write them."""
        return ((self.start, self.end),)

    @property
    def device(self) -> str:
        """The (first) device that runs it."""
        return self.places[0].device

    @property
    def zone(self) -> str:
        """The zone of that device; empty when it is not known."""
        return self.places[0].zone


class SliceTransfer(msgspec.Struct, frozen=True, kw_only=True):
    """What goes from one slice to a later one; ``source`` and ``target`` number slices, ``CALLER`` is who asks.

    A tensor that skips slices goes straight from who makes it to who reads it. ``size_bytes``: of one sample, as
    sent; ``seconds``: as planned. ``cast``: what its 32-bit floating point is sent as. ``leakage_r2``: how well a
    decoder rebuilt the raw inputs from it; None: not measured.
    """

    source: int
    target: int
    tensors: tuple[str, ...]
    size_bytes: int
    seconds: float = 0.0
    transport: Literal["direct", "relay", "local"] = "direct"
    cast: Cast = ""
    leakage_r2: float | None = None


class OutputProof(msgspec.Struct, frozen=True, kw_only=True):
    """One output over all samples: the largest absolute difference, the whole's ``range`` (its largest value less
    its least), and ``relative``, the first over the second; where all values are one, over that value."""

    name: str
    largest_difference: float
    range: float
    relative: float


class SliceProof(msgspec.Struct, frozen=True, kw_only=True):
    """Slices, one after the other, against the whole model, both in onnxruntime.

    ``source``: ``file``, or ``synthetic`` where no samples were given; ``origin`` says which in words. ``allowed``:
    the most that ``relative`` may be without a cast.
    ``cast``: what crossed was turned into this, and back, as it is when it is served.
    """

    samples: int
    source: Literal["file", "synthetic"]
    origin: str
    samples_sha256: Sha256
    outputs: tuple[OutputProof, ...]
    allowed: float = MAX_RELATIVE
    cast: Cast = ""

    @property
    def relative(self) -> float:
        """The largest of all outputs."""
        return max((entry.relative for entry in self.outputs), default=0.0)


class SlicedModel(msgspec.Struct, frozen=True, kw_only=True):
    """``slices`` run in this order, each after the last; their names begin with ``name``.

    ``model_sha256``: of the whole ONNX file, or of it and the files that hold its weights; ``plan_sha256``: of the
    plan's document. ``inputs``, ``outputs``: the whole's. ``fencing`` rises when a model is sliced anew under the same
    name: who serves it follows the larger number. ``public_key_sha256``: of the key (DER) of who signed it.
    ``signature``: base64, of the document without it.
    """

    schema: Literal["isthmus/sliced/1"] = "isthmus/sliced/1"
    network: str
    name: str = ""
    model_sha256: Sha256
    plan_sha256: Sha256
    batch_open: bool
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    slices: tuple[ModelSlice, ...]
    transfers: tuple[SliceTransfer, ...]
    cast: Cast = ""
    proof: SliceProof
    fencing: int = 0
    public_key_sha256: Sha256 | None = None
    signature: str | None = None

    @property
    def castable_inputs(self) -> frozenset[str]:
        """The raw inputs that a cast would change, were they sent like what slices make."""
        return frozenset(spec.name for spec in self.inputs if spec.datatype == "FP32")

    def crossing(self, cut: int) -> tuple[str, ...]:
        """Return the tensors that slices before number ``cut`` hand to that one or later ones, raw inputs too: all
        that a chain of hosts sends on between slice ``cut - 1`` and slice ``cut``."""
        found = (entry for entry in self.transfers if entry.source < cut <= entry.target)
        return tuple(dict.fromkeys(name for entry in found for name in entry.tensors))

    def passing(self, slice_number: int) -> tuple[str, ...]:
        """Return what a chain of hosts hands through a slice as it is: needed after it, and not made by it."""
        made = {entry.name for entry in self.slices[slice_number].outputs}
        after = dict.fromkeys(self.crossing(slice_number + 1))
        return tuple(name for name in after if name not in made)
