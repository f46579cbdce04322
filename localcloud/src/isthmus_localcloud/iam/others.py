"""What requests to the other services take.

Source, for each: its page of the Service Authorization Reference.
"""

from collections.abc import Iterator

from localemu.services.iam_enforcement.arn_builder import build_resource_arn
from localemu.services.iam_enforcement.service_action_map import map_action

from . import attached
from .calls import Call, Check
from .functions import passed
from .s3 import through

PREFIXES = {
    "stepfunctions": "states",
    "greengrassv2": "greengrass",
    "s3control": "s3",
    "bedrock-runtime": "bedrock",
}
"""Where IAM's prefix is not botocore's name of the service."""
SENDS = ("SendMessage", "SendMessageBatch")


def queues(call: Call) -> Iterator[Check]:
    """SQS; developer guide, "Key management": sending takes two rights on the key, receiving one."""
    name = (call.text("QueueUrl").rstrip("/").rpartition("/")[2]) or call.text("QueueName")
    resource = call.arn("sqs", name) if name else "*"
    yield from (Check(action, resource) for action in map_action("sqs", call.operation))
    key = attached.queue_key(call.account, call.region, name) if name else None
    reason = "the queue is encrypted with this key"
    if key and call.operation in SENDS:
        yield through(call, "sqs", "kms:GenerateDataKey", key, reason)
    if key and call.operation in (*SENDS, "ReceiveMessage"):
        yield through(call, "sqs", "kms:Decrypt", key, reason)


def keys(call: Call) -> Iterator[Check]:
    """KMS. A policy names the key, whatever the request names: developer guide, "Using aliases"."""
    wanted = call.text("KeyId") or call.text("TargetKeyId") or call.text("DestinationKeyId")
    key = attached.kms_key(call.account, call.region, wanted)
    resource = str(key.metadata["Arn"]) if key else "*"
    context = {
        f"kms:EncryptionContext:{k}": str(v) for k, v in (call.params.get("EncryptionContext") or {}).items()
    }
    if ":alias/" in wanted or wanted.startswith("alias/"):
        context["kms:RequestAlias"] = "alias/" + wanted.rpartition("alias/")[2]
    yield from (Check(action, resource, context) for action in map_action("kms", call.operation))


def events(call: Call) -> Iterator[Check]:
    if call.operation == "PutEvents":
        for entry in call.params.get("Entries", []):
            details = {
                "events:source": str(entry.get("Source", "")),
                "events:detail-type": str(entry.get("DetailType", "")),
            }
            yield Check(
                "events:PutEvents", bus_arn(call, str(entry.get("EventBusName") or "default")), details
            )
        return
    rule, bus = call.text("Rule"), call.text("EventBusName", "default")
    if call.operation in ("PutRule", "DescribeRule", "DeleteRule", "EnableRule", "DisableRule"):
        rule = call.text("Name")
    if rule:
        yield Check(f"events:{call.operation}", rule_arn(call, rule, bus))
    else:
        yield Check(f"events:{call.operation}", bus_arn(call, call.text("Name", bus)))


def bus_arn(call: Call, name: str) -> str:
    return name if name.startswith("arn:") else call.arn("events", f"event-bus/{name}")


def rule_arn(call: Call, name: str, bus: str = "default") -> str:
    """A rule of the default bus has no bus in its ARN."""
    place = "" if bus in ("", "default") else f"{bus.rpartition('/')[2]}/"
    return call.arn("events", f"rule/{place}{name}")


def states(call: Call) -> Iterator[Check]:
    """Step Functions. An answer to a task token is a right on the state machine that waits for it.

    The reference lists no resource for SendTask*, but AWS's refusals name the machine
    (NOAA-OWP/hydrovis#837), and a right on it suffices (aws/aws-cdk#8486, tried on AWS).
    """
    if token := call.text("taskToken"):
        resource = attached.machine_of_token(call.account, call.region, token) or "*"
    elif call.operation == "CreateStateMachine":
        resource = call.arn("states", f"stateMachine:{call.text('name')}")
    else:
        names = ("executionArn", "stateMachineArn", "stateMachineAliasArn", "activityArn", "resourceArn")
        resource = next((call.text(name) for name in names if call.text(name)), "*")
    yield Check(f"states:{call.operation}", resource)
    if role := call.text("roleArn"):
        yield passed(role, "states.amazonaws.com")


SAGEMAKER_NAMES = {
    "TrainingJobName": "training-job",
    "ProcessingJobName": "processing-job",
    "TransformJobName": "transform-job",
    "ModelPackageGroupName": "model-package-group",
}


def sagemaker(call: Call) -> Iterator[Check]:
    """A new package is checked against its group and against itself; names are in lower case in ARNs."""
    group = call.text("ModelPackageGroupName").rpartition("/")[2].lower()
    package = call.text("ModelPackageName") or call.text("ModelPackageArn")
    found = [
        call.arn("sagemaker", f"{kind}/{call.text(name).rpartition('/')[2].lower()}")
        for name, kind in SAGEMAKER_NAMES.items()
        if call.text(name)
    ]
    if call.operation == "CreateModelPackage" and group:
        found.append(call.arn("sagemaker", f"model-package/{group}/1"))
    elif package:
        found.append(
            package if package.startswith("arn:") else call.arn("sagemaker", f"model-package/{package}")
        )
    for resource in found or [call.text("ResourceArn", "*")]:
        yield Check(f"sagemaker:{call.operation}", resource)
        if call.operation == "CreateTrainingJob" and call.params.get("Tags"):
            yield Check("sagemaker:AddTags", resource, implied="the job is made with tags")
    if role := call.text("RoleArn"):
        yield passed(role, "sagemaker.amazonaws.com")


def stacks(call: Call) -> Iterator[Check]:
    """CloudFormation. A policy names a stack by its id, a request mostly by its name."""
    name = call.text("StackName")
    resource = name if name.startswith("arn:") else attached.stack_arn(call.account, call.region, name) or "*"
    if name and resource == "*":
        resource = call.arn("cloudformation", f"stack/{name}/*")
    yield Check(f"cloudformation:{call.operation}", resource)


def metrics(call: Call) -> Iterator[Check]:
    """CloudWatch. A metric has no ARN: who may read one may read all. Who sends some is held to a namespace
    by a condition key."""
    if call.operation == "GetMetricData":
        yield Check("cloudwatch:GetMetricData", "*")
        return
    if call.operation != "PutMetricData":
        yield from anything(call)
        return
    yield Check("cloudwatch:PutMetricData", "*", {"cloudwatch:namespace": call.text("Namespace")})


def registry(call: Call) -> Iterator[Check]:
    """Amazon ECR: a repository by its name; a token is for the whole registry."""
    name = call.text("repositoryName")
    yield Check(f"ecr:{call.operation}", call.arn("ecr", f"repository/{name}") if name else "*")


def logs(call: Call) -> Iterator[Check]:
    group, stream = call.text("logGroupName"), call.text("logStreamName")
    place = f"log-group:{group}:" + (f"log-stream:{stream}" if stream else "*")
    yield Check(f"logs:{call.operation}", call.arn("logs", place) if group else "*")


def anything(call: Call) -> Iterator[Check]:
    """Services that isthmus' own roles do not use: LocalEmu's resources, AWS's names of the actions."""
    prefix = PREFIXES.get(call.service, call.service)
    resource = build_resource_arn(prefix, call.operation, dict(call.params), call.region, call.account)
    for action in map_action(prefix, call.operation):
        yield Check(action, resource)
