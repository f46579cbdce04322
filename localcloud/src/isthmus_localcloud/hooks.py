"""What changes inside LocalEmu when it starts. Each patch says what AWS does and LocalEmu does not."""

import importlib
import sys
from typing import Any

from localemu.runtime import hooks

ASL = "localemu.services.stepfunctions.asl"
TASK_FACTORY = f"{ASL}.component.state.state_execution.state_task.service.state_task_service_factory"


def replace_everywhere(module_name: str, attribute: str, new: Any) -> None:
    """Modules that did ``from x import f`` hold their own name for it, so each of them has to be changed."""
    module = importlib.import_module(module_name)
    old = getattr(module, attribute)
    for other in list(sys.modules.values()):
        if getattr(other, attribute, None) is old:
            setattr(other, attribute, new)


@hooks.on_infra_start()  # type: ignore[untyped-decorator]
def isthmus_patches() -> None:
    """Runs once, before the first request."""
    from . import (
        binary_media,
        cloudformation_patches,
        cloudformation_policies,
        cloudformation_updates,
        iam,
        imported_apis,
        iot,
        lambda_authorizers,
        offline,
        refusals,
        retention,
        usage_plans,
    )
    from .greengrass import routing
    from .lambdas import call_metrics, crowding, draining, layer_list, log_group
    from .stepfunctions import (
        denied,
        early_heartbeats,
        error_names,
        heartbeat_names,
        nested,
        redrive_api,
        stopping,
    )
    from .stepfunctions.jsonata_engine import evaluate
    from .stepfunctions.sagemaker_task import SageMakerTask

    replace_everywhere(f"{ASL}.jsonata.jsonata", "eval_jsonata_expression", evaluate)
    original = importlib.import_module(TASK_FACTORY).state_task_service_for

    def state_task_service_for(service_name: str) -> Any:
        return SageMakerTask() if service_name == "sagemaker" else original(service_name)

    replace_everywhere(TASK_FACTORY, "state_task_service_for", state_task_service_for)
    error_names.apply()
    denied.apply()
    early_heartbeats.apply()
    heartbeat_names.apply()
    nested.apply()
    stopping.apply()
    redrive_api.apply()
    layer_list.apply()
    log_group.apply()
    routing.apply()
    crowding.apply()
    draining.apply()
    call_metrics.apply()
    cloudformation_patches.apply()
    cloudformation_updates.apply()
    cloudformation_policies.apply()
    retention.apply()
    imported_apis.apply()
    lambda_authorizers.apply()
    usage_plans.apply()
    binary_media.apply()
    refusals.apply()  # after it: an event is measured as base64
    offline.apply()
    iam.install()
    iot.start()
    add_routes()


def add_routes() -> None:
    from localemu.services.edge import ROUTER

    from .custom_resources import ResponseRoute
    from .greengrass.device_api import DeviceApi
    from .inside_status import InsideStatus

    ROUTER.add(InsideStatus())
    ROUTER.add(DeviceApi())
    ROUTER.add(ResponseRoute())
