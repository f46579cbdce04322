"""ListLayers: a layer of which every version was deleted is no longer listed on AWS; LocalEmu fails on it."""

from typing import Any

from localemu.services.lambda_.invocation.models import lambda_stores
from localemu.services.lambda_.provider import LambdaProvider


def apply() -> None:
    """Forget such layers before listing."""
    original = LambdaProvider.list_layers

    def list_layers(self: Any, context: Any, *positional: Any, **named: Any) -> Any:
        layers = lambda_stores[context.account_id][context.region].layers
        for name in [name for name, layer in list(layers.items()) if not layer.layer_versions]:
            del layers[name]
        return original(self, context, *positional, **named)

    LambdaProvider.list_layers = list_layers
