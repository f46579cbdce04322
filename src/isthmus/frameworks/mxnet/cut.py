"""An MXNet symbol as steps in order, and ranges of them as symbols of their own.

Dropout becomes a product with a mask that is given (``trainable.mask``).

MXNet adds up the gradients of a tensor by its readers, from the last to the first in the order of the graph's
traversal (depth first, ``nnvm::DFSVisit``), gradients of heads before all (``src/nnvm/gradient.cc``, MXNet 1.9.1): of
up to four as ``a + (b + (c + d))``, of more as ``((a + b) + c) + …`` (``src/operator/tensor/elemwise_sum.h``). So
that a slice's sums are the whole's: a tensor whose three or more readers are in several slices gets copies, so that
of each copy but two gradients are added, in that order; and a slice's heads stand in the order in which the whole's
traversal first comes to them.
"""

from __future__ import annotations

import hashlib
import json
import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from isthmus.errors import InvalidModel
from isthmus.frameworks.sliced import Operator, SliceForm, cut

RANDOM = re.compile(
    r"(^|_)(random|sample|shuffle|multinomial)(_|$)|_npi_(bernoulli|choice|normal|uniform|gamma)"
)
BLOCKING = re.compile(
    r"BlockGrad|stop_gradient|arg(max|min|sort|max_channel)|one_hot|shape_array|size_array|(zeros|ones)_like|sign"
    r"|round|rint|ceil|floor|trunc|fix|_?(broadcast_)?(not_)?(equal|greater|lesser)(_equal)?(_scalar)?"
)
"""Operators whose gradient MXNet makes of nothing but zeros, which it leaves out of sums."""
RIGHT_FOLD = 4
"""Up to so many gradients are added from the last on."""
VARIABLE = "null"


@dataclass(frozen=True)
class Step:
    """An operator. ``inputs``: names of variables and of tensors; a tensor is named by its step, ``:1`` and so on
    added from its second output on."""

    name: str
    operator: str
    attributes: Mapping[str, Any]
    inputs: tuple[str, ...]


@dataclass(frozen=True)
class Cuttable:
    """A symbol. ``entered``: when the whole's traversal first comes to each step; ``attributes``: of the graph, such
    as the version that wrote it, without which MXNet takes it for an old one."""

    steps: tuple[Step, ...]
    variables: Mapping[str, Any]
    params: frozenset[str]
    outputs: tuple[str, ...]
    entered: Mapping[str, int]
    attributes: Mapping[str, Any]
    digest: str

    @classmethod
    def of(cls, symbol: Any, params: Mapping[str, Any]) -> Cuttable:
        """``params``: names of what is learned, and of statistics.

        Raises:
            InvalidModel: an operator cannot be trained in slices; the message says which and why.
        """
        text = symbol.tojson()
        graph = json.loads(text)
        nodes = graph["nodes"]
        for node in nodes:
            _refuse(node)
        if len({node["name"] for node in nodes}) < len(nodes):
            raise InvalidModel("two operators of the symbol have one name; give each its own")

        def named(entry: Sequence[int]) -> str:
            name: str = nodes[entry[0]]["name"]
            return f"{name}:{entry[1]}" if entry[1] else name

        return cls(
            tuple(
                Step(node["name"], node["op"], node.get("attrs", {}), tuple(map(named, node["inputs"])))
                for node in nodes
                if node["op"] != VARIABLE
            ),
            {node["name"]: node.get("attrs", {}) for node in nodes if node["op"] == VARIABLE},
            frozenset(params),
            tuple(map(named, graph["heads"])),
            _entered(nodes, [head[0] for head in graph["heads"]]),
            graph.get("attrs", {}),
            hashlib.sha256(text.encode()).hexdigest(),
        )

    @property
    def operators(self) -> tuple[Operator, ...]:
        """As ``sliced.cut`` takes them."""
        used: dict[str, set[str]] = {step.name: {step.name} for step in self.steps}
        for name in (*self.outputs, *(name for step in self.steps for name in step.inputs)):
            if name not in self.variables:
                used[maker(name)].add(name)
        return tuple(
            Operator(
                step.name,
                tuple(name for name in step.inputs if name not in self.variables),
                tuple(sorted(used[step.name])),
                tuple(name for name in step.inputs if name in self.params),
                tuple(name for name in step.inputs if name in self.variables and name not in self.params),
                blocks=BLOCKING.fullmatch(step.operator) is not None,
            )
            for step in self.steps
        )

    def divide(self, cuts: Sequence[int]) -> tuple[Cuttable, tuple[SliceForm, ...]]:
        """Return the slices, and the symbol with the copies that they need; the forms' ranges are of its steps.

        Raises:
            InvalidCase: as ``sliced.cut``.
        """
        cut(self.operators, self.outputs, cuts)
        number = {step.name: bisect_right(cuts, k) for k, step in enumerate(self.steps)}
        copied = _Copying(self.steps, number)
        for name, users in self._spread(number):
            copied.add(name, users)
        steps = tuple(copied.written())
        found = replace(self, steps=steps, entered={**self.entered, **copied.entered(self.entered)})
        owners = [copied.number[step.name] for step in steps]
        starts = [owners.index(k) for k in range(1, len(cuts) + 1)]
        return found, cut(found.operators, found.outputs, starts)

    def _spread(self, number: Mapping[str, int]) -> Iterator[tuple[str, list[tuple[str, int]]]]:
        """Yield tensors of which the gradients of three or more readers in several slices are added, and these readers
        (step and input) in the order in which they are."""
        users: dict[str, list[tuple[str, int]]] = {}
        for step in reversed(self.steps):
            if not BLOCKING.fullmatch(step.operator):
                for k, name in enumerate(step.inputs):
                    if name not in self.variables:
                        users.setdefault(name, []).append((step.name, k))
        for name, readers in users.items():
            if len(readers) > 2 and len({number[step] for step, _ in readers}) > 1:
                yield name, readers


def maker(tensor: str) -> str:
    """Return the step that makes a tensor."""
    return tensor.partition(":")[0]


def _entered(nodes: Sequence[Mapping[str, Any]], heads: Sequence[int]) -> dict[str, int]:
    found: dict[str, int] = {}
    waiting = list(reversed(heads))
    while waiting:
        node = nodes[waiting.pop()]
        if node["name"] not in found:
            found[node["name"]] = len(found)
            waiting += [entry[0] for entry in reversed(node["inputs"])]
    return found


def _refuse(node: Mapping[str, Any]) -> None:
    name, operator, attributes = node["name"], node["op"], node.get("attrs", {})
    reason = ""
    if node.get("subgraphs"):
        reason = "is control flow, whose branches and rounds cannot be cut; unroll it"
    elif operator == "Custom":
        reason = "is code of a script, which is not in the file"
    elif RANDOM.search(operator) or attributes.get("act_type") == "rrelu":
        reason = "draws random numbers of its own, which would be others in each process"
    elif operator == "RNN" and float(attributes.get("p", 0)):
        reason = "drops out by random numbers of its own; put Dropout between RNNs of one layer each"
    elif operator == "Dropout" and attributes.get("axes", "()") not in ("()", "[]"):
        reason = "drops out along axes; only masks of whole tensors are known here"
    elif ":" in name:
        reason = "has a colon in its name"
    if reason:
        raise InvalidModel(f"the network cannot be trained in slices: {name} ({operator}) {reason}")


class _Copying:
    """Puts copies of a tensor between its readers."""

    def __init__(self, steps: Sequence[Step], number: Mapping[str, int]) -> None:
        self._steps = steps
        self.number = dict(number)
        self._before: dict[str, list[Step]] = {}
        self._after: dict[str, list[Step]] = {}
        self._inputs = {step.name: list(step.inputs) for step in steps}

    def add(self, name: str, users: Sequence[tuple[str, int]]) -> None:
        early = len(users) <= RIGHT_FOLD
        order = list(users) if early else list(reversed(users))
        held = name
        for k, (step, entry) in enumerate(order):
            if 0 < k < len(order) - 1:
                copy = Step(f"{maker(name)}_{name.partition(':')[2]}copy{k}", "_copy", {}, (held,))
                held = copy.name
                # The first sums are made where the tensor is made, or where it is read last.
                where = (
                    self._after.setdefault(maker(name), []) if early else self._before.setdefault(step, [])
                )
                where.append(copy)
                self.number[held] = self.number[maker(name) if early else step]
            self._inputs[step][entry] = held

    def written(self) -> Iterator[Step]:
        for step in self._steps:
            yield from self._before.get(step.name, ())
            yield replace(step, inputs=tuple(self._inputs[step.name]))
            yield from self._after.get(step.name, ())

    def entered(self, when: Mapping[str, int]) -> dict[str, int]:
        """Return the copies' times: their makers'."""
        found: dict[str, int] = {}
        for step in self.written():
            if step.name not in when:
                source = maker(step.inputs[0])
                found[step.name] = when[source] if source in when else found[source]
        return found


@dataclass(frozen=True)
class Piece:
    """A slice's symbol as JSON. ``heads``: names of its outputs; ``dropouts``: rates by the masks' names."""

    text: str
    heads: tuple[str, ...]
    dropouts: Mapping[str, float]


def piece(whole: Cuttable, form: SliceForm, *, masked: bool = True, passes_on: bool = True) -> Piece:
    """Return a slice's symbol; tensors of other slices are variables of their names. ``whole``: as ``divide`` returns
    it. ``masked``: dropout is a product with a mask that is given; else it is MXNet's own. ``passes_on``: what is read
    here and given on is a head as well."""
    writing = _Writing(whole.variables, masked)
    for step in whole.steps[form.start : form.end]:
        writing.add(step)
    names = {*form.gives, *form.outputs} - (set() if passes_on else set(form.reads))
    heads = tuple(sorted(names, key=lambda name: (whole.entered[maker(name)], name)))
    document = {
        "nodes": writing.nodes,
        "arg_nodes": [k for k, node in enumerate(writing.nodes) if node["op"] == VARIABLE],
        "heads": [writing.entry(name) for name in heads],
        "attrs": whole.attributes,
    }
    return Piece(json.dumps(document), heads, writing.dropouts)


class _Writing:
    def __init__(self, variables: Mapping[str, Any], masked: bool) -> None:
        self._variables = variables
        self._masked = masked
        self._at: dict[str, int] = {}
        self.nodes: list[dict[str, Any]] = []
        self.dropouts: dict[str, float] = {}

    def add(self, step: Step) -> None:
        inputs = [self.entry(name) for name in step.inputs]
        operator, attributes = step.operator, step.attributes
        if operator == "Dropout" and self._masked:
            mask = f"{step.name}:mask"
            self.dropouts[mask] = float(attributes.get("p", 0.5))
            operator, attributes, inputs = "elemwise_mul", {}, [*inputs, self.entry(mask)]
        self._write(step.name, {"op": operator, "name": step.name, "attrs": attributes, "inputs": inputs})

    def entry(self, name: str) -> list[int]:
        """Return where a variable or a tensor is; what is not made here is a variable."""
        source, _, output = name.partition(":")
        if name not in self._at and source in self._at:
            return [self._at[source], int(output), 0]
        if name not in self._at:
            self._write(
                name,
                {"op": VARIABLE, "name": name, "attrs": self._variables.get(name, {}), "inputs": []},
            )
        return [self._at[name], 0, 0]

    def _write(self, name: str, node: dict[str, Any]) -> None:
        self._at[name] = len(self.nodes)
        self.nodes.append(node)
