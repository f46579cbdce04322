"""A program of ``torch.export`` as operators in order, and a range of them as a graph of its own.

Dropout becomes a product with a mask that is given (``trainable.mask``). What changes a tensor in place becomes what
makes a new one, where nobody else sees the old one: a tensor that crosses to another process is not changed
there.

PyTorch adds up the gradients of a tensor in the order in which backward passes run: of what ran last, first; those of
a call's outputs before all (``torch/csrc/autograd/engine.cpp``: the ready queue by sequence number, and
``input_buffer.cpp``). So a slice that gives a tensor on, and adds its own share behind what comes back, has the
whole's sum.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from isthmus.errors import InvalidModel
from isthmus.frameworks.sliced import Operator, SliceForm, cut

STATISTICS_AT = {"batch_norm": (3, 4), "instance_norm": (3, 4)}
"""Which arguments an operator updates, though its schema does not say so (``native_functions.yaml``)."""
SETTLED = {"scaled_dot_product_attention": "dropout_p", "lstm": "dropout", "gru": "dropout"}
"""Operators that are random by an argument only."""


@dataclass(frozen=True)
class Cuttable:
    """A program. ``groups``: nodes that stay together, in order; ``values``: tensors of placeholders, by names of
    nodes; ``names``: of those, as the module has them. ``owned``: what is learned or updated; ``learned``: of it,
    what is learned; other values are constants, of which each slice may have its own copy."""

    groups: tuple[tuple[Any, ...], ...]
    operators: tuple[Operator, ...]
    outputs: tuple[str, ...]
    inputs: tuple[str, ...]
    values: Mapping[str, Any]
    names: Mapping[str, str]
    owned: frozenset[str]
    learned: frozenset[str]
    digest: str

    @classmethod
    def of(cls, program: Any) -> Cuttable:
        """``program``: a ``torch.export.ExportedProgram`` of a module in training mode, whose outputs are losses.

        Raises:
            InvalidModel: an operator cannot be trained in slices; the message says which and why.
        """
        signature = program.graph_signature
        names = {
            **signature.inputs_to_parameters,
            **signature.inputs_to_buffers,
            **signature.inputs_to_lifted_tensor_constants,
        }
        if others := [entry for entry in signature.output_specs if entry.kind.name != "USER_OUTPUT"]:
            raise InvalidModel(
                f"the network cannot be trained in slices: its program returns {others[0].target} as an output; export "
                "it in training mode, without run_decompositions"
            )
        held = {**dict(program.named_parameters()), **dict(program.named_buffers()), **program.constants}
        values = {name: held[target] for name, target in names.items()}
        _refuse_tied(values, names)
        nodes = [node for node in program.graph.nodes if node.op not in ("placeholder", "output")]
        for node in nodes:
            _refuse(node, values)
        learned = {name for name in signature.inputs_to_parameters if values[name].requires_grad}
        owned = frozenset({*learned, *_updated(nodes, values)})
        groups = _groups(nodes)
        inputs = tuple(signature.user_inputs)
        return cls(
            groups,
            tuple(_operator(group, owned, inputs) for group in groups),
            tuple(signature.user_outputs),
            inputs,
            values,
            names,
            owned,
            frozenset(learned),
            hashlib.sha256(str(program.graph).encode()).hexdigest(),
        )

    def divide(self, cuts: Sequence[int]) -> tuple[SliceForm, ...]:
        """As ``sliced.cut``."""
        return cut(self.operators, self.outputs, cuts)


def _refuse_tied(values: Mapping[str, Any], names: Mapping[str, str]) -> None:
    seen: dict[int, str] = {}
    for name, value in values.items():
        if value.numel() and (other := seen.setdefault(value.data_ptr(), name)) != name:
            raise InvalidModel(
                f"the network cannot be trained in slices: {names[other]} and {names[name]} are one tensor"
            )


def _schema(node: Any) -> Any:
    return getattr(node.target, "_schema", None)


def _operator_name(node: Any) -> str:
    return str(getattr(node.target, "_opname", getattr(node.target, "__name__", node.target)))


def _refuse(node: Any, values: Mapping[str, Any]) -> None:
    torch = importlib.import_module("torch")
    reason = ""
    value = node.meta.get("val")
    if node.op == "get_attr" or isinstance(node.target, torch._ops.HigherOrderOperator):
        reason = "is control flow, whose branches and rounds cannot be cut; unroll it"
    elif node.op != "call_function":
        reason = f"is a {node.op}"
    elif not isinstance(value, torch.Tensor | tuple | list | None):
        reason = "computes a size; export with the sizes of a micro-batch, not with open ones"
    elif isinstance(value, torch.Tensor) and value.dtype == torch.bfloat16:
        reason = "makes bfloat16, which plain arrays cannot hold"
    elif not _is_settled(node):
        reason = "draws random numbers of its own, which would be others in each process"
    elif _is_in_place(node, values) and _is_shared(node.args[0]):
        reason = f"changes {node.args[0]} in place, which others read or which is a part of another tensor"
    if reason:
        raise InvalidModel(f"the network cannot be trained in slices: {node.name} ({node.target}) {reason}")


def _is_settled(node: Any) -> bool:
    """Whether an operator draws no random numbers, or those that ``trainable.mask`` replaces."""
    torch = importlib.import_module("torch")
    name = _operator_name(node)
    if torch.Tag.nondeterministic_seeded not in getattr(node.target, "tags", ()) or is_dropout(node):
        return True
    if name not in SETTLED:
        return name in ("dropout", "feature_dropout", "alpha_dropout") and node.args[2] is False
    position = [argument.name for argument in _schema(node).arguments].index(SETTLED[name])
    given = node.args[position] if len(node.args) > position else node.kwargs.get(SETTLED[name], 0.0)
    return not given


def is_dropout(node: Any) -> bool:
    """Whether a node is a dropout that drops out."""
    return _operator_name(node) in ("dropout", "dropout_") and bool(node.args[2])


def _changes(node: Any) -> bool:
    schema = _schema(node)
    return schema is not None and bool(schema.is_mutable)


def _base(node: Any) -> Any:
    """Return what an operator changes in the end, by way of results that are changed themselves."""
    while node.op == "call_function" and _changes(node):
        node = node.args[0]
    return node


def _is_in_place(node: Any, values: Mapping[str, Any]) -> bool:
    """Whether an operator changes a tensor, and not a value of the module's own, such as a count of batches."""
    return _changes(node) and _base(node).name not in values


def _is_shared(node: Any) -> bool:
    """Whether others may see that a tensor is changed: it is read elsewhere, or is a view."""
    schema = _schema(node)
    is_view = schema is not None and not _changes(node) and any(entry.alias_info for entry in schema.returns)
    return len(node.users) > 1 or is_view or node.target is _getitem() or node.op == "placeholder"


def _updated(nodes: Sequence[Any], values: Mapping[str, Any]) -> set[str]:
    found = {_base(node).name for node in nodes if _changes(node)}
    for node in nodes:
        for position in STATISTICS_AT.get(_operator_name(node), ()):
            if len(node.args) > position:
                found.add(getattr(node.args[position], "name", ""))
    return found & set(values)


def _groups(nodes: Sequence[Any]) -> tuple[tuple[Any, ...], ...]:
    """Leave out what nobody uses, and put the parts of a result that has several to what makes it."""
    live: set[Any] = set()
    for node in reversed(nodes):
        if _changes(node) or any(user.op == "output" or user in live for user in node.users):
            live.add(node)
    found: dict[Any, list[Any]] = {}
    for node in nodes:
        if node in live and node.target is _getitem():
            found[node.args[0]].append(node)
        elif node in live:
            found[node] = [node]
    return tuple(tuple(group) for group in found.values())


def _getitem() -> Any:
    return importlib.import_module("operator").getitem


def _operator(group: Sequence[Any], owned: frozenset[str], inputs: Sequence[str]) -> Operator:
    first, *parts = group
    read = [node.name for node in first.all_input_nodes]
    placed = {node.name for node in first.all_input_nodes if node.op == "placeholder"}
    makes = parts or [first]
    return Operator(
        first.name,
        tuple(name for name in read if name not in placed),
        tuple(node.name for node in makes),
        tuple(name for name in read if name in owned),
        tuple(name for name in read if name in inputs),
        blocks=_blocks(first, makes),
    )


def _blocks(first: Any, makes: Sequence[Any]) -> bool:
    values = [node.meta.get("val") for node in makes]
    return _operator_name(first) == "detach" or not any(
        value is not None and value.dtype.is_floating_point for value in values
    )


@dataclass(frozen=True)
class Piece:
    """A slice's graph: takes ``arguments`` in order, returns ``heads``. ``dropouts``: layer, shape, rate and type of
    each mask."""

    module: Any
    arguments: tuple[str, ...]
    heads: tuple[str, ...]
    dropouts: Mapping[str, tuple[str, tuple[int, ...], float, str]]
    constants: tuple[str, ...]


def piece(whole: Cuttable, form: SliceForm, *, masked: bool = True) -> Piece:
    """Return a slice's graph. ``masked``: dropout is a product with a mask that is given; else it is PyTorch's own."""
    torch = importlib.import_module("torch")
    groups = whole.groups[form.start : form.end]
    read = [node for group in groups for node in group[0].all_input_nodes]
    constants = tuple(
        dict.fromkeys(
            node.name for node in read if node.name in whole.values and node.name not in whole.owned
        )
    )
    arguments = [*form.inputs, *form.reads, *form.parameters, *constants]
    graph = torch.fx.Graph()
    made = {name: graph.placeholder(name) for name in arguments}
    dropouts = {}
    for group in groups:
        first = group[0]
        if masked and is_dropout(first):
            name = f"{first.name}_mask"
            value = first.meta["val"]
            kind = str(value.dtype).removeprefix("torch.")
            dropouts[name] = (first.name, tuple(value.shape), float(first.args[1]), kind)
            with graph.inserting_before(next(iter(graph.nodes))):
                mask = graph.placeholder(name)
            made[first.name] = graph.call_function(
                torch.ops.aten.mul.Tensor, (made[first.args[0].name], mask)
            )
            continue
        for node in group:
            made[node.name] = graph.node_copy(node, lambda other: made[other.name])
            if _is_in_place(node, whole.values):
                made[node.name].target = _renewing(node)
    heads = tuple(sorted({*form.gives, *form.outputs}))
    graph.output(tuple(made[name] for name in heads))
    graph.lint()
    placed = tuple(node.target for node in graph.nodes if node.op == "placeholder")
    return Piece(torch.fx.GraphModule(torch.nn.Module(), graph), placed, heads, dropouts, constants)


def _renewing(node: Any) -> Any:
    """Return the operator that makes a new tensor, of one that changes its first argument.

    Raises:
        InvalidModel: there is none.
    """
    aten = importlib.import_module("torch").ops.aten
    name = _operator_name(node).removesuffix("_")
    packet = getattr(aten, name, None)
    if packet is None or node.target._overloadname not in packet.overloads():
        raise InvalidModel(
            f"the network cannot be trained in slices: {node.name} ({node.target}) changes a tensor in place, and "
            "there is no operator that makes a new one"
        )
    return getattr(packet, node.target._overloadname)
