"""What AWS refuses is refused, just above each limit; and what AWS takes passes, just below it."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError
from conftest import ROLE, Cloud

from isthmus_localcloud.refusals import limits


def outcome(call: Callable[..., Any], **request: Any) -> tuple[int, str] | None:
    """HTTP status and error code of a refusal; None when the call passes."""
    try:
        call(**request)
    except ClientError as error:
        return error.response["ResponseMetadata"]["HTTPStatusCode"], error.response["Error"]["Code"]
    return None


def training_job(cloud: Cloud, name: str) -> dict[str, Any]:
    answer: dict[str, Any] = cloud.client("sagemaker").create_training_job(
        TrainingJobName=name,
        RoleArn=ROLE,
        AlgorithmSpecification={"TrainingImage": "train", "TrainingInputMode": "File"},
        OutputDataConfig={"S3OutputPath": "s3://bucket/out"},
        StoppingCondition={"MaxRuntimeInSeconds": 60},
        ResourceConfig={"InstanceCount": 1, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 1},
    )
    return answer


@pytest.mark.parametrize(
    ("name", "passes"),
    [("a" * limits.TRAINING_JOB_NAME.value, True), ("a" * 64, False), ("under_score", False), ("-a", False)],
)
def test_names_of_training_jobs(cloud: Cloud, name: str, passes: bool) -> None:
    expected = None if passes else (400, "ValidationException")
    assert outcome(training_job, cloud=cloud, name=name) == expected


def test_a_violation_is_worded_as_aws_words_it(cloud: Cloud) -> None:
    with pytest.raises(ClientError) as caught:
        training_job(cloud, "a_b")
    assert caught.value.response["Error"]["Message"] == (
        "1 validation error detected: Value 'a_b' at 'trainingJobName' failed to satisfy constraint: Member "
        "must satisfy regular expression pattern: [a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}"
    )


@pytest.mark.parametrize(("gigabytes", "passes"), [(16_384, True), (16_385, False)])
def test_greatest_numbers(cloud: Cloud, gigabytes: int, passes: bool) -> None:
    """A number, inside a structure."""
    cluster = {"InstanceCount": 1, "InstanceType": "ml.m5.large", "VolumeSizeInGB": gigabytes}
    assert outcome(
        cloud.client("sagemaker").create_processing_job,
        ProcessingJobName=f"p{gigabytes}",
        RoleArn=ROLE,
        AppSpecification={"ImageUri": "image"},
        ProcessingResources={"ClusterConfig": cluster},
    ) == (None if passes else (400, "ValidationException"))


@pytest.mark.parametrize(("kind", "passes"), [("SecureString", True), ("Secret", False)])
def test_values_of_an_enumeration(cloud: Cloud, kind: str, passes: bool) -> None:
    assert outcome(cloud.client("ssm").put_parameter, Name=f"/{kind}", Value="x", Type=kind) == (
        None if passes else (400, "ValidationException")
    )


@pytest.mark.parametrize(("size", "passes"), [(limits.SQS_MESSAGE.value, True), (1_048_577, False)])
def test_messages(cloud: Cloud, size: int, passes: bool) -> None:
    """The text and an attribute of ten bytes: its name, type and value."""
    sqs = cloud.client("sqs")
    queue = sqs.create_queue(QueueName="sizes")["QueueUrl"]
    attributes = {"a": {"DataType": "String", "StringValue": "bbb"}}
    assert outcome(
        sqs.send_message, QueueUrl=queue, MessageBody="x" * (size - 10), MessageAttributes=attributes
    ) == (None if passes else (400, "InvalidParameterValue"))


@pytest.mark.parametrize(("size", "passes"), [(limits.EVENT_ENTRIES.value, True), (1_048_576, False)])
def test_events(cloud: Cloud, size: int, passes: bool) -> None:
    """Two entries, which count together: source, detail type and detail."""
    small = {"Source": "s", "DetailType": "t", "Detail": json.dumps({"a": ""})}
    left = size - 2 * sum(len(text) for text in small.values())
    large = {**small, "Detail": json.dumps({"a": "x" * left})}
    put = cloud.client("events").put_events
    if passes:
        assert put(Entries=[small, large])["FailedEntryCount"] == 0
    else:
        assert outcome(put, Entries=[small, large]) == (400, "ValidationException")


@pytest.fixture(scope="module")
def table(cloud: Cloud) -> str:
    cloud.client("dynamodb").create_table(
        TableName="sizes",
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
    )
    return "sizes"


@pytest.mark.parametrize(("size", "passes"), [(limits.DYNAMODB_ITEM.value, True), (409_601, False)])
def test_items(cloud: Cloud, table: str, size: int, passes: bool) -> None:
    """id: 2 + 1 bytes, n: 1 + 2, m: 1 + 3 + 1 + 1 + the text; put, and then put in place of itself."""
    dynamodb = cloud.client("dynamodb")
    content = {"M": {"t": {"S": "x" * (size - 12)}}}
    item = {"id": {"S": "a"}, "n": {"N": "12"}, "m": content}
    expected = None if passes else (400, "ValidationException")
    assert outcome(dynamodb.put_item, TableName=table, Item=item) == expected
    dynamodb.put_item(TableName=table, Item={"id": {"S": "a"}, "n": {"N": "12"}})
    for _ in range(2):
        assert (
            outcome(
                dynamodb.update_item,
                TableName=table,
                Key={"id": {"S": "a"}},
                UpdateExpression="SET m = :m",
                ExpressionAttributeValues={":m": content},
            )
            == expected
        )


def recipe(size: int, version: str) -> bytes:
    head = {
        "RecipeFormatVersion": "2020-01-25",
        "ComponentName": "limits.Recipe",
        "ComponentVersion": version,
        "ComponentDescription": "",
        "Manifests": [{"Platform": {"os": "linux"}, "Lifecycle": {}}],
    }
    left = size - len(json.dumps(head))
    return json.dumps({**head, "ComponentDescription": "x" * left}).encode()


@pytest.mark.parametrize(("size", "passes"), [(limits.GREENGRASS_RECIPE.value, True), (16_001, False)])
def test_recipes(cloud: Cloud, size: int, passes: bool) -> None:
    text = recipe(size, f"1.0.{size}")
    create = cloud.client("greengrassv2").create_component_version
    assert outcome(create, inlineRecipe=text) == (None if passes else (400, "ValidationException"))


@pytest.mark.parametrize(("qualifier", "passes"), [("1", True), ("$LATEST", False), ("live", False)])
def test_functions_that_become_components(cloud: Cloud, qualifier: str, passes: bool) -> None:
    """Only a numbered version: neither $LATEST nor an alias."""
    functions, name = cloud.client("lambda"), f"component-{qualifier.strip('$').lower()}"
    arn = cloud.function(name, "def handler(e, c): return 1\n")
    functions.publish_version(FunctionName=name)
    functions.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    assert outcome(
        cloud.client("greengrassv2").create_component_version,
        lambdaFunction={"lambdaArn": f"{arn}:{qualifier}"},
    ) == (None if passes else (400, "ValidationException"))
