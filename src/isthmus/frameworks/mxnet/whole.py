"""A Gluon block as a symbol that can be cut, with its parameters by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from isthmus.errors import InvalidInput, InvalidModel
from isthmus.frameworks.mxnet.cut import Cuttable, Piece, piece
from isthmus.frameworks.mxnet.part import described
from isthmus.frameworks.parts import Opening, position
from isthmus.frameworks.sliced import SliceForm

Call = Callable[..., Any]


@dataclass
class Whole:
    """A block. ``params``: Gluon's parameters by name; ``single``: it returns one array, and not a list."""

    symbol: Any
    cuttable: Cuttable
    params: Mapping[str, Any]
    inputs: tuple[str, ...]
    single: bool
    _shapes: dict[Any, dict[str, tuple[int, ...]]] = field(default_factory=dict)

    @classmethod
    def of(cls, net: Any, original: Call, given: Sequence[Any]) -> Whole:
        """Raises InvalidModel: the block cannot be written as a symbol, or cannot be cut; the message says why."""
        import mxnet

        params = {each.name: each for each in net.collect_params().values()}
        names = ("data",) if len(given) == 1 else tuple(f"data{k}" for k in range(len(given)))
        try:
            found = original(*[mxnet.sym.var(name) for name in names])
        except Exception as error:  # whatever a script's block raises
            raise InvalidModel(
                f"{net.name} cannot be written as a symbol, as net.export needs it too: {error!r}"[:400]
            ) from error
        outputs = list(found) if isinstance(found, list | tuple) else [found]
        if not all(isinstance(each, mxnet.sym.Symbol) for each in outputs):
            raise InvalidModel(
                f"{net.name} must return arrays, or a list of them; it returns {type(found).__name__}"
            )
        symbol = mxnet.sym.Group(outputs) if len(outputs) > 1 else outputs[0]
        cuttable = Cuttable.of(symbol, params)
        single = not isinstance(found, list | tuple) and len(cuttable.outputs) == 1
        return cls(symbol, cuttable, params, names, single)

    def cuts(self, wished: Sequence[Any]) -> tuple[int, ...]:
        """Return where slices begin. A cut is an operator's or a layer's name, a layer, or a number.

        Raises:
            InvalidModel: there is none of that name.
        """
        names = [step.name for step in self.cuttable.steps]
        return tuple(position(names, getattr(each, "name", each)) for each in wished)

    def learned(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return those parameters of which gradients are kept, now."""
        return tuple(name for name in names if self.params[name].grad_req != "null")

    def statistics(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return what is updated by the forward pass."""
        states = set(self.symbol.list_auxiliary_states())
        return tuple(name for name in names if name in states)

    def held(self, names: Sequence[str], context: Any) -> dict[str, Any]:
        """Return copies of parameters."""
        return {name: self.params[name].data(context).asnumpy() for name in names}

    def opening(self, whole: Cuttable, form: SliceForm, training: bool) -> tuple[Opening, Piece]:
        """Return a slice as it travels; dropout in it is given by masks where it trains."""
        found = piece(whole, form, masked=training, passes_on=False)
        statistics = self.statistics(form.parameters)
        own = described(found.heads, form.parameters, statistics)
        return Opening("mxnet", found.text.encode(), own), found

    def masks(self, dropouts: Mapping[str, float], given: Mapping[str, Any], context: Any) -> dict[str, Any]:
        """Draw masks by MXNet's own dropout, so that they are those which it would draw here. ``given``: the
        network's inputs."""
        import mxnet

        if not dropouts:
            return {}
        key = tuple((name, array.shape) for name, array in given.items())
        if key not in self._shapes:
            inside = self.symbol.get_internals()
            shapes = {**{name: value.shape for name, value in self.params.items()}, **dict(key)}
            known = {name: shape for name, shape in shapes.items() if name in inside.list_inputs()}
            _, found, _ = inside.infer_shape(**known)
            self._shapes[key] = dict(zip(inside.list_outputs(), found, strict=True))
        masks = {}
        with mxnet.autograd.pause():
            for name, rate in dropouts.items():
                shape = self._shapes[key][f"{name.rpartition(':')[0]}_output"]
                ones = mxnet.nd.ones(shape, context)
                masks[name] = mxnet.nd.Dropout(ones, p=rate, mode="always").asnumpy()
        return masks

    def returned(self, tensors: Mapping[str, Any]) -> Any:
        """Return what the block returns."""
        found = [tensors[name] for name in self.cuttable.outputs]
        return found[0] if self.single else found

    def keep(self, statistics: Mapping[str, Any], context: Any) -> None:
        """Write statistics to the block's parameters."""
        for name, array in statistics.items():
            self.params[name].data(context)[:] = array


def is_begun(net: Any, context: Any) -> bool:
    """Whether all parameters have their shapes and values.

    Raises:
        InvalidInput: they never will: the network was not initialized, or elsewhere.
    """
    from mxnet.gluon.parameter import DeferredInitializationError

    try:
        for each in net.collect_params().values():
            each.data(context)
    except DeferredInitializationError:
        return False
    except RuntimeError as error:
        raise InvalidInput(f"the network is not ready: {error}") from error
    return True
