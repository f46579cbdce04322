"""Cutting networks that learn: what crosses, what is refused, and MXNet's symbols as far as no MXNet is needed."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from isthmus.errors import InvalidCase, InvalidJob, InvalidModel
from isthmus.frameworks.mxnet.cut import Cuttable, piece
from isthmus.frameworks.sliced import Operator, cut, differentiable, places
from isthmus.frameworks.trainable import Recipe, laid_out, mask, open_network, strides_of, writable

CHAIN = (
    Operator("a", (), ("a",), ("wa",), ("x",)),
    Operator("b", ("a",), ("b",), ("wb",)),
    Operator("c", ("b",), ("c",)),
    Operator("d", ("a", "c"), ("d",), ("wd",)),
    Operator("loss", ("a", "d"), ("loss",), (), ("y",)),
)


def test_a_tensor_goes_from_reader_to_reader_and_nobody_else_gets_it() -> None:
    first, second, third, last = cut(CHAIN, ["loss"], [1, 3, 4])
    assert (first.inputs, first.parameters, dict(first.gives)) == (("x",), ("wa",), {"a": 1})
    assert (dict(second.reads), dict(second.gives)) == ({"a": 0}, {"a": 2, "c": 2})
    assert (dict(third.reads), dict(third.gives)) == ({"a": 1, "c": 1}, {"a": 3, "d": 3})
    assert (dict(last.reads), last.inputs, last.outputs) == ({"a": 2, "d": 2}, ("y",), ("loss",))
    skipping = cut(CHAIN, ["loss"], [1, 2, 3])[2]
    assert dict(skipping.reads) == {"b": 1}


def test_a_tensor_before_which_nothing_is_learned_has_no_gradient() -> None:
    operators = (
        Operator("scaled", (), ("scaled",), (), ("x",)),
        Operator("a", ("scaled",), ("a",), ("w",)),
        Operator("index", ("a",), ("index",), blocks=True),
        Operator("loss", ("a", "index"), ("loss",)),
    )
    assert differentiable(operators) == {"a", "loss"}
    assert cut(operators, ["loss"], [3])[1].differentiable == {"a", "loss"}


@pytest.mark.parametrize(
    ("cuts", "sentence"),
    [
        ([0], "cuts must rise and lie between operators 1 and 4"),
        ([2, 2], "cuts must rise"),
        ([5], "cuts must rise"),
    ],
)
def test_cuts_lie_between_operators(cuts: list[int], sentence: str) -> None:
    with pytest.raises(InvalidCase, match=sentence):
        cut(CHAIN, ["loss"], cuts)


def test_what_cannot_be_apart_is_refused_with_a_reason() -> None:
    tied = (*CHAIN[:3], Operator("d", ("a", "c"), ("d",), ("wa",)), CHAIN[4])
    with pytest.raises(InvalidCase, match="the parameter wa is read in slices 0 and 1"):
        cut(tied, ["loss"], [2])
    assert places(tied) == (4,)
    assert places(CHAIN) == (1, 2, 3, 4)
    beside = (CHAIN[0], Operator("z", (), ("z",), ("wz",), ("x",)), *CHAIN[1:])
    with pytest.raises(InvalidCase, match="reads nothing of an earlier slice"):
        cut(beside, ["loss"], [1, 2])
    unused = (*CHAIN[:1], Operator("z", ("a",), ("z",)), *CHAIN[1:])
    with pytest.raises(InvalidCase, match="nothing of slice 1"):
        cut(unused, ["loss"], [1, 2])
    twice = (*CHAIN, Operator("after", ("loss",), ("after",)))
    with pytest.raises(InvalidCase, match="the output loss is read by slice 1 as well"):
        cut(twice, ["loss", "after"], [5])


PINNED = [0, 1, 1, 0, 1, 1, 0, 1, 1, 0, 1, 1]


def test_a_mask_depends_on_its_key_alone() -> None:
    first = mask(1, 2, 3, "drop", (50, 40), 0.25)
    assert np.array_equal(first, mask(1, 2, 3, "drop", (50, 40), 0.25))
    others = [(9, 2, 3, "drop"), (1, 9, 3, "drop"), (1, 2, 9, "drop"), (1, 2, 3, "other")]
    assert not any(np.array_equal(first, mask(*key, (50, 40), 0.25)) for key in others)
    assert set(np.unique(first)) == {np.float32(0), np.float32(1 / 0.75)}
    assert (first == 0).mean() == pytest.approx(0.25, abs=0.04)
    assert mask(1, 2, 3, "drop", (4,), 0.0).tolist() == [1, 1, 1, 1]
    # Pinned: another numpy, or another machine, makes the same.
    assert (mask(1, 2, 3, "drop", (12,), 0.5) > 0).astype(int).tolist() == PINNED
    with pytest.raises(InvalidCase, match=r"needs a rate in \[0, 1\)"):
        mask(1, 2, 3, "drop", (4,), 1.0)


def test_an_array_is_laid_out_as_another_was() -> None:
    array = np.arange(6.0).reshape(2, 3)
    found = laid_out(array, (1, 5))
    assert np.array_equal(found, array)
    assert strides_of(found) == (1, 5)
    array.flags.writeable = False
    assert writable(array).flags.writeable
    assert np.array_equal(writable(array), array)
    assert laid_out(np.zeros((0, 2)), (2, 1)).shape == (0, 2)


def test_a_step_has_equal_micro_batches() -> None:
    with pytest.raises(InvalidCase, match="10 samples in 4"):
        Recipe(samples=10, microbatches=4)


def test_other_frameworks_have_no_slices(tmp_path: Any) -> None:
    with pytest.raises(InvalidJob, match="slices of 'keras' cannot be trained"):
        open_network("keras", tmp_path)


class Symbol:
    """What MXNet's symbol shows of itself. ``nodes``: operator, name, inputs (names) and attributes."""

    def __init__(self, *nodes: tuple[Any, ...], extra: dict[str, Any] | None = None) -> None:
        names = [name for _, name, *_ in nodes]
        self._graph = {
            "nodes": [
                {
                    "op": operator,
                    "name": name,
                    "attrs": dict(*attributes),
                    "inputs": [[names.index(entry), 0, 0] for entry in inputs],
                    **(extra or {} if operator != "null" else {}),
                }
                for operator, name, inputs, *attributes in nodes
            ],
            "heads": [[len(nodes) - 1, 0, 0]],
            "attrs": {"mxnet_version": ["int", 10901]},
        }

    def tojson(self) -> str:
        return json.dumps(self._graph)


def variable(name: str) -> tuple[Any, ...]:
    return ("null", name, ())


def of_readers(count: int) -> Cuttable:
    """A tensor ``h`` that so many operators read, one after the other."""
    nodes: list[tuple[Any, ...]] = [variable("x"), variable("w"), ("dot", "h", ("x", "w"))]
    for k in range(count):
        nodes += [("relu", f"r{k}", ("h",))]
    nodes += [("add_n", "loss", tuple(f"r{k}" for k in range(count)))]
    return Cuttable.of(Symbol(*nodes), {"w": None})


def readers(cuttable: Cuttable) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for step in cuttable.steps:
        for name in step.inputs:
            found.setdefault(name, []).append(step.name)
    return found


def test_of_a_tensor_with_many_readers_in_several_slices_two_gradients_are_added_at_a_time() -> None:
    for count in (3, 4, 5, 9):
        whole = of_readers(count)
        for cuts in ([2], [count], [2, 3]):
            found, forms = whole.divide(cuts)
            assert len(forms) == len(cuts) + 1
            for name, users in readers(found).items():
                if name not in found.variables:
                    assert len(users) <= 2, name
    assert len(of_readers(3).divide([1])[0].steps) == len(of_readers(3).steps)


def test_up_to_four_gradients_are_added_from_the_last_reader_on() -> None:
    early = readers(of_readers(4).divide([3])[0])
    assert [sorted(early[name]) for name in ("h", "h_copy1", "h_copy2")] == [
        ["h_copy1", "r3"],
        ["h_copy2", "r2"],
        ["r0", "r1"],
    ]
    late = readers(of_readers(5).divide([3])[0])
    assert [sorted(late[name]) for name in ("h", "h_copy1", "h_copy2", "h_copy3")] == [
        ["h_copy1", "r0"],
        ["h_copy2", "r1"],
        ["h_copy3", "r2"],
        ["r3", "r4"],
    ]


def test_a_slice_is_a_symbol_of_its_own_with_masks_for_dropout() -> None:
    whole = Cuttable.of(
        Symbol(
            variable("x"),
            variable("w"),
            ("FullyConnected", "h", ("x", "w"), {"num_hidden": "3"}),
            ("Dropout", "d", ("h",), {"p": "0.3"}),
            ("sum", "loss", ("d",)),
        ),
        {"w": None},
    )
    found, forms = whole.divide([1])
    tail = piece(found, forms[1])
    nodes = json.loads(tail.text)["nodes"]
    assert [(node["op"], node["name"]) for node in nodes] == [
        ("null", "h"),
        ("null", "d:mask"),
        ("elemwise_mul", "d"),
        ("sum", "loss"),
    ]
    assert (tail.heads, tail.dropouts) == (("loss",), {"d:mask": 0.3})
    assert json.loads(tail.text)["attrs"] == {"mxnet_version": ["int", 10901]}


@pytest.mark.parametrize(
    ("operator", "attributes", "extra", "reason"),
    [
        ("_foreach", {}, {"subgraphs": [{}]}, "is control flow"),
        ("Custom", {"op_type": "mine"}, {}, "is code of a script"),
        ("_random_uniform", {}, {}, "draws random numbers of its own"),
        ("_sample_multinomial", {}, {}, "draws random numbers of its own"),
        ("LeakyReLU", {"act_type": "rrelu"}, {}, "draws random numbers of its own"),
        ("RNN", {"p": "0.2"}, {}, "drops out by random numbers of its own"),
        ("Dropout", {"axes": "(2, 3)"}, {}, "drops out along axes"),
    ],
)
def test_what_cannot_be_the_same_in_slices_is_refused(
    operator: str, attributes: dict[str, str], extra: dict[str, Any], reason: str
) -> None:
    symbol = Symbol(variable("x"), (operator, "odd", ("x",), attributes), extra=extra)
    with pytest.raises(InvalidModel, match=f"cannot be trained in slices: odd .{operator}. {reason}"):
        Cuttable.of(symbol, {})
