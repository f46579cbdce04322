"""A Gluon block whose calls run in slices, or on replicas.

Slices in this process are computed as Gluon computes a hybridized block (``CachedOp``), on the block's own
parameters: MXNet records their operators and differentiates them itself. What runs elsewhere is a function of its own
on MXNet's tape (``crossed``). A tensor that several slices read is on that tape too, which adds up its gradients: never
more than two, thanks to the copies that ``cut`` makes, so that their order is nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from isthmus.errors import InvalidCase, InvalidInput, InvalidModel
from isthmus.frameworks.hybrid import Plan, PlannedSlice, Wishes, name_of
from isthmus.frameworks.mxnet.crossed import crossed
from isthmus.frameworks.mxnet.cut import Cuttable, Piece, piece
from isthmus.frameworks.mxnet.part import INLINED, is_tracked
from isthmus.frameworks.mxnet.whole import Whole, is_begun
from isthmus.frameworks.parts import Opening
from isthmus.frameworks.replicated import Far, OnePlace, Replicas
from isthmus.frameworks.sliced import SliceForm
from isthmus.frameworks.trainable import Arrays

Run = Callable[[Mapping[str, Any], Any], Mapping[str, Any]]
"""A slice: tensors by name, and MXNet's context, to what the slice makes."""


def hybridize(net: Any, wishes: Wishes) -> Any:
    """As ``frameworks.hybrid.hybridize``, of a Gluon block."""
    import mxnet

    if not isinstance(net, mxnet.gluon.HybridBlock):
        raise InvalidModel(
            f"{net.name} is a {type(net).__name__}, which is no HybridBlock: it has no symbol that could be cut"
        )
    if mxnet.util.is_np_array():
        raise InvalidModel("slices are cut from networks of mxnet.nd; npx.set_np() has chosen mxnet.np")
    # What an earlier call put there.
    vars(net).pop("forward", None)
    net.plan = Plan(sharing=wishes.sharing)
    found = GluonCalls(net, net.forward, wishes, net.plan)
    if wishes.cuts or wishes.replicas or wishes.places[0] is not None:
        net.forward = found
    else:
        net.plan.slices = (PlannedSlice(name_of(None), 0, 0, net.name, net.name, 0, ()),)
    return net


@dataclass
class GluonCalls:
    """Stands in for a block's ``forward``. ``original``: that one."""

    net: Any
    original: Callable[..., Any]
    wishes: Wishes
    plan: Plan
    _whole: Whole | None = None
    _slices: list[Run] = field(default_factory=list)

    def __call__(self, *given: Any) -> Any:
        """Raises InvalidInput, InvalidModel, InvalidCase: this cannot be cut; Unavailable: a place is not reached."""
        import mxnet

        if any(isinstance(each, mxnet.sym.Symbol) for each in given):
            return self.original(*given)
        if not given or not all(isinstance(each, mxnet.nd.NDArray) for each in given):
            raise InvalidInput(
                f"a network in slices takes arrays; it got {', '.join(type(each).__name__ for each in given)}"
            )
        if self._whole is None:
            if not is_begun(self.net, given[0].context):
                # As it is: first values are drawn between this call's operators, from what dropout draws of too.
                return self.original(*given)
            self._begin(given)
        assert self._whole is not None
        tensors = dict(zip(self._whole.inputs, given, strict=True))
        for each in self._slices:
            tensors.update(each(tensors, given[0].context))
        return self._whole.returned(tensors)

    def _begin(self, given: Sequence[Any]) -> None:
        whole = Whole.of(self.net, self.original, given)
        cuttable, forms = whole.cuttable.divide(whole.cuts(self.wishes.cuts))
        places = self.wishes.places
        if len(places) != len(forms):
            raise InvalidCase(f"there are {len(forms)} slices, and places for {len(places)}")
        if self.wishes.replicas:
            names = [name_of(place) for place in self.wishes.replicas]
            self._slices = [Elsewhere(whole, cuttable, forms[0], self._replicas)]
            planned = [_planned(whole, cuttable, forms[0], name) for name in names]
        else:
            self._slices = []
            for form, place in zip(forms, places, strict=True):
                far = place and (
                    lambda opening, statistics, place=place: OnePlace(opening, place, statistics)
                )
                slice_ = Elsewhere(whole, cuttable, form, far) if far else Near(whole, cuttable, form)
                self._slices.append(slice_)
            planned = [
                _planned(whole, cuttable, form, name_of(place))
                for form, place in zip(forms, places, strict=True)
            ]
        self.plan.slices = tuple(planned)
        self._whole = whole

    def _replicas(self, opening: Opening, statistics: Sequence[str]) -> Far:
        assert self.wishes.sharing is not None
        return Replicas(opening, self.wishes.replicas, self.wishes.sharing, statistics)


def _planned(whole: Whole, cuttable: Cuttable, form: SliceForm, place: str) -> PlannedSlice:
    steps = cuttable.steps[form.start : form.end]
    size = sum(each.nbytes for each in whole.held(form.parameters, None).values())
    return PlannedSlice(
        place, form.start, form.end, steps[0].name, steps[-1].name, size, tuple(sorted(form.gives))
    )


class Near:
    """A slice in this process."""

    def __init__(self, whole: Whole, cuttable: Cuttable, form: SliceForm) -> None:
        import mxnet

        found = piece(cuttable, form, masked=False, passes_on=False)
        symbol = mxnet.sym.load_json(found.text)
        self._compute = mxnet.nd.CachedOp(symbol, INLINED)
        self._heads = found.heads
        self._sources = [(name, whole.params.get(name)) for name in symbol.list_inputs()]

    def __call__(self, tensors: Mapping[str, Any], context: Any) -> Mapping[str, Any]:
        found = self._compute(
            *[tensors[name] if own is None else own.data(context) for name, own in self._sources]
        )
        if not isinstance(found, list | tuple):
            found = (found,)
        return dict(zip(self._heads, found, strict=True))


@dataclass
class Elsewhere:
    """A slice, or the whole network, at other places. ``far``: the part and its statistics to what computes it."""

    whole: Whole
    cuttable: Cuttable
    form: SliceForm
    far: Callable[[Opening, Sequence[str]], Far]
    _fars: dict[bool, tuple[Far, Piece]] = field(default_factory=dict)

    def __call__(self, tensors: Mapping[str, Any], context: Any) -> Mapping[str, Any]:
        import mxnet

        training = mxnet.autograd.is_training()
        far, found = self._of(training)
        given = {name: tensors[name] for name in (*self.form.inputs, *self.form.reads)}
        wanted = {name: array for name, array in given.items() if is_tracked(array)}
        for name in self.whole.learned(self.form.parameters):
            wanted[name] = self.whole.params[name].data(context)
        arrays = {name: array.asnumpy() for name, array in given.items()}
        inputs = {name: tensors[name] for name in self.whole.inputs}
        arrays.update(self.whole.masks(found.dropouts, inputs, context))
        statistics = self.whole.statistics(self.form.parameters)
        if statistics:
            # A backward pass that is under way writes them.
            mxnet.nd.waitall()
        held = self.whole.held(self.form.parameters, context)

        def forward(kept: bool) -> Any:
            heads, back = far.forward(
                arrays, held, kept=kept, training=training, wanted=tuple(wanted) if kept else ()
            )

            def backward(gradients: Arrays) -> dict[str, Any]:
                sums = back(gradients)
                if training:
                    self.whole.keep({name: sums[name] for name in statistics}, context)
                return sums

            return heads, backward

        return crossed(found.heads, wanted, forward, context)

    def _of(self, training: bool) -> tuple[Far, Piece]:
        if training not in self._fars:
            opening, found = self.whole.opening(self.cuttable, self.form, training)
            self._fars[training] = self.far(opening, self.whole.statistics(self.form.parameters)), found
        return self._fars[training]
