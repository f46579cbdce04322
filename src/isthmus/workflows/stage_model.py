"""Make a model's function run a bundle, as a published version that nobody is routed to yet."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

import msgspec

from isthmus import documents
from isthmus.config import DeployCloudSettings
from isthmus.model import layout
from isthmus.ports import FunctionCode, Functions, Signer


class Staged(msgspec.Struct, frozen=True):
    """``version`` is staged; ``previous`` is in service, empty before the first model.

    ``step_seconds`` is how long each step of the roll-out lasts. ``superseded``: nothing was staged,
    since another model is in service than the one that this was scored against.
    """

    function: str
    version: str
    previous: str
    step_seconds: int
    superseded: bool = False


def stage_model(
    model: str, bundle: str, settings: DeployCloudSettings, *, functions: Functions, signer: Signer
) -> Staged:
    """Publish the bundle's layer and a version of the model's function that serves it."""
    pattern = replace(_with_key(functions.pattern(settings.serving_function), signer), stack=settings.stack)
    zip_key = layout.bundle_folder(model, bundle) + "layer.zip"
    layer_name, mark = layout.layer_name(settings.stack, model), f"{layout.BUNDLE_MARKER}{bundle}"
    layer = functions.publish_layer(layer_name, zip_key, mark)
    function = layout.function_name(settings.stack, model)
    layers = (*pattern.layers, layer)
    version = functions.stage(function, pattern, layers, marker(pattern, layers))
    alias = functions.alias(function)
    return Staged(function, version, alias.version if alias else "", settings.rollout_step_seconds)


def marker(pattern: FunctionCode, layers: tuple[str, ...]) -> str:
    """Return what names a version by all that it runs: staging the same again finds it."""
    content: dict[str, Any] = {"code": pattern.sha256, "layers": layers, "settings": dict(pattern.settings)}
    return f"isthmus {documents.digest(content)}"


def _with_key(pattern: FunctionCode, signer: Signer) -> FunctionCode:
    settings = dict(pattern.settings)
    variables = dict(settings["Environment"]["Variables"])
    variables["ISTHMUS_PUBLIC_KEY"] = base64.b64encode(signer.public_key()).decode()
    settings["Environment"] = {"Variables": variables}
    return replace(pattern, settings=settings)
