"""Make a model's function run a bundle, as a published version that nobody is routed to yet."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec

from isthmus import documents
from isthmus.config import DeployCloudSettings
from isthmus.inference.limits import Serving
from isthmus.model import layout
from isthmus.model.drift import Baseline
from isthmus.ports import FunctionCode, Functions, Signer

SNAPSTART = "snapstart"
"""Of bundles in a layer alone: SnapStart takes no more than 512 MB of /tmp, where weights lie (Lambda Developer Guide,
"Improving startup performance with Lambda SnapStart")."""


class Staged(msgspec.Struct, frozen=True):
    """``version`` is staged; ``previous`` is in service, empty before the first model.

    ``step_seconds`` is how long each step of the roll-out lasts, ``bake_seconds`` how long the version is watched
    with all calls on it. ``superseded``: nothing was staged,
    since another model is in service than the one that this was scored against.
    """

    function: str
    version: str
    previous: str
    step_seconds: int
    bake_seconds: int
    superseded: bool = False


def stage_model(
    model: str,
    bundle: str,
    settings: DeployCloudSettings,
    *,
    serving: Serving | None = None,
    baseline: Mapping[str, Any] | None = None,
    functions: Functions,
    signer: Signer,
) -> Staged:
    """Publish a version of the model's function that serves the bundle.

    ``serving`` is what the packager chose: the bundle comes in a layer, which is published first, or the
    function fetches it, and is given the memory and the disk for that. None: in a layer. ``baseline`` is
    what requests are held against; it is told to the function, and is in no bundle: those leave the cloud.
    """
    weights = serving if serving is not None and serving.by == "weights" else None
    followed = functions.pattern(settings.weights_function if weights else settings.serving_function)
    pattern = replace(_with_key(followed, signer), stack=settings.stack)
    if settings.serving_start == SNAPSTART and not weights:
        pattern = replace(
            pattern, settings={**pattern.settings, "SnapStart": {"ApplyOn": "PublishedVersions"}}
        )
    function, layers = layout.function_name(settings.stack, model), pattern.layers
    if weights:
        # A snapshot takes no more than 512 MB of disk; what an earlier version had would stay.
        if settings.serving_start == SNAPSTART:
            pattern = replace(pattern, settings={**pattern.settings, "SnapStart": {"ApplyOn": "None"}})
        pattern = _with_weights(pattern, f"{model}/{bundle}", weights)
    else:
        zip_key = layout.bundle_folder(model, bundle) + "layer.zip"
        # The proof checks the signature before anybody is routed to it; a function that starts cold need not again.
        pattern = _with_variable(pattern, "ISTHMUS_BUNDLE_SHA256", bundle)
        layer_name, mark = layout.layer_name(settings.stack, model), f"{layout.BUNDLE_MARKER}{bundle}"
        layers = (*layers, functions.publish_layer(layer_name, zip_key, mark))
    if baseline:
        text = msgspec.json.encode(msgspec.convert(baseline, Baseline)).decode()
        pattern = _with_variable(pattern, "ISTHMUS_BASELINE", text)
    version = functions.stage(function, pattern, layers, marker(pattern, layers))
    alias = functions.alias(function)
    seconds = settings.rollout_step_seconds, settings.rollout_bake_seconds
    return Staged(function, version, alias.version if alias else "", *seconds)


def marker(pattern: FunctionCode, layers: tuple[str, ...]) -> str:
    """Return what names a version by all that it runs: staging the same again finds it."""
    content: dict[str, Any] = {"code": pattern.sha256, "layers": layers, "settings": dict(pattern.settings)}
    return f"isthmus {documents.digest(content)}"


def _with_key(pattern: FunctionCode, signer: Signer) -> FunctionCode:
    key = base64.b64encode(signer.public_key()).decode()
    return _with_variable(pattern, "ISTHMUS_PUBLIC_KEY", key)


def _with_weights(pattern: FunctionCode, bundle: str, serving: Serving) -> FunctionCode:
    """Return the pattern with room for the bundle: memory buys processors too, never less than the stack's."""
    pattern = _with_variable(pattern, "ISTHMUS_BUNDLE", bundle)
    memory = max(int(pattern.settings.get("MemorySize", 0)), serving.memory_mb)
    disk = max(int(pattern.settings.get("EphemeralStorage", {}).get("Size", 512)), serving.disk_mb)
    return replace(
        pattern, settings={**pattern.settings, "MemorySize": memory, "EphemeralStorage": {"Size": disk}}
    )


def _with_variable(pattern: FunctionCode, name: str, value: str) -> FunctionCode:
    variables = {**pattern.settings["Environment"]["Variables"], name: value}
    return replace(pattern, settings={**pattern.settings, "Environment": {"Variables": variables}})
