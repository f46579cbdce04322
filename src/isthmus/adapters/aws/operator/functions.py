"""The models' functions and every layer of a stack, on AWS Lambda."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from isthmus.adapters.aws.errors import passing_trouble
from isthmus.adapters.aws.operator.home import Home, call, listed
from isthmus.model import layout
from isthmus.model.inventory import Thing


class ModelFunctions:
    """One per model; made by ``deploy_cloud``, so CloudFormation does not know them."""

    kind = "model function"

    def __init__(self, home: Home) -> None:
        self._home = home

    @passing_trouble("Lambda")
    def find(self) -> list[Thing]:
        return [
            Thing(id=entry["FunctionArn"], name=entry["FunctionName"], note="with its versions and alias")
            for entry in model_functions(self._home)
        ]

    @passing_trouble("Lambda")
    def remove(self, thing: Thing, report: Callable[[str], None]) -> None:
        call("lambda", "delete_function", FunctionName=thing.name)


class Layers:
    """The models' layers, and the versions of the template's own that each deploy leaves behind."""

    kind = "layer"

    def __init__(self, home: Home) -> None:
        self._home = home

    @passing_trouble("Lambda")
    def find(self) -> list[Thing]:
        counted = {name: len(list(layer_versions(name, of_model))) for name, of_model in self._names()}
        return [Thing(id=name, name=name, items=count) for name, count in counted.items() if count]

    @passing_trouble("Lambda")
    def remove(self, thing: Thing, report: Callable[[str], None]) -> None:
        of_model = dict(self._names()).get(thing.name, True)
        for version in list(layer_versions(thing.name, of_model)):
            call("lambda", "delete_layer_version", LayerName=thing.name, VersionNumber=version["Version"])

    def _names(self) -> list[tuple[str, bool]]:
        return layer_names(self._home)


def model_functions(home: Home) -> Iterator[dict[str, Any]]:
    """Yield the functions of the stack's models: by their tag, or without one by a model's name."""
    prefix = layout.function_name(home.stack, "")
    candidates = [
        entry
        for entry in listed("lambda", "list_functions", "Functions")
        if entry["FunctionName"].startswith(prefix)
    ]
    models = home.models() if candidates else set()
    for entry in candidates:
        tags = call("lambda", "list_tags", Resource=entry["FunctionArn"]).get("Tags", {})
        if home.owns(tags, otherwise=entry["FunctionName"].removeprefix(prefix) in models):
            yield entry


def layer_names(home: Home) -> list[tuple[str, bool]]:
    """Return the names that the stack's layers may have, and whether each is a model's."""
    prefix = layout.function_name(home.stack, "")
    made = {entry["FunctionName"].removeprefix(prefix) for entry in model_functions(home)}
    names = [(f"{home.stack}-{name}", False) for name in layout.TEMPLATE_LAYERS]
    return names + [(layout.layer_name(home.stack, model), True) for model in sorted(home.models() | made)]


def layer_versions(name: str, of_model: bool) -> Iterator[dict[str, Any]]:
    """Yield a layer's versions, newest first.

    Layers have no tags. Where one stack's model layer and another's own would have the same name
    (model ``core-x86`` of ``shop``, and the stack ``shop-model``), the description tells them apart.
    """
    for version in listed("lambda", "list_layer_versions", "LayerVersions", LayerName=name):
        if version.get("Description", "").startswith(layout.BUNDLE_MARKER) == of_model:
            yield version
