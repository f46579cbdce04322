"""A PyTorch module whose calls run in slices.

The module is exported (``torch.export``) for each shape and mode that it is called with, and what it exports is cut.
Slices in this process run on the module's own parameters, on PyTorch's tape. A slice elsewhere is one function on
that tape (``torch.autograd.Function``), whose parameters come back as gradients.
"""

from __future__ import annotations

import importlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from isthmus.errors import InvalidCase, InvalidInput, InvalidModel, IsthmusError
from isthmus.frameworks.hybrid import Plan, PlannedSlice, Wishes, name_of
from isthmus.frameworks.parts import Opening, Place, position
from isthmus.frameworks.replicated import OnePlace
from isthmus.frameworks.sliced import SliceForm
from isthmus.frameworks.torch.cut import Cuttable, Piece, piece
from isthmus.frameworks.torch.part import program_of
from isthmus.frameworks.trainable import writable

Run = Callable[[Mapping[str, Any]], Mapping[str, Any]]


def hybridize(net: Any, wishes: Wishes) -> Any:
    """As ``frameworks.hybrid.hybridize``, of a module."""
    if wishes.replicas:
        raise InvalidModel(
            "replicas of unequal devices are of Gluon's networks; PyTorch has torch.distributed for equal ones"
        )
    # What an earlier call put there.
    vars(net).pop("forward", None)
    net.plan = Plan()
    if wishes.cuts or wishes.places[0] is not None:
        net.forward = ModuleCalls(net, wishes, net.plan)
    else:
        kind = type(net).__name__
        net.plan.slices = (PlannedSlice(name_of(None), 0, 0, kind, kind, 0, ()),)
    return net


@dataclass(frozen=True)
class Divided:
    """A program in slices. ``nested``: how the module returns its outputs, as ``torch.export`` has it."""

    whole: Cuttable
    slices: tuple[Run, ...]
    nested: Any


@dataclass
class ModuleCalls:
    """Stands in for a module's ``forward``."""

    net: Any
    wishes: Wishes
    plan: Plan
    _divided: dict[Any, Divided] = field(default_factory=dict)

    def __call__(self, *given: Any, **named: Any) -> Any:
        """Raises InvalidInput, InvalidModel, InvalidCase: this cannot be cut; Unavailable: a place is not reached."""
        torch = importlib.import_module("torch")
        if named or not given or not all(isinstance(each, torch.Tensor) for each in given):
            kinds = [type(each).__name__ for each in given] + [f"{name}=…" for name in named]
            raise InvalidInput(f"a network in slices takes tensors by position; it got {', '.join(kinds)}")
        # A part that is frozen, or another one in its place, makes another program.
        parts = tuple((id(each), each.training) for each in self.net.modules())
        key = (parts, *((tuple(each.shape), each.dtype) for each in given))
        if key not in self._divided:
            self._divided[key] = self._divide(given)
        found = self._divided[key]
        tensors = dict(zip(found.whole.inputs, given, strict=True))
        for each in found.slices:
            tensors.update(each(tensors))
        outputs = [tensors[name] for name in found.whole.outputs]
        return torch.utils._pytree.tree_unflatten(outputs, found.nested)

    def _divide(self, given: Sequence[Any]) -> Divided:
        program = self._exported(given)
        network = _saved(program) if any(self.wishes.places) else b""
        whole = program_of(network) if network else Cuttable.of(program)
        names, paths = self._names(whole)
        cuts = tuple(position(names, self._wished(each), paths) for each in self.wishes.cuts)
        forms = whole.divide(cuts)
        if len(forms) != len(self.wishes.places):
            raise InvalidCase(f"there are {len(forms)} slices, and places for {len(self.wishes.places)}")
        owners = _owners(self.net, whole)
        slices: list[Run] = []
        for form, place in zip(forms, self.wishes.places, strict=True):
            if place is None:
                slices.append(Near(whole, form, owners))
            else:
                opening = Opening("torch", network, {"cuts": list(cuts), "number": form.number})
                slices.append(Elsewhere(whole, form, owners, opening, place))
        self.plan.slices = tuple(
            _planned(whole, form, name_of(place))
            for form, place in zip(forms, self.wishes.places, strict=True)
        )
        return Divided(whole, tuple(slices), program.call_spec.out_spec)

    def _exported(self, given: Sequence[Any]) -> Any:
        torch = importlib.import_module("torch")
        vars(self.net).pop("forward")
        try:
            with torch.random.fork_rng(devices=[]), torch.enable_grad():
                return torch.export.export(self.net, tuple(each.detach() for each in given))
        except IsthmusError:
            raise
        except Exception as error:  # PyTorch's errors have no common base
            raise InvalidModel(f"PyTorch cannot export the network: {error!r}"[:400]) from error
        finally:
            self.net.forward = self

    def _wished(self, cut: Any) -> Any:
        return next((name for name, each in self.net.named_modules() if each is cut), cut)

    def _names(self, whole: Cuttable) -> tuple[list[str], list[str]]:
        stacks = [group[0].meta.get("nn_module_stack") or {} for group in whole.groups]
        paths = [list(stack.values())[-1][0] if stack else "" for stack in stacks]
        return [each.name for each in whole.operators], [path.removeprefix("L['self'].") for path in paths]


def _saved(program: Any) -> bytes:
    written = io.BytesIO()
    importlib.import_module("torch").export.save(program, written)
    return written.getvalue()


def _owners(net: Any, whole: Cuttable) -> dict[str, tuple[Any, str]]:
    """Return the modules that parameters and buffers are of, by names of nodes."""
    found = {}
    for name, path in whole.names.items():
        owner, _, own = path.rpartition(".")
        try:
            module = net.get_submodule(owner)
        except AttributeError:
            continue
        if hasattr(module, own):
            found[name] = (module, own)
    return found


def _planned(whole: Cuttable, form: SliceForm, place: str) -> PlannedSlice:
    size = sum(whole.values[name].numel() * whole.values[name].element_size() for name in form.parameters)
    first, last = whole.operators[form.start].name, whole.operators[form.end - 1].name
    return PlannedSlice(place, form.start, form.end, first, last, size, tuple(sorted(form.gives)))


class Near:
    """A slice in this process."""

    def __init__(self, whole: Cuttable, form: SliceForm, owners: Mapping[str, tuple[Any, str]]) -> None:
        self._piece = piece(whole, form, masked=False)
        self._owners = owners
        self._constants = {name: value for name, value in whole.values.items() if name not in owners}

    def __call__(self, tensors: Mapping[str, Any]) -> Mapping[str, Any]:
        arguments = []
        for name in self._piece.arguments:
            if name in tensors:
                arguments.append(tensors[name])
            elif name in self._owners:
                arguments.append(getattr(*self._owners[name]))
            else:
                arguments.append(self._constants[name])
        return dict(zip(self._piece.heads, self._piece.module(*arguments), strict=True))


class Elsewhere:
    """A slice at another place."""

    def __init__(
        self,
        whole: Cuttable,
        form: SliceForm,
        owners: Mapping[str, tuple[Any, str]],
        opening: Opening,
        place: Place,
    ) -> None:
        self._piece: Piece = piece(whole, form)
        self._form = form
        self._owners = owners
        self._statistics = tuple(name for name in form.parameters if name not in whole.learned)
        nodes = {group[0].name: group[0] for group in whole.groups}
        layers = [entry[0] for entry in self._piece.dropouts.values()]
        self._strides = {layer: nodes[layer].args[0].meta["val"].stride() for layer in layers}
        self._far = OnePlace(opening, place, self._statistics)

    def __call__(self, tensors: Mapping[str, Any]) -> Mapping[str, Any]:
        torch = importlib.import_module("torch")
        given = {name: tensors[name] for name in (*self._form.inputs, *self._form.reads)}
        for name, (layer, shape, rate, kind) in self._piece.dropouts.items():
            # PyTorch's own draw, so that the masks are those which it would draw here: in the order of memory.
            ones = torch.empty_strided(shape, self._strides[layer], dtype=getattr(torch, kind)).fill_(1)
            given[name] = torch.nn.functional.dropout(ones, rate)
        for name in self._form.parameters:
            given[name] = getattr(*self._owners[name])
        wanted = [name for name, each in given.items() if each.requires_grad and torch.is_grad_enabled()]
        found = _function().apply(self._forward, given, tuple(wanted), *[given[name] for name in wanted])
        return dict(zip(self._piece.heads, found, strict=True))

    def _forward(self, given: Mapping[str, Any], wanted: Sequence[str]) -> tuple[list[Any], Any]:
        torch = importlib.import_module("torch")
        # A copy of what the optimizer changes in place.
        arrays = {name: each.detach().numpy() for name, each in given.items()}
        held = {name: arrays.pop(name).copy() for name in self._form.parameters}
        heads, backward = self._far.forward(arrays, held, kept=bool(wanted), training=True, wanted=wanted)
        with torch.no_grad():
            for name in self._statistics:
                given[name].copy_(torch.from_numpy(writable(heads[name])))
        return [torch.from_numpy(writable(heads[name])) for name in self._piece.heads], (
            self._piece.heads,
            backward,
        )


@cache
def _function() -> Any:
    torch = importlib.import_module("torch")

    class Crossing(torch.autograd.Function):  # type: ignore[misc,name-defined]  # PyTorch is not installed here
        @staticmethod
        def forward(ctx: Any, compute: Any, given: Any, wanted: Any, *tensors: Any) -> Any:
            outputs, ctx.back = compute(given, wanted)
            ctx.wanted = wanted
            ctx.set_materialize_grads(False)
            ctx.mark_non_differentiable(*[each for each in outputs if not each.dtype.is_floating_point])
            return tuple(outputs)

        @staticmethod
        # Its own derivative stays elsewhere: an error is better than a wrong sum.
        @torch.autograd.function.once_differentiable  # type: ignore[untyped-decorator]
        def backward(ctx: Any, *gradients: Any) -> Any:
            heads, backward = ctx.back
            given = {
                name: each.numpy() for name, each in zip(heads, gradients, strict=True) if each is not None
            }
            found = backward(given)
            return (None, None, None, *[torch.from_numpy(writable(found[name])) for name in ctx.wanted])

    return Crossing
