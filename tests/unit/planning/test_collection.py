"""Which versions go: a table of what refers to what."""

from __future__ import annotations

from typing import Any

import pytest

from isthmus.planning.collection import (
    ComponentVersion,
    FunctionVersion,
    Holdings,
    LayerVersion,
    garbage,
)

F, EDGE, LAYER = "shop-model-pear", "shop-EdgeInfer", "shop-model-pear"


def function(number: int, *layers: str, name: str = F) -> FunctionVersion:
    return FunctionVersion(name, number, layers, 100)


def layer(number: int, name: str = LAYER) -> LayerVersion:
    return LayerVersion(name, number, f"{name}:{number}", 1000)


def component(version: str, part: str = "infer") -> ComponentVersion:
    return ComponentVersion(f"shop.pear.{part}", version, f"{part}:{version}")


def holdings(**changes: Any) -> Holdings:
    values: dict[str, Any] = {
        "functions": (),
        "layers": (),
        "components": (),
        "candidates": frozenset({F, EDGE}),
        "model_layers": frozenset({LAYER}),
        "own_layers": frozenset(),
        "named_functions": frozenset(),
        "named_components": frozenset(),
        "edge_function": EDGE,
    }
    return Holdings(**(values | changes))


def numbers(entries: tuple[Any, ...]) -> list[int]:
    return [entry.number for entry in entries]


def test_the_newest_stay_and_latest_is_no_version() -> None:
    held = holdings(functions=tuple(map(function, range(6))))
    assert numbers(garbage(held, 3).functions) == [1, 2]
    assert numbers(garbage(held, 9).functions) == []


@pytest.mark.parametrize("number", [1, 2])
def test_a_version_that_something_names_stays(number: int) -> None:
    held = holdings(functions=tuple(map(function, range(5))), named_functions=frozenset({(F, number)}))
    assert number not in numbers(garbage(held, 1).functions)


def test_somebody_elses_function_never_goes() -> None:
    held = holdings(functions=tuple(function(number, name="other") for number in range(9)))
    assert garbage(held, 1).functions == ()


def test_a_layer_goes_with_the_last_version_that_uses_it() -> None:
    functions = tuple(function(number, f"{LAYER}:{number}") for number in range(1, 5))
    held = holdings(functions=functions, layers=tuple(map(layer, range(1, 5))))
    found = garbage(held, 2)
    assert numbers(found.functions) == numbers(found.layers) == [1, 2]
    assert found.size_bytes == 2 * 1100
    assert len(found) == 4


def test_a_layer_that_another_stack_uses_stays() -> None:
    functions = (function(1, f"{LAYER}:1", name="other"),)
    held = holdings(functions=functions, layers=tuple(map(layer, range(1, 4))))
    assert numbers(garbage(held, 1).layers) == [2]


def test_of_the_templates_own_layers_only_the_present_one_and_those_in_use_stay() -> None:
    name = "shop-core-x86"
    layers = tuple(layer(number, name) for number in range(1, 5))
    held = holdings(functions=(function(1, f"{name}:2"),), layers=layers, own_layers=frozenset({f"{name}:4"}))
    assert numbers(garbage(held, 3).layers) == [1, 3]


def test_a_latest_keeps_its_layers() -> None:
    held = holdings(functions=(function(0, f"{LAYER}:1"),), layers=tuple(map(layer, range(1, 4))))
    assert numbers(garbage(held, 1).layers) == [2]


def test_both_components_of_a_release_go_together_or_stay() -> None:
    models = [component(f"{release}.0.0", "model") for release in range(1, 12)]
    infers = [component(f"{release}.1.0") for release in range(1, 12)]
    named = frozenset({("shop.pear.infer", "4.1.0")})
    held = holdings(components=(*models, *infers), named_components=named)
    gone = garbage(held, 2).components
    assert {entry.release for entry in gone} == {1, 2, 3, 5, 6, 7, 8, 9}, "10 and 11 are newer than 9"
    assert len(gone) == 16


def test_an_edge_function_stays_as_long_as_a_component_was_imported_from_it() -> None:
    functions = tuple(function(number, name=EDGE) for number in range(1, 7))
    components = tuple(component(f"{release}.{release}.0") for release in range(1, 7))
    held = holdings(functions=functions, components=components)
    assert numbers(garbage(held, 2).functions) == [1, 2, 3, 4]
    named = frozenset({("shop.pear.infer", "3.3.0")})
    held = holdings(functions=functions, components=components, named_components=named)
    assert numbers(garbage(held, 2).functions) == [1, 2, 4]
