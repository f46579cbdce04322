"""A network's profile: its operators, what they compute and hold, and what flows between them."""

from __future__ import annotations

from typing import Literal

import msgspec


class Tensor(msgspec.Struct, frozen=True, kw_only=True):
    """What flows along an edge. ``fixed_bytes`` do not depend on the batch size; ``sample_bytes`` are
    multiplied by it. ``shape`` without the batch; ``dtype`` as ONNX names it (``float32``)."""

    name: str
    dtype: str = "float32"
    shape: tuple[int, ...] = ()
    sample_bytes: int = 0
    fixed_bytes: int = 0

    def bytes_at(self, batch: int) -> int:
        """Return its size in bytes for ``batch`` samples."""
        return self.fixed_bytes + batch * self.sample_bytes


class Parameter(msgspec.Struct, frozen=True, kw_only=True):
    """Weights of an operator. Operators that share one are co-located."""

    name: str
    size_bytes: int


class Operator(msgspec.Struct, frozen=True, kw_only=True):
    """One operator, or several that a device runs fused.

    ``kind``: its ONNX operator, such as ``Conv``; ``rate_class``: the class by which a device's rates
    are looked up. ``inputs``, ``outputs``: names of tensors, parameters left out. ``flops``: floating
    point operations for one sample, a multiply-add counted as two; ``moved_bytes``: read and written
    for one sample, without parameters. ``features``: what a device must have to run it (``fp16``).
    ``seconds``: measured for a batch of the profile's size, by device id.
    """

    name: str
    kind: str
    rate_class: str
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    flops: float = 0.0
    moved_bytes: float = 0.0
    parameters: tuple[Parameter, ...] = ()
    features: tuple[str, ...] = ()
    seconds: dict[str, float] = {}
    sizes: dict[str, float] = {}
    """Of one sample, by the names of the rate class's axes: ``rows``, ``out``, ``pixels``."""
    batch_axis: str = ""
    """The size that a batch multiplies; empty where a device works through the samples one by one."""

    @property
    def parameter_bytes(self) -> int:
        """Of all its parameters."""
        return sum(entry.size_bytes for entry in self.parameters)


class NetworkProfile(msgspec.Struct, frozen=True, kw_only=True):
    """``operators`` stand in a topological order: ranges of layers are half-open ranges of it.

    ``digest``: SHA-256 (hex) of the model file; ``batch``: the samples that ``seconds`` were measured
    with; ``inputs``: the raw inputs; ``labels``: of them, those that only training reads.
    """

    schema: Literal["isthmus/network/1"] = "isthmus/network/1"
    name: str
    digest: str = ""
    batch: int = 1
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    labels: tuple[str, ...] = ()
    operators: tuple[Operator, ...]
    tensors: tuple[Tensor, ...]
    source: str = ""
    """What it was read from: ``onnx``, ``mxnet``, ``torch``, or the name of a published workload."""
