"""Which tensors cross where, when a network is cut into ranges of its operators.

A tensor goes from the slice that makes it to the first later slice that reads it, from there to the next one, and
so on; its gradient comes back the same way, and each reader adds its own share behind what came. Frameworks add up a
tensor's gradients from its last reader to its first, so this is the sum of the whole network, in its order. No
slice gets a tensor that it does not read.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from isthmus.errors import InvalidCase

PACKAGES = ("msgspec", "xxhash")
"""What the workers of a training in slices need beside the framework."""


@dataclass(frozen=True)
class Operator:
    """A step of a network, in an order in which it can run.

    ``reads``, ``makes``: tensors. ``parameters``: what is learned here, and statistics. ``inputs``: of the network's
    own. ``blocks``: no gradient goes through it.
    """

    name: str
    reads: tuple[str, ...]
    makes: tuple[str, ...]
    parameters: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    blocks: bool = False


@dataclass(frozen=True)
class SliceForm:
    """Operators ``[start, end)`` as a slice.

    ``inputs``: of the network's own. ``reads``: tensors of earlier slices, each with the slice that it comes from.
    ``gives``: tensors that later slices read, made here or read here as well, each with the slice that it goes to.
    ``outputs``: of the network's own; their gradients begin here. ``differentiable``: of the tensors, those with a
    gradient.
    """

    number: int
    start: int
    end: int
    inputs: tuple[str, ...]
    parameters: tuple[str, ...]
    reads: Mapping[str, int]
    gives: Mapping[str, int]
    outputs: tuple[str, ...]
    differentiable: frozenset[str]

    def sources(self) -> tuple[int, ...]:
        """Return the slices that tensors come from."""
        return tuple(sorted(set(self.reads.values())))

    def targets(self) -> tuple[int, ...]:
        """Return the slices that tensors go to."""
        return tuple(sorted(set(self.gives.values())))

    def read_from(self, source: int) -> tuple[str, ...]:
        """Return the tensors that come from a slice, by name."""
        return tuple(sorted(name for name, number in self.reads.items() if number == source))

    def given_to(self, target: int) -> tuple[str, ...]:
        """Return the tensors that go to a slice, by name."""
        return tuple(sorted(name for name, number in self.gives.items() if number == target))


def cut(operators: Sequence[Operator], outputs: Sequence[str], cuts: Sequence[int]) -> tuple[SliceForm, ...]:
    """Return the slices that begin at operator 0 and at each of ``cuts``.

    Raises:
        InvalidCase: the cuts do not rise or lie outside; a parameter would be in several slices; a slice reads
            nothing of an earlier one, or nothing of it is used.
    """
    starts = [0, *cuts]
    ends = [*cuts, len(operators)]
    if any(start >= end for start, end in zip(starts, ends, strict=True)):
        raise InvalidCase(
            f"cuts must rise and lie between operators 1 and {len(operators) - 1}; they are {tuple(cuts)}"
        )
    slice_of = [bisect_right(starts, position) - 1 for position in range(len(operators))]
    _refuse_shared(operators, slice_of)
    routes = _routes(operators, slice_of)
    learned = differentiable(operators)
    for name in outputs:
        if len(routes.get(name, ())) > 1:
            raise InvalidCase(
                f"the output {name} is read by slice {routes[name][1]} as well, where its gradient would be added "
                "in another order; move the cut"
            )
    found = tuple(
        _form(number, operators[start:end], start, routes, outputs, learned)
        for number, (start, end) in enumerate(zip(starts, ends, strict=True))
    )
    for form in found:
        _refuse_apart(form, {name for entry in operators[form.start : form.end] for name in entry.makes})
    return found


def places(operators: Sequence[Operator]) -> tuple[int, ...]:
    """Return where a network may be cut once: no parameter is read on both sides."""
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for position, operator in enumerate(operators):
        for name in operator.parameters:
            first.setdefault(name, position)
            last[name] = position
    barred = {place for name in first for place in range(first[name] + 1, last[name] + 1)}
    return tuple(place for place in range(1, len(operators)) if place not in barred)


def differentiable(operators: Sequence[Operator]) -> frozenset[str]:
    """Return the tensors through which something is learned."""
    found: set[str] = set()
    for operator in operators:
        if not operator.blocks and (operator.parameters or any(name in found for name in operator.reads)):
            found.update(operator.makes)
    return frozenset(found)


def _refuse_shared(operators: Sequence[Operator], slice_of: Sequence[int]) -> None:
    owner: dict[str, int] = {}
    for number, operator in zip(slice_of, operators, strict=True):
        for name in operator.parameters:
            if owner.setdefault(name, number) != number:
                raise InvalidCase(
                    f"the parameter {name} is read in slices {owner[name]} and {number}; it can belong to one "
                    "slice only: move the cut so that all its readers are in one"
                )


def _routes(operators: Sequence[Operator], slice_of: Sequence[int]) -> dict[str, list[int]]:
    """Return for each tensor its maker's slice and those of its readers, each once, in order."""
    found: dict[str, list[int]] = {}
    for number, operator in zip(slice_of, operators, strict=True):
        for name in operator.reads:
            if found[name][-1] != number:
                found[name].append(number)
        found.update({name: [number] for name in operator.makes})
    return found


def _form(
    number: int,
    inside: Sequence[Operator],
    start: int,
    routes: Mapping[str, list[int]],
    outputs: Sequence[str],
    learned: frozenset[str],
) -> SliceForm:
    reads: dict[str, int] = {}
    gives: dict[str, int] = {}
    for name, route in routes.items():
        if number in route:
            at = route.index(number)
            if at:
                reads[name] = route[at - 1]
            if at + 1 < len(route):
                gives[name] = route[at + 1]
    made = {name for operator in inside for name in operator.makes}
    return SliceForm(
        number,
        start,
        start + len(inside),
        _each_once(name for operator in inside for name in operator.inputs),
        _each_once(name for operator in inside for name in operator.parameters),
        reads,
        gives,
        tuple(name for name in outputs if name in made),
        frozenset(name for name in {*reads, *gives, *made} if name in learned),
    )


def _each_once(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def _refuse_apart(form: SliceForm, made: set[str]) -> None:
    if form.number and not form.reads:
        raise InvalidCase(
            f"slice {form.number}, operators [{form.start},{form.end}), reads nothing of an earlier slice; move the cut"
        )
    if not made & {*form.gives, *form.outputs}:
        raise InvalidCase(
            f"nothing of slice {form.number}, operators [{form.start},{form.end}), is used later; move the cut"
        )
