"""A part of a Gluon network: a symbol that MXNet computes and differentiates, as a hybridized block is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from isthmus.errors import InvalidInput, InvalidModel
from isthmus.frameworks.parts import Opening
from isthmus.frameworks.trainable import Arrays

INLINED = [("inline_limit", 2**31)]
"""Each operator is on MXNet's tape by itself. As one node for all, MXNet 1.9.1 finds no storage type for some
gradients where such nodes follow each other ("storage_type_num_unknown_nodes", ``imperative_utils.h``)."""


def described(heads: Sequence[str], parameters: Sequence[str], statistics: Sequence[str]) -> dict[str, Any]:
    """Return what ``read`` needs beside a symbol's JSON."""
    return {"heads": list(heads), "parameters": list(parameters), "statistics": list(statistics)}


def read(opening: Opening) -> MXNetPart:
    """Raises InvalidModel: the symbol cannot be read, or is not what is described."""
    import mxnet

    try:
        symbol = mxnet.sym.load_json(opening.network.decode())
        lists = [tuple(map(str, opening.described[key])) for key in ("heads", "parameters", "statistics")]
    except (mxnet.MXNetError, ValueError, KeyError, TypeError) as error:
        raise InvalidModel(f"a part's symbol cannot be read: {error}"[:400]) from error
    if len(symbol.list_outputs()) != len(lists[0]):
        raise InvalidModel(f"a part has {len(symbol.list_outputs())} outputs; {len(lists[0])} are described")
    return MXNetPart(symbol, *lists)


class MXNetPart:
    """One part, on the CPU."""

    def __init__(
        self, symbol: Any, heads: tuple[str, ...], parameters: tuple[str, ...], statistics: tuple[str, ...]
    ) -> None:
        import mxnet

        self._names = symbol.list_inputs()
        self._compute = mxnet.nd.CachedOp(symbol, INLINED)
        self._heads = heads
        self._own = frozenset((*parameters, *statistics))
        self._statistics = statistics
        self._held: dict[str, Any] = {}
        self._marked: set[str] = set()

    def forward(
        self, arrays: Arrays, *, kept: bool, training: bool, wanted: Sequence[str]
    ) -> tuple[dict[str, Any], Any]:
        """As ``parts.Part``."""
        import mxnet

        given = self._take(arrays)
        placed = {**given, **self._held}
        if missing := [name for name in (*self._names, *wanted) if name not in placed]:
            raise InvalidInput(f"a part needs {', '.join(missing)}; it got {', '.join(sorted(arrays))}")
        self._mark(placed, wanted)
        scope = mxnet.autograd.record if kept else mxnet.autograd.pause
        try:
            with scope(train_mode=training):
                found = self._compute(*[placed[name] for name in self._names])
            outputs = list(found) if isinstance(found, list | tuple) else [found]
            heads = {name: output.asnumpy() for name, output in zip(self._heads, outputs, strict=True)}
        except mxnet.MXNetError as error:
            raise InvalidInput(f"a part cannot compute this: {_first_line(error)}") from error
        return heads, (outputs, {name: placed[name] for name in wanted})

    def backward(self, kept: Any, gradients: Arrays) -> dict[str, Any]:
        """As ``parts.Part``."""
        import mxnet

        outputs, wanted = kept
        roots, sums = [], []
        for name, output in zip(self._heads, outputs, strict=True):
            # Nothing is wanted of what the others are computed from.
            if name in gradients and is_tracked(output):
                roots.append(output)
                sums.append(mxnet.nd.array(gradients[name], dtype=output.dtype))
        for array in wanted.values():
            array.grad[:] = 0
        try:
            if roots:
                mxnet.autograd.backward(roots, sums)
            found = {name: array.grad.asnumpy() for name, array in wanted.items()}
            # BatchNorm updates them in its backward pass (``batch_norm.cc``, MXNet 1.9.1).
            return {**found, **{name: self._held[name].asnumpy() for name in self._statistics}}
        except mxnet.MXNetError as error:
            raise InvalidInput(f"a part has no gradients: {_first_line(error)}") from error

    def _take(self, arrays: Arrays) -> dict[str, Any]:
        """Keep parameters and statistics; return the others."""
        import mxnet

        given = {}
        for name, array in arrays.items():
            if name not in self._own:
                given[name] = mxnet.nd.array(array, dtype=array.dtype)
            elif name in self._held and self._held[name].shape == array.shape:
                self._held[name][:] = array
            else:
                self._held[name] = mxnet.nd.array(array, dtype=array.dtype)
                self._marked.discard(name)
        return given

    def _mark(self, placed: Mapping[str, Any], wanted: Sequence[str]) -> None:
        for name in wanted:
            if name not in self._marked:
                placed[name].attach_grad()
                if name in self._own:
                    self._marked.add(name)


def is_tracked(array: Any) -> bool:
    """Whether a gradient may be asked of an array: it is marked, or was recorded."""
    import mxnet

    try:
        mxnet.autograd.get_symbol(array)
    except mxnet.MXNetError:
        return False
    return True


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if "rror" in line]
    return (lines or str(error).splitlines() or ["it says nothing"])[-1].strip()
