"""What a request to Lambda takes.

Source: Service Authorization Reference, AWS Lambda; Lambda developer guide, "Identity-based IAM policies",
function, layer and version ARNs; "Working with layers": a function's layers take lambda:GetLayerVersion.
"""

from collections.abc import Iterator

from localemu.services.iam_enforcement.service_action_map import map_action

from . import s3
from .calls import Call, Check

OF_LAYER = ("ListLayerVersions", "PublishLayerVersion")
OF_LAYER_VERSION = (
    "AddLayerVersionPermission",
    "DeleteLayerVersion",
    "GetLayerVersion",
    "GetLayerVersionPolicy",
    "RemoveLayerVersionPermission",
)
OF_NONE = ("GetAccountSettings", "ListFunctions", "ListLayers")
SETS_UP = ("CreateFunction", "UpdateFunctionConfiguration")


def checks(call: Call) -> Iterator[Check]:
    for action in map_action("lambda", call.operation):
        yield Check(action, _resource(call))
    if call.operation in SETS_UP:
        yield from _set_up(call)
    content = call.params.get("Content") or call.params.get("Code") or call.params
    if isinstance(content, dict) and content.get("S3Bucket") and content.get("S3Key"):
        bucket, key = str(content["S3Bucket"]), str(content["S3Key"])
        reason = "Lambda reads the code in the caller's name"
        yield Check("s3:GetObject", f"arn:aws:s3:::{bucket}/{key}", implied=reason)
        yield from s3.to_read(call, bucket, key)


def _set_up(call: Call) -> Iterator[Check]:
    for layer in call.params.get("Layers") or []:
        yield Check("lambda:GetLayerVersion", str(layer), implied="the function gets this layer")
    if role := call.text("Role"):
        yield passed(role, "lambda.amazonaws.com")


def passed(role: str, service: str) -> Check:
    """Giving a role to a service. IAM user guide, "Granting a user permissions to pass a role"."""
    return Check("iam:PassRole", role, {"iam:PassedToService": service}, implied="the role is passed on")


def _resource(call: Call) -> str:
    if call.operation in OF_NONE:
        return "*"
    if call.operation == "GetLayerVersionByArn":
        return call.text("Arn")
    if call.operation in OF_LAYER:
        return layer_arn(call)
    if call.operation in OF_LAYER_VERSION:
        return f"{layer_arn(call)}:{call.text('VersionNumber')}"
    if name := call.text("FunctionName"):
        return function_arn(call, name, call.text("Qualifier"))
    return call.text("Resource") or "*"


def layer_arn(call: Call) -> str:
    name = call.text("LayerName")
    return name if name.startswith("arn:") else call.arn("lambda", f"layer:{name}")


def function_arn(call: Call, name: str, qualifier: str = "") -> str:
    """The full ARN of a name, of a partial ARN or of a full one, with its version or alias if it has one."""
    bare, _, inside = name.rpartition("function:")[2].partition(":")
    last = inside or qualifier
    return call.arn("lambda", f"function:{bare}" + (f":{last}" if last else ""))
