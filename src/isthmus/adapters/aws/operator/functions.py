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
        counted = {
            name: len(list(layer_versions(self._home, name, model)))
            for name, model in layer_names(self._home).items()
        }
        return [Thing(id=name, name=name, items=count) for name, count in counted.items() if count]

    @passing_trouble("Lambda")
    def remove(self, thing: Thing, report: Callable[[str], None]) -> None:
        names = layer_names(self._home)
        if thing.name not in names:  # nothing tells any more whose its versions are
            return
        for version in list(layer_versions(self._home, thing.name, names[thing.name])):
            call("lambda", "delete_layer_version", LayerName=thing.name, VersionNumber=version["Version"])


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


def layer_names(home: Home) -> dict[str, str | None]:
    """Return the names that the stack's layers may have, with the model of each; the template's have none."""
    prefix = layout.function_name(home.stack, "")
    made = {entry["FunctionName"].removeprefix(prefix) for entry in model_functions(home)}
    names: dict[str, str | None] = {f"{home.stack}-{name}": None for name in layout.TEMPLATE_LAYERS}
    return names | {layout.layer_name(home.stack, model): model for model in sorted(home.models() | made)}


def layer_versions(home: Home, name: str, model: str | None) -> Iterator[dict[str, Any]]:
    """Yield the stack's versions of a layer, newest first; those of a model, or of the template's own.

    Layers have no tags, and a name may be two stacks' at once: that of the model ``core-x86`` of ``shop``
    and of the stack ``shop-model``'s own, or of the model ``b-model-c`` of ``a`` and the model ``c`` of
    ``a-model-b``. The description tells them apart: it names a bundle, and the stack's bucket has it.
    """
    marks = {f"{layout.BUNDLE_MARKER}{digest}" for digest in home.bundles(model)} if model else set()
    for version in listed("lambda", "list_layer_versions", "LayerVersions", LayerName=name):
        description = version.get("Description", "")
        of_a_model = description.startswith(layout.BUNDLE_MARKER)
        if description in marks if model else not of_a_model:
            yield version
