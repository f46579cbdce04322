"""What a request to Greengrass V2 takes, with what it does elsewhere in the caller's name.

Source: Service Authorization Reference, AWS IoT Greengrass V2, dependent actions; Greengrass V2 developer
guide, "Import a Lambda function as a component", requirements; "Create component versions" (artifacts).
"""

import json
from collections.abc import Iterator
from typing import Any

import yaml

from . import s3
from .calls import Call, Check

SHOWS_JOB = ("iot:DescribeJob", "iot:DescribeThing", "iot:DescribeThingGroup", "iot:GetThingShadow")
DEPENDENT = {
    "CancelDeployment": (
        "iot:CancelJob", "iot:DeleteThingShadow", *SHOWS_JOB, "iot:UpdateJob", "iot:UpdateThingShadow",
    ),
    "CreateDeployment": (
        "iot:CancelJob", "iot:CreateJob", "iot:DeleteThingShadow", *SHOWS_JOB, "iot:UpdateJob",
        "iot:UpdateThingShadow",
    ),
    "GetDeployment": SHOWS_JOB,
    "ListDeployments": SHOWS_JOB,
    "ListEffectiveDeployments": (
        "iot:DescribeJob", "iot:DescribeJobExecution", "iot:DescribeThing", "iot:DescribeThingGroup",
        "iot:GetThingShadow",
    ),
    "DeleteCoreDevice": ("iot:DescribeJobExecution",),
    "DeleteDeployment": ("iot:DeleteJob",),
}  # fmt: skip


def checks(call: Call) -> Iterator[Check]:
    yield Check(f"greengrass:{call.operation}", _resource(call))
    for action in DEPENDENT.get(call.operation, ()):
        yield Check(action, _iot_resource(call, action), implied="a deployment is an IoT job")
    if call.operation == "CreateComponentVersion":
        yield from _component(call)


def _resource(call: Call) -> str:
    for name in ("arn", "resourceArn"):
        if call.text(name):
            return call.text(name)
    if deployment := call.text("deploymentId"):
        return call.arn("greengrass", f"deployments:{deployment}")
    if device := call.text("coreDeviceThingName"):
        return call.arn("greengrass", f"coreDevices:{device}")
    return "*"


def _iot_resource(call: Call, action: str) -> str:
    """The job of a deployment bears its id; what a deployment's target is, only the service knows."""
    target, deployment = call.text("targetArn"), call.text("deploymentId")
    if action.endswith("Job"):
        return call.arn("iot", f"job/{deployment or 'new'}")
    return target or "*"


def _component(call: Call) -> Iterator[Check]:
    function = (call.params.get("lambdaFunction") or {}).get("lambdaArn")
    if function:
        reason = "the function becomes a component"
        yield Check("lambda:GetFunction", str(function), implied=reason)
        name = str(call.params["lambdaFunction"].get("componentName") or function.split(":")[6])
        component = call.arn("greengrass", f"components:{name}")
        yield Check("greengrass:TagResource", component, implied=reason)
        yield Check("greengrass:ListTagsForResource", component, implied=reason)
    for bucket, key in artifacts(call.params.get("inlineRecipe")):
        reason = "the component has this artifact"
        yield Check("s3:GetObject", f"arn:aws:s3:::{bucket}/{key}", implied=reason)
        yield from s3.to_read(call, bucket, key)


def artifacts(recipe: Any) -> Iterator[tuple[str, str]]:
    """Bucket and key of each artifact of a recipe, in JSON or YAML. A recipe that does not parse has none."""
    text = recipe.decode() if isinstance(recipe, bytes) else str(recipe or "{}")
    try:
        parsed = json.loads(text) if text.lstrip().startswith("{") else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError):
        return
    for manifest in parsed.get("Manifests") or []:
        for artifact in manifest.get("Artifacts") or []:
            uri = str(artifact.get("Uri") or artifact.get("URI") or "")
            if uri.startswith("s3://"):
                bucket, _, key = uri[5:].partition("/")
                yield bucket, key
