"""What Gluon's tape sees of a computation elsewhere: one function of one array.

The inputs that gradients are wanted of are put into one array first: MXNet 1.9.1 leaves gradients of a function
(``mxnet.autograd.Function``) unwritten where one of its inputs before needs none, or is added to (``backward_entry`` in
``mxnet/autograd.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from isthmus.errors import InvalidModel
from isthmus.frameworks.trainable import Arrays

Forward = Callable[[bool], tuple[dict[str, Any], Callable[[Arrays], dict[str, Any]]]]
"""Whether a backward pass may come, to the heads as numpy arrays, and what takes their gradients and returns those
of what was wanted."""


def crossed(
    heads: Sequence[str], wanted: Mapping[str, Any], forward: Forward, context: Any
) -> dict[str, Any]:
    """Compute elsewhere; return the heads as NDArrays, in MXNet's record if it records.

    ``wanted``: arrays of which there may be gradients, by name.

    Raises:
        InvalidModel: they are of several types.
        IsthmusError: as ``forward``.
    """
    import mxnet

    if not mxnet.autograd.is_recording() or not wanted:
        found, _ = forward(False)
        return {name: mxnet.nd.array(found[name], context, found[name].dtype) for name in heads}
    if len({array.dtype for array in wanted.values()}) > 1:
        kinds = sorted({str(array.dtype.__name__) for array in wanted.values()})
        raise InvalidModel(
            f"what crosses to another process must be of one type of numbers; it is {', '.join(kinds)}"
        )
    flat = mxnet.nd.concat(*[array.reshape(-1) for array in wanted.values()], dim=0)
    outputs = _function()(heads, {name: array.shape for name, array in wanted.items()}, forward)(flat)
    return dict(zip(heads, outputs if isinstance(outputs, tuple) else (outputs,), strict=True))


@cache
def _function() -> Any:
    import mxnet
    import numpy as np

    class Crossing(mxnet.autograd.Function):  # type: ignore[misc]  # MXNet has no types
        def __init__(self, heads: Sequence[str], shapes: Mapping[str, Any], forward: Forward) -> None:
            super().__init__()
            self._heads, self._shapes, self._forward = heads, shapes, forward
            self._backward: Callable[[Arrays], dict[str, Any]] = lambda gradients: {}

        def forward(self, flat: Any) -> Any:
            found, self._backward = self._forward(True)
            self._context, self._dtype = flat.context, flat.dtype
            outputs = [mxnet.nd.array(found[name], flat.context, found[name].dtype) for name in self._heads]
            return outputs[0] if len(outputs) == 1 else tuple(outputs)

        def backward(self, *gradients: Any) -> Any:
            given = {name: array.asnumpy() for name, array in zip(self._heads, gradients, strict=True)}
            found = self._backward(given)
            parts = [found[name].reshape(-1) for name in self._shapes]
            return mxnet.nd.array(np.concatenate(parts), self._context, self._dtype)

    return Crossing
