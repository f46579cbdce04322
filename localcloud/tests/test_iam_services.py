"""Roles of functions and state machines, and what services may deliver to functions, queues and APIs."""

import hashlib
import hmac
import json
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from conftest import REGION, Cloud, allow, make_role, task, wait_for
from iam_world import ACCOUNT, User, client_with, grant, record

LAMBDA = ["lambda.amazonaws.com"]
CALLER = """
import boto3

def handler(event, context):
    answer = boto3.client("sqs").send_message(QueueUrl=event["url"], MessageBody="hello")
    return {"sent": bool(answer["MessageId"])}
"""
ECHO = "def handler(event, context):\n    return {'statusCode': 200, 'body': 'here'}\n"


def queue(cloud: Cloud, name: str) -> tuple[str, str]:
    """URL and ARN."""
    url = cloud.client("sqs").create_queue(QueueName=name)["QueueUrl"]
    return str(url), f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}"


def test_a_function_calls_with_its_own_role(cloud: Cloud) -> None:
    url, arn = queue(cloud, "of-a-function")
    role = make_role(cloud, "caller", LAMBDA, grant("logs:*"))
    cloud.function("caller", CALLER, Role=role)
    error, answer, _ = cloud.invoke("caller", {"url": url})
    assert error == "Unhandled"
    sentence = (
        f"User: arn:aws:sts::{ACCOUNT}:assumed-role/caller/caller is not authorized to perform: "
        f"sqs:SendMessage on resource: {arn} because no identity-based policy allows the "
        "sqs:SendMessage action"
    )
    assert sentence in answer["errorMessage"]
    allow(cloud, "caller", grant("sqs:SendMessage", arn))
    assert cloud.invoke("caller", {"url": url})[:2] == (None, {"sent": True})


def test_setting_up_a_function_takes_its_layers_and_the_right_to_pass_its_role(cloud: Cloud) -> None:
    content = {"ZipFile": _zip()}
    layer = cloud.client("lambda").publish_layer_version(LayerName="guarded", Content=content)
    arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:made"
    role = f"arn:aws:iam::{ACCOUNT}:role/test"
    create = grant("lambda:CreateFunction", arn)
    to_edge = {"StringEquals": {"iam:PassedToService": "edgelambda.amazonaws.com"}}
    to_lambda = {"StringEquals": {"iam:PassedToService": "lambda.amazonaws.com"}}
    user = User(cloud, create, grant("iam:PassRole", role, **to_edge))
    wanted = {
        "FunctionName": "made",
        "Runtime": "python3.13",
        "Handler": "app.handler",
        "Role": role,
        "Code": content,
        "Layers": [layer["LayerVersionArn"]],
    }
    make = user.client("lambda").create_function
    user.refused("lambda:GetLayerVersion", make, **wanted)
    layers = grant("lambda:GetLayerVersion", f"arn:aws:lambda:{REGION}:{ACCOUNT}:layer:guarded:*")
    user.may(create, layers, grant("iam:PassRole", role, **to_edge))
    user.refused("iam:PassRole", make, **wanted)
    user.may(create, layers, grant("iam:PassRole", role, **to_lambda))
    assert make(**wanted)["FunctionName"] == "made"


def _zip() -> bytes:
    from conftest import zipped

    return zipped(app=ECHO)


def test_dead_letters_are_sent_with_the_functions_role(cloud: Cloud) -> None:
    _, arn = queue(cloud, "dead-letters")
    role = make_role(cloud, "failing", LAMBDA, grant("logs:*"))
    lambdas = cloud.client("lambda")
    wanted = {"Role": role, "DeadLetterConfig": {"TargetArn": arn}}
    with pytest.raises(ClientError, match="does not have permissions to call SendMessage on SQS"):
        cloud.function("failing", "def handler(e, c): raise ValueError('no')\n", **wanted)
    allow(cloud, "failing", grant("sqs:SendMessage", arn))
    cloud.function("failing", "def handler(e, c): raise ValueError('no')\n", **wanted)
    lambdas.put_function_event_invoke_config(FunctionName="failing", MaximumRetryAttempts=0)
    lambdas.invoke(FunctionName="failing", InvocationType="Event", Payload=b"{}")
    wait_for(lambda: _taken(cloud, "failing", "sqs:SendMessage", "sqs:SendMessageBatch"))


def _taken(cloud: Cloud, identity: str, action: str, operation: str) -> list[dict[str, Any]]:
    wanted = (identity, action, operation, "allowed")
    fields = ("identity", "action", "operation", "decision")
    return [line for line in record(cloud) if tuple(line[name] for name in fields) == wanted]


def test_a_rule_reaches_a_function_by_the_functions_policy_alone(cloud: Cloud) -> None:
    function = cloud.function("ruled", ECHO)
    events, lambdas = cloud.client("events"), cloud.client("lambda")
    rule = events.put_rule(Name="to-function", EventPattern=json.dumps({"source": ["tests"]}))["RuleArn"]
    events.put_targets(Rule="to-function", Targets=[{"Id": "f", "Arn": function}])
    _deliver(cloud, "not allowed", "lambda:InvokeFunction")
    lambdas.add_permission(
        FunctionName="ruled",
        StatementId="rule",
        Action="lambda:InvokeFunction",
        Principal="events.amazonaws.com",
        SourceArn=rule,
    )
    _deliver(cloud, "allowed by the resource's policy", "lambda:InvokeFunction")
    events.remove_targets(Rule="to-function", Ids=["f"])


def test_a_rule_reaches_a_queue_by_the_queues_policy_alone(cloud: Cloud) -> None:
    url, arn = queue(cloud, "ruled")
    events = cloud.client("events")
    rule = events.put_rule(Name="to-queue", EventPattern=json.dumps({"source": ["tests"]}))["RuleArn"]
    events.put_targets(Rule="to-queue", Targets=[{"Id": "q", "Arn": arn}])
    _deliver(cloud, "not allowed", "sqs:SendMessage")
    statement = {
        **grant("sqs:SendMessage", arn, ArnEquals={"aws:SourceArn": rule}),
        "Principal": {"Service": "events.amazonaws.com"},
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    cloud.client("sqs").set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})
    _deliver(cloud, "allowed by the resource's policy", "sqs:SendMessage")
    assert cloud.client("sqs").receive_message(QueueUrl=url, WaitTimeSeconds=5)["Messages"]
    events.remove_targets(Rule="to-queue", Ids=["q"])


def _deliver(cloud: Cloud, decision: str, action: str) -> None:
    """Put an event and wait for the decision on its delivery."""
    before = len(_deliveries(cloud, decision, action))
    entry = {"Source": "tests", "DetailType": "d", "Detail": "{}"}
    cloud.client("events").put_events(Entries=[entry])
    wait_for(lambda: len(_deliveries(cloud, decision, action)) > before)


def _deliveries(cloud: Cloud, decision: str, action: str) -> list[dict[str, Any]]:
    lines = [line for line in record(cloud) if line["identity"] == "events.amazonaws.com"]
    return [line for line in lines if (line["decision"], line["action"]) == (decision, action)]


# ------------------------------------------------------------------------------------- REST APIs


@pytest.fixture(scope="module")
def api(cloud: Cloud) -> str:
    """The URL of an API that wants IAM, as a signer sees it."""
    function = cloud.function("behind", ECHO)
    gateway = cloud.client("apigateway")
    made = gateway.create_rest_api(name="guarded")["id"]
    root = gateway.get_resources(restApiId=made)["items"][0]["id"]
    method = {"restApiId": made, "resourceId": root, "httpMethod": "GET"}
    gateway.put_method(**method, authorizationType="AWS_IAM")
    uri = f"arn:aws:apigateway:{REGION}:lambda:path/2015-03-31/functions/{function}/invocations"
    gateway.put_integration(**method, type="AWS_PROXY", integrationHttpMethod="POST", uri=uri)
    gateway.create_deployment(restApiId=made, stageName="v")
    cloud.client("lambda").add_permission(
        FunctionName="behind",
        StatementId="api",
        Action="lambda:InvokeFunction",
        Principal="apigateway.amazonaws.com",
        SourceArn=f"arn:aws:execute-api:{REGION}:{ACCOUNT}:{made}/*/GET/",
    )
    return f"https://{made}.execute-api.{REGION}.amazonaws.com/v"


class WithoutHost(SigV4Auth):  # type: ignore[misc]
    """Signs everything but the host."""

    def headers_to_sign(self, request: AWSRequest) -> Any:
        headers = super().headers_to_sign(request)
        del headers["host"]
        return headers


def call(
    cloud: Cloud,
    url: str,
    key: str = "",
    secret: str = "",
    token: str | None = None,
    scope: tuple[str, str] = ("execute-api", REGION),
    signed_by: type[SigV4Auth] = SigV4Auth,
) -> tuple[int, str]:
    """Status and body of a GET, signed if there is a key."""
    request = AWSRequest("GET", url)
    if key:
        signed_by(Credentials(key, secret, token), *scope).add_auth(request)
    headers = {**dict(request.headers.items()), "Host": urlsplit(url).netloc}
    sent = urllib.request.Request(cloud.url + urlsplit(url).path, headers=headers)
    try:
        with urllib.request.urlopen(sent) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        body = json.loads(error.read())
        # An AccessDenied of API Gateway has a capital M.
        return error.code, str(body.get("message") or body["Message"])


def test_an_api_with_iam_takes_a_right_signature_of_somebody_who_may_invoke_it(
    cloud: Cloud, api: str
) -> None:
    assert call(cloud, api) == (403, "Missing Authentication Token")
    user = User(cloud, grant("s3:*"))
    status, message = call(cloud, api, user.key, user.secret)
    resource = f"arn:aws:execute-api:{REGION}:{ACCOUNT}:{urlsplit(api).netloc.split('.')[0]}/v/GET/"
    assert status == 403
    assert f"{user.arn} is not authorized to perform: execute-api:Invoke on resource: {resource}" in message
    user.may(grant("execute-api:Invoke", resource))
    assert call(cloud, api, user.key, user.secret) == (200, "here")
    status, message = call(cloud, api, user.key, "not the secret")
    assert status == 403
    assert message.startswith("The request signature we calculated does not match the signature you provided")
    status, message = call(cloud, api, "AKIAIOSFODNN7NOBODY1", "x")
    assert (status, message) == (403, "The security token included in the request is invalid.")
    assert call(cloud, api, "test", "test") == (200, "here")


@pytest.mark.parametrize(
    ("scope", "said"),
    [
        (("s3", REGION), "Credential should be scoped to correct service: 'execute-api'."),
        (("execute-api", "us-east-2"), "Credential should be scoped to a valid region, not 'us-east-2'."),
    ],
)
def test_an_api_takes_no_signature_for_another_service_or_region(
    cloud: Cloud, api: str, scope: tuple[str, str], said: str
) -> None:
    user = User(cloud, grant("execute-api:Invoke"))
    assert call(cloud, api, user.key, user.secret) == (200, "here")
    status, message = call(cloud, api, user.key, user.secret, scope=scope)
    assert (status, message.strip()) == (403, said)


def test_an_api_takes_no_signature_that_would_do_for_another_host(cloud: Cloud, api: str) -> None:
    user = User(cloud, grant("execute-api:Invoke"))
    status, message = call(cloud, api, user.key, user.secret, signed_by=WithoutHost)
    assert status == 403
    assert message.startswith("'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.")


def test_a_sessions_key_calls_an_api_only_with_the_sessions_token(cloud: Cloud, api: str) -> None:
    user = User(cloud, grant("s3:*"))
    given = assumed(cloud, "caller-of-an-api", user, grant("execute-api:Invoke"))
    key, secret, token = given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"]
    assert call(cloud, api, key, secret, token) == (200, "here")
    invalid = (403, "The security token included in the request is invalid.")
    assert call(cloud, api, key, secret) == invalid
    assert call(cloud, api, key, secret, token[::-1]) == invalid


def assumed(cloud: Cloud, name: str, user: User, *statements: dict[str, Any]) -> dict[str, str]:
    """Credentials of a session of a new role, which trusts the user and may do the statements."""
    trust = {"Effect": "Allow", "Principal": {"AWS": user.arn}, "Action": "sts:AssumeRole"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    made = cloud.client("iam").create_role(RoleName=name, AssumeRolePolicyDocument=document)["Role"]
    allow(cloud, name, *statements)
    given = user.client("sts").assume_role(RoleArn=made["Arn"], RoleSessionName="session")["Credentials"]
    return {field: str(value) for field, value in given.items()}


def test_an_api_reaches_a_function_by_the_functions_policy_alone(cloud: Cloud, api: str) -> None:
    cloud.client("lambda").remove_permission(FunctionName="behind", StatementId="api")
    assert call(cloud, api, "test", "test")[0] == 500


# -------------------------------------------------------------------------------- state machines


def machine(cloud: Cloud, role: str, definition: dict[str, Any]) -> str:
    name = "m" + hashlib.sha256(json.dumps(definition).encode()).hexdigest()[:12]
    made = cloud.client("stepfunctions").create_state_machine(
        name=name, definition=json.dumps(definition), roleArn=role
    )
    return str(made["stateMachineArn"])


def execution(cloud: Cloud, machine_arn: str, until: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    states = cloud.client("stepfunctions")
    started = states.start_execution(stateMachineArn=machine_arn)["executionArn"]
    return wait_for(
        lambda: found if until(found := states.describe_execution(executionArn=started)) else None
    )


def ended(found: dict[str, Any]) -> bool:
    return bool(found["status"] != "RUNNING")


def test_a_machines_task_is_refused_by_the_machines_role_under_awss_names(cloud: Cloud) -> None:
    function = cloud.function("task", ECHO)
    url, arn = queue(cloud, "task")
    role = make_role(cloud, "machine", ["states.amazonaws.com"], grant("s3:*"))
    invoke = machine(cloud, role, task("lambda:invoke", {"FunctionName": function, "Payload": {}}))
    send = machine(cloud, role, task("sqs:sendMessage", {"QueueUrl": url, "MessageBody": "m"}))
    found = execution(cloud, invoke, ended)
    assert (found["status"], found["error"]) == ("FAILED", "Lambda.AWSLambdaException")
    assert found["cause"].startswith(f"User: arn:aws:sts::{ACCOUNT}:assumed-role/machine/")
    assert f"is not authorized to perform: lambda:InvokeFunction on resource: {function}" in found["cause"]
    assert "(Service: AWSLambda; Status Code: 403; Error Code: AccessDeniedException;" in found["cause"]
    found = execution(cloud, send, ended)
    assert found["error"] == "SQS.AmazonSQSException"
    assert f"sqs:SendMessage on resource: {arn}" in found["cause"]
    allow(cloud, "machine", grant("lambda:InvokeFunction", function), grant("sqs:SendMessage", arn))
    assert [execution(cloud, m, ended)["status"] for m in (invoke, send)] == ["SUCCEEDED", "SUCCEEDED"]


def test_a_nested_execution_takes_the_managed_rule_and_is_stopped_with_its_parent(cloud: Cloud) -> None:
    waits = {"StartAt": "A", "States": {"A": {"Type": "Wait", "Seconds": 300, "End": True}}}
    child = machine(cloud, f"arn:aws:iam::{ACCOUNT}:role/test", waits)
    nested = task("states:startExecution.sync:2", {"StateMachineArn": child})
    children = child.replace(":stateMachine:", ":execution:") + ":*"
    rule = f"arn:aws:events:{REGION}:{ACCOUNT}:rule/StepFunctionsGetEventsForStepFunctionsExecutionRule"
    start = grant("states:StartExecution", child)
    rules = grant(["events:PutTargets", "events:PutRule", "events:DescribeRule"], rule)
    role = make_role(cloud, "parent", ["states.amazonaws.com"], start)
    with pytest.raises(ClientError, match=f"'{role}' is not authorized to create managed-rule"):
        machine(cloud, role, nested)
    allow(cloud, "parent", start, rules)
    parent = machine(cloud, role, nested)
    found = execution(cloud, parent, ended)
    assert "states:DescribeExecution" in found["cause"]
    watched = grant(["states:DescribeExecution", "states:StopExecution"], children)
    allow(cloud, "parent", start, rules, watched)
    for left in _running(cloud, child):
        # The first parent failed because it could not see its child, which so runs on.
        cloud.client("stepfunctions").stop_execution(executionArn=left["executionArn"])
    wait_for(lambda: not _running(cloud, child))
    running = execution(cloud, parent, lambda _: bool(_running(cloud, child)))
    cloud.client("stepfunctions").stop_execution(executionArn=running["executionArn"])
    wait_for(lambda: not _running(cloud, child))


def _running(cloud: Cloud, machine_arn: str) -> list[Any]:
    found = cloud.client("stepfunctions").list_executions(stateMachineArn=machine_arn, statusFilter="RUNNING")
    return list(found["executions"])


def test_a_task_token_is_a_right_on_the_machine_that_waits_for_it(cloud: Cloud) -> None:
    url, _ = queue(cloud, "tokens-of-users")
    body = {"token.$": "$$.Task.Token"}
    waiting = task("sqs:sendMessage.waitForTaskToken", {"QueueUrl": url, "MessageBody": body})
    arn = machine(cloud, f"arn:aws:iam::{ACCOUNT}:role/test", waiting)
    started = cloud.client("stepfunctions").start_execution(stateMachineArn=arn)["executionArn"]
    messages = wait_for(
        lambda: cloud.client("sqs").receive_message(QueueUrl=url, WaitTimeSeconds=1).get("Messages")
    )
    token = json.loads(messages[0]["Body"])["token"]
    user = User(cloud, grant("states:SendTaskSuccess", arn + "-other"))
    succeed = user.client("stepfunctions").send_task_success
    message = user.refused("states:SendTaskSuccess", succeed, taskToken=token, output="{}")
    assert f"on resource: {arn} because" in message
    user.may(grant("states:SendTaskSuccess", arn))
    succeed(taskToken=token, output="{}")
    states = cloud.client("stepfunctions")
    wait_for(lambda: states.describe_execution(executionArn=started)["status"] == "SUCCEEDED")


def test_a_session_is_held_to_its_role_and_its_session_policy(cloud: Cloud) -> None:
    user = User(cloud)
    trust = {"Effect": "Allow", "Principal": {"AWS": user.arn}, "Action": "sts:AssumeRole"}
    iam = cloud.client("iam")
    document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    role = iam.create_role(RoleName="assumed", AssumeRolePolicyDocument=document)["Role"]["Arn"]
    allow(cloud, "assumed", grant("sqs:*"))
    policy = json.dumps({"Version": "2012-10-17", "Statement": [grant("sqs:ListQueues")]})
    given = user.client("sts").assume_role(RoleArn=role, RoleSessionName="session", Policy=policy)[
        "Credentials"
    ]
    keys = (given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"])
    session = client_with(cloud, "sqs", *keys)
    session.list_queues()
    with pytest.raises(
        ClientError, match="assumed-role/assumed/session is not authorized to perform: sqs:CreateQueue"
    ):
        session.create_queue(QueueName="more")
    stranger = User(cloud, grant("s3:*"))
    assume = stranger.client("sts").assume_role
    stranger.refused("sts:AssumeRole", assume, RoleArn=role, RoleSessionName="session")


def test_a_role_that_trusts_only_a_service_is_assumed_by_nobody_else(cloud: Cloud) -> None:
    role = make_role(cloud, "of-a-service", LAMBDA, grant("sqs:*"))
    user = User(cloud, grant("sts:AssumeRole", role))
    assume = user.client("sts").assume_role
    user.refused("sts:AssumeRole", assume, RoleArn=role, RoleSessionName="session")
    account = {"Effect": "Allow", "Principal": {"AWS": ACCOUNT}, "Action": "sts:AssumeRole"}
    trust = json.dumps({"Version": "2012-10-17", "Statement": [account]})
    cloud.client("iam").update_assume_role_policy(RoleName="of-a-service", PolicyDocument=trust)
    assert assume(RoleArn=role, RoleSessionName="session")["Credentials"]


def test_the_signature_is_what_the_secret_makes_of_the_request() -> None:
    from isthmus_localcloud.iam.signatures import is_right, parse

    request = AWSRequest("GET", "https://a.example/v/x?b=2&a=1")
    SigV4Auth(Credentials("KEY", "secret"), "execute-api", REGION).add_auth(request)
    signature = parse(request.headers["Authorization"])
    assert signature is not None and hmac.compare_digest(signature.access_key, "KEY")
    headers = {"host": "a.example", "x-amz-date": request.headers["X-Amz-Date"]}
    url = "https://a.example/v/x?b=2&a=1"
    assert is_right(signature, "secret", "GET", url, headers, b"")
    assert not is_right(signature, "secret", "GET", url + "3", headers, b"")
    assert not is_right(signature, "secret", "POST", url, headers, b"")
    assert parse("AWS4-HMAC-SHA256 Credential=KEY") is None


# ------------------------------------------------------------------- training jobs, core devices


def test_a_training_job_reads_and_writes_with_its_role(cloud: Cloud) -> None:
    s3, sagemaker = cloud.client("s3"), cloud.client("sagemaker")
    s3.create_bucket(Bucket="of-a-job", CreateBucketConfiguration={"LocationConstraint": REGION})
    s3.put_object(Bucket="of-a-job", Key="data/a/x.txt", Body=b"hello")
    lists = grant("s3:ListBucket", "arn:aws:s3:::of-a-job")
    role = make_role(cloud, "training", ["sagemaker.amazonaws.com"], lists)

    def run(name: str) -> dict[str, Any]:
        channel = {"DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://of-a-job/data"}}}
        sagemaker.create_training_job(
            TrainingJobName=name,
            AlgorithmSpecification={"TrainingImage": "registry/train:1", "TrainingInputMode": "File"},
            InputDataConfig=[{"ChannelName": "train", **channel}],
            HyperParameters={"learning-rate": "0.1"},
            OutputDataConfig={"S3OutputPath": "s3://of-a-job/out/"},
            CheckpointConfig={"S3Uri": f"s3://of-a-job/checkpoints/{name}"},
            ResourceConfig={"InstanceCount": 1, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 5},
            RoleArn=role,
            StoppingCondition={"MaxRuntimeInSeconds": 60},
        )
        return wait_for(
            lambda: (
                found
                if (found := sagemaker.describe_training_job(TrainingJobName=name))["TrainingJobStatus"]
                in ("Completed", "Failed")
                else None
            )
        )

    found = run("refused")
    assert found["TrainingJobStatus"] == "Failed"
    assert "(403)" in found["FailureReason"], "a HEAD's refusal has no words"
    allow(cloud, "training", lists, grant(["s3:GetObject", "s3:PutObject"], "arn:aws:s3:::of-a-job/*"))
    assert run("allowed")["TrainingJobStatus"] == "Completed"


def test_a_core_device_fetches_artifacts_with_its_token_exchange_role(cloud: Cloud) -> None:
    cloud.client("s3").create_bucket(
        Bucket="artifacts", CreateBucketConfiguration={"LocationConstraint": REGION}
    )
    cloud.client("s3").put_object(Bucket="artifacts", Key="a/file.txt", Body=b"here")
    role = make_role(cloud, "device", ["credentials.iot.amazonaws.com"], grant("logs:*"))
    greengrass = cloud.client("greengrassv2")
    recipe = {
        "RecipeFormatVersion": "2020-01-25",
        "ComponentName": "guarded.file",
        "ComponentVersion": "1.0.0",
        "Manifests": [{"Platform": {"os": "*"}, "Artifacts": [{"Uri": "s3://artifacts/a/file.txt"}]}],
    }
    greengrass.create_component_version(inlineRecipe=json.dumps(recipe).encode())
    cloud.cli("edge", "start", "guarded-core", "--role", role)
    target = f"arn:aws:iot:{REGION}:{ACCOUNT}:thing/guarded-core"

    def deploy() -> dict[str, Any]:
        made = greengrass.create_deployment(
            targetArn=target, components={"guarded.file": {"componentVersion": "1.0.0"}}
        )["deploymentId"]

        def ended() -> dict[str, Any] | None:
            name = {"coreDeviceThingName": "guarded-core"}
            found = greengrass.list_effective_deployments(**name)["effectiveDeployments"]
            return next(
                (
                    dict(entry)
                    for entry in found
                    if entry["deploymentId"] == made
                    and entry["coreDeviceExecutionStatus"] not in ("QUEUED", "IN_PROGRESS")
                ),
                None,
            )

        return wait_for(ended)

    found = deploy()
    assert found["coreDeviceExecutionStatus"] == "FAILED"
    assert "assumed-role/device/core-device is not authorized to perform: s3:GetObject" in found["reason"]
    allow(cloud, "device", grant("s3:GetObject", "arn:aws:s3:::artifacts/*"))
    assert deploy()["coreDeviceExecutionStatus"] == "COMPLETED"
    cloud.cli("edge", "stop", "guarded-core")
