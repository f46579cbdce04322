"""What a request takes to be allowed: actions and resources by the request's own parameters."""

from typing import Any

import pytest

from isthmus_localcloud.iam.calls import Call
from isthmus_localcloud.iam.checks import checks_of

PLACE = "eu-west-1:000000000000"
ROLE = "arn:aws:iam::000000000000:role/r"
LAMBDA, STATES = f"arn:aws:lambda:{PLACE}", f"arn:aws:states:{PLACE}"
GREENGRASS, EVENTS = f"arn:aws:greengrass:{PLACE}", f"arn:aws:events:{PLACE}"
SAGEMAKER = f"arn:aws:sagemaker:{PLACE}"

REQUESTS: list[tuple[str, str, dict[str, Any], list[tuple[str, str]]]] = [
    ("s3", "ListObjectsV2", {"Bucket": "b"}, [("s3:ListBucket", "arn:aws:s3:::b")]),
    ("s3", "PutObject", {"Bucket": "b", "Key": "a/k"}, [("s3:PutObject", "arn:aws:s3:::b/a/k")]),
    ("s3", "UploadPart", {"Bucket": "b", "Key": "k"}, [("s3:PutObject", "arn:aws:s3:::b/k")]),
    (
        "s3",
        "HeadObject",
        {"Bucket": "b", "Key": "k"},
        [("s3:GetObject", "arn:aws:s3:::b/k"), ("s3:ListBucket", "arn:aws:s3:::b")],
    ),
    (
        "s3",
        "DeleteObjects",
        {"Bucket": "b", "Delete": {"Objects": [{"Key": "k"}, {"Key": "l", "VersionId": "1"}]}},
        [("s3:DeleteObject", "arn:aws:s3:::b/k"), ("s3:DeleteObjectVersion", "arn:aws:s3:::b/l")],
    ),
    ("s3", "GetBucketEncryption", {"Bucket": "b"}, [("s3:GetEncryptionConfiguration", "arn:aws:s3:::b")]),
    ("lambda", "Invoke", {"FunctionName": "f"}, [("lambda:InvokeFunction", f"{LAMBDA}:function:f")]),
    (
        "lambda",
        "Invoke",
        {"FunctionName": "f", "Qualifier": "live"},
        [("lambda:InvokeFunction", f"{LAMBDA}:function:f:live")],
    ),
    (
        "lambda",
        "GetFunction",
        {"FunctionName": f"{LAMBDA}:function:f:2"},
        [("lambda:GetFunction", f"{LAMBDA}:function:f:2")],
    ),
    (
        "lambda",
        "GetFunction",
        {"FunctionName": "000000000000:function:f"},
        [("lambda:GetFunction", f"{LAMBDA}:function:f")],
    ),
    (
        "lambda",
        "UpdateFunctionConfiguration",
        {"FunctionName": "f", "Layers": [f"{LAMBDA}:layer:l:3"], "Role": ROLE},
        [
            ("lambda:UpdateFunctionConfiguration", f"{LAMBDA}:function:f"),
            ("lambda:GetLayerVersion", f"{LAMBDA}:layer:l:3"),
            ("iam:PassRole", ROLE),
        ],
    ),
    ("lambda", "ListLayerVersions", {"LayerName": "l"}, [("lambda:ListLayerVersions", f"{LAMBDA}:layer:l")]),
    (
        "lambda",
        "GetLayerVersion",
        {"LayerName": "l", "VersionNumber": 2},
        [("lambda:GetLayerVersion", f"{LAMBDA}:layer:l:2")],
    ),
    (
        "lambda",
        "PublishLayerVersion",
        {"LayerName": "l", "Content": {"S3Bucket": "b", "S3Key": "k"}},
        [
            ("lambda:PublishLayerVersion", f"{LAMBDA}:layer:l"),
            ("s3:GetObject", "arn:aws:s3:::b/k"),
            ("s3:ListBucket", "arn:aws:s3:::b"),
        ],
    ),
    ("lambda", "ListFunctions", {}, [("lambda:ListFunctions", "*")]),
    (
        "sqs",
        "DeleteMessageBatch",
        {"QueueUrl": "http://localhost/000000000000/q"},
        [("sqs:DeleteMessage", f"arn:aws:sqs:{PLACE}:q")],
    ),
    ("sqs", "CreateQueue", {"QueueName": "q"}, [("sqs:CreateQueue", f"arn:aws:sqs:{PLACE}:q")]),
    ("sqs", "ListQueues", {}, [("sqs:ListQueues", "*")]),
    (
        "events",
        "PutEvents",
        {"Entries": [{"EventBusName": "bus"}, {"EventBusName": f"{EVENTS}:event-bus/other"}, {}]},
        [
            ("events:PutEvents", f"{EVENTS}:event-bus/bus"),
            ("events:PutEvents", f"{EVENTS}:event-bus/other"),
            ("events:PutEvents", f"{EVENTS}:event-bus/default"),
        ],
    ),
    ("events", "PutRule", {"Name": "r"}, [("events:PutRule", f"{EVENTS}:rule/r")]),
    (
        "events",
        "PutTargets",
        {"Rule": "r", "EventBusName": "bus"},
        [("events:PutTargets", f"{EVENTS}:rule/bus/r")],
    ),
    (
        "stepfunctions",
        "StopExecution",
        {"executionArn": f"{STATES}:execution:m:e"},
        [("states:StopExecution", f"{STATES}:execution:m:e")],
    ),
    (
        "stepfunctions",
        "StartExecution",
        {"stateMachineArn": f"{STATES}:stateMachine:m", "name": "e"},
        [("states:StartExecution", f"{STATES}:stateMachine:m")],
    ),
    (
        "stepfunctions",
        "CreateStateMachine",
        {"name": "m", "roleArn": ROLE},
        [("states:CreateStateMachine", f"{STATES}:stateMachine:m"), ("iam:PassRole", ROLE)],
    ),
    (
        "sagemaker",
        "CreateModelPackage",
        {"ModelPackageGroupName": "Models"},
        [
            ("sagemaker:CreateModelPackage", f"{SAGEMAKER}:model-package-group/models"),
            ("sagemaker:CreateModelPackage", f"{SAGEMAKER}:model-package/models/1"),
        ],
    ),
    (
        "sagemaker",
        "CreateTrainingJob",
        {"TrainingJobName": "Job", "RoleArn": ROLE},
        [("sagemaker:CreateTrainingJob", f"{SAGEMAKER}:training-job/job"), ("iam:PassRole", ROLE)],
    ),
    (
        "sagemaker",
        "CreateTrainingJob",
        {"TrainingJobName": "Job", "Tags": [{"Key": "a", "Value": "b"}]},
        [
            ("sagemaker:CreateTrainingJob", f"{SAGEMAKER}:training-job/job"),
            ("sagemaker:AddTags", f"{SAGEMAKER}:training-job/job"),
        ],
    ),
    ("ecr", "GetAuthorizationToken", {}, [("ecr:GetAuthorizationToken", "*")]),
    (
        "ecr",
        "BatchGetImage",
        {"repositoryName": "team/train"},
        [("ecr:BatchGetImage", f"arn:aws:ecr:{PLACE}:repository/team/train")],
    ),
    (
        "greengrassv2",
        "DescribeComponent",
        {"arn": f"{GREENGRASS}:components:c:versions:1.0.0"},
        [("greengrass:DescribeComponent", f"{GREENGRASS}:components:c:versions:1.0.0")],
    ),
    (
        "greengrassv2",
        "CreateComponentVersion",
        {"lambdaFunction": {"lambdaArn": f"{LAMBDA}:function:f:1"}},
        [
            ("greengrass:CreateComponentVersion", "*"),
            ("lambda:GetFunction", f"{LAMBDA}:function:f:1"),
            ("greengrass:TagResource", f"{GREENGRASS}:components:f"),
            ("greengrass:ListTagsForResource", f"{GREENGRASS}:components:f"),
        ],
    ),
    (
        "greengrassv2",
        "CreateComponentVersion",
        {"inlineRecipe": b'{"Manifests": [{"Artifacts": [{"Uri": "s3://b/k"}]}]}'},
        [
            ("greengrass:CreateComponentVersion", "*"),
            ("s3:GetObject", "arn:aws:s3:::b/k"),
            ("s3:ListBucket", "arn:aws:s3:::b"),
        ],
    ),
    (
        "cloudformation",
        "DescribeStacks",
        {"StackName": "gone"},
        [("cloudformation:DescribeStacks", f"arn:aws:cloudformation:{PLACE}:stack/gone/*")],
    ),
    (
        "logs",
        "PutLogEvents",
        {"logGroupName": "g", "logStreamName": "s"},
        [("logs:PutLogEvents", f"arn:aws:logs:{PLACE}:log-group:g:log-stream:s")],
    ),
    ("iam", "CreateUser", {"UserName": "u"}, [("iam:CreateUser", "arn:aws:iam::000000000000:user/u")]),
]


@pytest.mark.parametrize(("service", "operation", "params", "wanted"), REQUESTS)
def test_a_request_takes_the_actions_and_resources_of_the_service_authorization_reference(
    service: str, operation: str, params: dict[str, Any], wanted: list[tuple[str, str]]
) -> None:
    found = checks_of(Call(service, operation, params, "000000000000", "eu-west-1"))
    assert [(check.action, check.resource) for check in found] == wanted


def test_a_deployment_takes_the_rights_on_its_iot_job() -> None:
    call = Call("greengrassv2", "CreateDeployment", {"targetArn": "arn:t"}, "000000000000", "eu-west-1")
    actions = [check.action for check in checks_of(call)]
    assert {"iot:CreateJob", "iot:CancelJob", "iot:UpdateThingShadow"} <= set(actions)
    call = Call("greengrassv2", "ListEffectiveDeployments", {"coreDeviceThingName": "d"}, "0", "e")
    assert "iot:DescribeJobExecution" in [check.action for check in checks_of(call)]


def test_a_role_is_passed_to_the_service_that_gets_it() -> None:
    params = {"FunctionName": "f", "Role": ROLE}
    found = checks_of(Call("lambda", "CreateFunction", params, "000000000000", "eu-west-1"))
    assert found[-1].keys == {"iam:PassedToService": "lambda.amazonaws.com"}
