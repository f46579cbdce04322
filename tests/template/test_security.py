"""Encryption, least privilege and the absence of what only a test or one machine would need."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
from cloudformation import ROOT, Template, functions, listed, resources, statements

from benchmarks.idle_cost import resources_of
from isthmus.model import layout
from isthmus.model.results import RESULTS_PATH

DATA_KEY = {"Fn::GetAtt": ["DataKey", "Arn"]}

RESOURCE_STAR = {
    "greengrass:": "components and deployments get their names and ids only when they are made",
    "cloudwatch:PutMetricData": "metrics have no ARN; the namespace is a condition",
    "cloudwatch:GetMetricData": "CloudWatch knows no resource and no condition for it",
    "ecr:GetAuthorizationToken": "a token is for all of a registry; what it may pull, other actions say",
    "iot:": "a Greengrass deployment is an IoT job on the caller's behalf; its id is not known before",
}
"""Prefixes of actions that a statement may allow on ``*``, each with its reason."""


def test_the_bucket_is_encrypted_private_versioned_and_tls_only(template: Template) -> None:
    bucket = resources(template, "AWS::S3::Bucket")["Bucket"]
    rule = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"][0]["ServerSideEncryptionByDefault"]
    assert rule == {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": DATA_KEY}
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert bucket["VersioningConfiguration"]["Status"] == "Enabled"
    policy = resources(template, "AWS::S3::BucketPolicy")["BucketPolicy"]["PolicyDocument"]["Statement"]
    assert any(
        entry["Effect"] == "Deny" and entry.get("Condition") == {"Bool": {"aws:SecureTransport": "false"}}
        for entry in policy
    )


def test_the_bucket_takes_no_file_of_a_pinned_dataset_from_anybody(template: Template) -> None:
    policy = resources(template, "AWS::S3::BucketPolicy")["BucketPolicy"]["PolicyDocument"]["Statement"]
    (pinned,) = [entry for entry in policy if entry["Sid"] == "PinnedStaysOut"]
    assert (pinned["Effect"], pinned["Principal"], "Condition" in pinned) == ("Deny", "*", False)
    folder = layout.dataset_folder(f"{layout.PINNED}wards")
    kept_out = [entry["Fn::Sub"].removeprefix("${Bucket.Arn}/") for entry in pinned["Resource"]]
    digest = "0" * 64
    keys = [folder + layout.blob_path(digest), layout.pack_key(f"{layout.PINNED}wards", digest)]
    assert all(any(fnmatchcase(key, pattern) for pattern in kept_out) for key in keys)
    manifest = layout.manifest_key(f"{layout.PINNED}wards", digest)
    assert not any(fnmatchcase(manifest, pattern) for pattern in kept_out)


def test_queues_and_table_are_encrypted_with_the_stacks_key(template: Template) -> None:
    queues = resources(template, "AWS::SQS::Queue")
    assert queues
    assert all(queue["KmsMasterKeyId"] == DATA_KEY for queue in queues.values())
    (table,) = resources(template, "AWS::DynamoDB::Table").values()
    assert table["SSESpecification"] == {"SSEEnabled": True, "SSEType": "KMS", "KMSMasterKeyId": DATA_KEY}


def test_keys_rotate_and_the_signing_key_only_signs(template: Template) -> None:
    keys = resources(template, "AWS::KMS::Key")
    assert keys["DataKey"]["EnableKeyRotation"] is True
    assert keys["SigningKey"]["KeySpec"] == "ECC_NIST_P256"
    assert keys["SigningKey"]["KeyUsage"] == "SIGN_VERIFY"


SURVIVORS = {
    "DataKey": "without it the kept bucket and table are noise",
    "SigningKey": "devices know the stack by it",
    "Bucket": "data",
    "BucketPolicy": "a kept bucket stays TLS-only",
    "Table": "data",
    "LogGroup": "why a stack failed or went",
    "ModelGroup": "the record of every release",
}


@pytest.mark.parametrize("name", SURVIVORS)
def test_what_holds_data_or_an_identity_survives_the_stack(template: Template, name: str) -> None:
    entry = template["Resources"][name]
    assert (entry["DeletionPolicy"], entry["UpdateReplacePolicy"]) == ("RetainExceptOnCreate", "Retain")


def test_nothing_else_survives_but_layers_whose_versions_functions_name(template: Template) -> None:
    """A resource that outlives its stack without `isthmus destroy` knowing it would be left for ever."""
    kept = {name for name, entry in template["Resources"].items() if "DeletionPolicy" in entry}
    assert kept == set(SURVIVORS)
    layers = resources(template, "AWS::Serverless::LayerVersion")
    assert {layer["RetentionPolicy"] for layer in layers.values()} == {"Retain"}


TAGGED = {"AWS::KMS::Key", "AWS::S3::Bucket", "AWS::DynamoDB::Table", "AWS::Logs::LogGroup"}
TAGGED |= {"AWS::SageMaker::ModelPackageGroup"}


def test_what_survives_says_whose_it_is(template: Template) -> None:
    tag = {"Key": layout.STACK_TAG, "Value": {"Ref": "AWS::StackName"}}
    for name in SURVIVORS:
        entry = template["Resources"][name]
        assert entry["Type"] not in TAGGED or tag in entry["Properties"]["Tags"], name


def test_destroy_looks_for_the_names_that_the_template_gives(template: Template) -> None:
    stack = "${AWS::StackName}"
    layers = resources(template, "AWS::Serverless::LayerVersion").values()
    assert {layer["LayerName"]["Fn::Sub"] for layer in layers} == {
        f"{stack}-{name}" for name in layout.TEMPLATE_LAYERS
    }
    keys = resources(template, "AWS::KMS::Key")
    assert {name: key["Description"]["Fn::Sub"] for name, key in keys.items()} == layout.key_descriptions(
        stack
    )
    (group,) = resources(template, "AWS::SageMaker::ModelPackageGroup").values()
    assert group["ModelPackageGroupName"] == {"Fn::Sub": layout.model_group(stack)}
    groups = resources(template, "AWS::IoT::ThingGroup")
    assert {group["ThingGroupName"]["Fn::Sub"] for group in groups.values()} == {
        layout.core_group(stack),
        layout.canary_group(stack),
    }
    (bucket,) = resources(template, "AWS::S3::Bucket").values()
    place = "${AWS::AccountId}", "${AWS::Region}"
    assert bucket["BucketName"] == {"Fn::Sub": layout.bucket_name(stack, *place)}
    logs = [group["LogGroupName"] for group in resources(template, "AWS::Logs::LogGroup").values()]
    assert logs == [{"Fn::Sub": layout.log_group(stack)}]
    machines = resources(template, "AWS::Serverless::StateMachine").values()
    assert {machine["Name"]["Fn::Sub"] for machine in machines} == set(layout.machines(stack))


def test_the_api_needs_iam_authorization(template: Template) -> None:
    (api,) = resources(template, "AWS::Serverless::Api").values()
    assert api["Auth"]["DefaultAuthorizer"] == {"Ref": "ApiAuthorizer"}
    parameter = template["Parameters"]["ApiAuthorizer"]
    assert parameter["Default"] == "AWS_IAM"
    assert set(parameter["AllowedValues"]) == {"AWS_IAM", *api["Auth"]["Authorizers"]}, "never nobody"
    events = [
        event
        for properties in functions(template).values()
        for event in properties.get("Events", {}).values()
        if event["Type"] == "Api"
    ]
    assert len(events) == 2
    (others,) = [event["Properties"] for event in events if "Auth" in event["Properties"]]
    assert (others["Path"], others["Method"]) == ("/results/{device}", "POST")
    assert others["Auth"] == {"Authorizer": "AWS_IAM", "InvokeRole": "NONE"}, "no route opts out"


def test_no_action_is_a_wildcard(template: Template) -> None:
    found = list(statements(template))
    assert found
    for name, statement in found:
        assert statement["Effect"] == "Allow", name
        for action in listed(statement["Action"]):
            assert "*" not in action, f"{name} may do {action}"


def test_only_what_cannot_be_named_is_allowed_on_everything(template: Template) -> None:
    for name, statement in statements(template):
        if "*" in listed(statement["Resource"]):
            for action in listed(statement["Action"]):
                assert action.startswith(tuple(RESOURCE_STAR)), f"{name} may do {action} to everything"


def test_only_packaging_and_the_way_back_at_the_edge_sign(template: Template) -> None:
    signers = {name for name, entry in statements(template) if "kms:Sign" in listed(entry["Action"])}
    assert signers == {"PackageModelFunction", "DeployEdgeFunction"}


def test_each_role_is_passed_to_one_service_alone(template: Template) -> None:
    passing = {
        name: entry for name, entry in statements(template) if "iam:PassRole" in listed(entry["Action"])
    }
    assert set(passing) == {"DeployCloudFunction", "TrainAndDeployMachine"}
    for name, service, roles in (
        ("DeployCloudFunction", "lambda", ("ServeModelFunctionRole", "ServeWeightsFunctionRole")),
        ("TrainAndDeployMachine", "sagemaker", ("SageMakerRole",)),
    ):
        assert listed(passing[name]["Resource"]) == [{"Fn::GetAtt": [role, "Arn"]} for role in roles]
        assert passing[name]["Condition"] == {
            "StringEquals": {"iam:PassedToService": f"{service}.amazonaws.com"}
        }


def test_every_function_that_reads_the_bucket_or_table_may_decrypt(template: Template) -> None:
    uses: dict[str, set[str]] = {}
    for name, statement in statements(template):
        uses.setdefault(name, set()).update(listed(statement["Action"]))
    for name, actions in uses.items():
        if any(action.startswith(("s3:", "dynamodb:")) for action in actions):
            assert "kms:Decrypt" in actions, name
        if "s3:PutObject" in actions:
            assert "kms:GenerateDataKey" in actions, name


def test_who_serves_has_no_rights_at_all(template: Template) -> None:
    served = functions(template)
    assert "Policies" not in served["ServeModelFunction"]
    assert "Policies" not in served["AuthorizeRequestFunction"]
    assert "Policies" not in served["EdgeInferFunction"]


def service_principals(template: Template) -> set[str]:
    key = resources(template, "AWS::KMS::Key")["DataKey"]["KeyPolicy"]["Statement"]
    allowed: set[str] = set()
    for entry in key:
        allowed.update(listed(entry["Principal"].get("Service", [])))
    return allowed


def test_eventbridge_may_use_the_key_of_its_dead_letter_queue(template: Template) -> None:
    """A queue with a customer-managed key takes EventBridge's messages only if the key's policy says so."""
    assert "events.amazonaws.com" in service_principals(template)


def test_alarms_may_use_the_key_of_their_topic(template: Template) -> None:
    """An encrypted topic takes CloudWatch's messages only if the key's policy says so."""
    assert "cloudwatch.amazonaws.com" in service_principals(template)


# ------------------------------------------------------------------------------------ product code

PRODUCT = ("src/isthmus", "functions", "edge_lambda", "layers", "statemachines", "template.yaml")
SHIPPED_FAKES = "src/isthmus/adapters/local/"
FORBIDDEN: dict[str, tuple[str, dict[str, str]]] = {
    "an endpoint": (
        r"localhost|127\.0\.0\.1|\b4566\b|endpoint_url\s*=|https?://[a-z0-9.-]*:\d+",
        {
            "src/isthmus/edge/server.py": "the edge core listens on loopback alone",
            "src/isthmus/inference/web_pages.py": "it and the proxy answer under this machine's own names alone",
            "src/isthmus/cli/proxy.py": "and listens on loopback alone",
            "src/isthmus/cli/edge.py": "as a core device does",
            "src/isthmus/bootstrap_together.py": "a job's workers meet on loopback alone",
            "src/isthmus/cli/slice_serve.py": "unless it is told another address, and then only with TLS",
            "src/isthmus/transport/reach.py": "tells what stays on this machine",
            "src/isthmus/client/settings.py": "a token may go to this machine without TLS",
        },
    ),
    "the local cloud": (
        r"localstack|localemu|moto\b|isthmus_localcloud|ISTHMUS_LOCALCLOUD|is_local|IS_LOCAL",
        {"src/isthmus/cli/local.py": "hands `isthmus local` over to the project in localcloud/"},
    ),
    "a test double": (r"adapters\.local|unittest|pytest|\bmock\b|Memory(Records|Queue|Tasks)", {}),
    "an override of the endpoint": (
        r"AWS_ENDPOINT_URL",
        {
            "src/isthmus/adapters/aws/signing.py": "boto3's own variable, for a request that boto3 does not send"
        },
    ),
}


def product_files() -> Iterator[Path]:
    for name in PRODUCT:
        path = ROOT / name
        for file in [path] if path.is_file() else sorted(path.rglob("*")):
            if file.is_file() and file.suffix in (".py", ".json", ".yaml", ".txt", ".mk", ".toml", ""):
                yield file


@pytest.mark.parametrize("what", FORBIDDEN)
def test_product_code_holds_none_of(what: str) -> None:
    pattern, allowed = FORBIDDEN[what]
    found: dict[str, list[str]] = {}
    for file in product_files():
        name = file.relative_to(ROOT).as_posix()
        if name.startswith(SHIPPED_FAKES) or "__pycache__" in name:
            continue
        lines = [line for line in file.read_text(errors="replace").splitlines() if re.search(pattern, line)]
        if lines:
            found[name] = lines
    assert set(found) == set(allowed), found


def test_the_template_has_no_inline_code(template: Template) -> None:
    for name, properties in functions(template).items():
        assert "InlineCode" not in properties, name
    for name, machine in resources(template, "AWS::Serverless::StateMachine").items():
        assert "Definition" not in machine, name


def parameter_defaults(template: Template) -> dict[str, Any]:
    return {name: entry.get("Default") for name, entry in template["Parameters"].items()}


def test_a_deploy_needs_no_parameter(template: Template) -> None:
    assert None not in parameter_defaults(template).values()


# ------------------------------------------------------------------------------ who may call the API


def methods(template: Template, **parameters: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what the methods of each path demand, and its ways to prove it, as SAM writes them out."""
    chosen = copy.deepcopy(template)
    for name, value in parameters.items():
        chosen["Parameters"][name]["Default"] = value
    body = resources_of(chosen)["Api"]["Properties"]["Body"]
    demands = {
        path: [method["security"] for method in found.values()] for path, found in body["paths"].items()
    }
    return demands, body["securityDefinitions"]


@pytest.mark.parametrize("authorizer", ["AWS_IAM", "JwtAuthorizer"])
@pytest.mark.parametrize(("keys", "more"), [("", []), ("required", [{"api_key": []}])])
def test_every_method_demands_what_the_stack_says(
    template: Template, authorizer: str, keys: str, more: list[Any]
) -> None:
    demands, ways = methods(template, ApiAuthorizer=authorizer, ApiKeys=keys)
    assert demands["/{proxy+}"] == [[{authorizer: []}, *more]]
    assert demands["/results/{device}"] == [[{"AWS_IAM": []}, *more]], "a device is known by its role alone"
    assert set(demands) == {"/{proxy+}", "/results/{device}"}
    assert {authorizer, "AWS_IAM"} <= set(ways)


def test_a_device_may_send_results_under_its_own_name_alone(template: Template) -> None:
    """The gateway lets a request in by the path that it asks for, and the function takes the name from there."""
    own = "${Api}/v/POST" + RESULTS_PATH + "${!credentials-iot:ThingName}"
    place = "arn:${AWS::Partition}:execute-api:${AWS::Region}:${AWS::AccountId}"
    found = [
        (name, statement)
        for name, statement in statements(template)
        if "execute-api:Invoke" in listed(statement["Action"])
    ]
    assert {name for name, _ in found} == {"CoreRole", "CoreDevicePolicy"}
    assert all(statement["Resource"] == {"Fn::Sub": f"{place}:{own}"} for _, statement in found)


def test_the_authorizer_is_asked_about_every_token_again_within_a_minute(template: Template) -> None:
    _, ways = methods(template, ApiAuthorizer="JwtAuthorizer")
    asked = ways["JwtAuthorizer"]["x-amazon-apigateway-authorizer"]
    assert asked["type"] == "token"
    assert asked["authorizerResultTtlInSeconds"] <= 60
    expression = re.compile(asked["identityValidationExpression"])
    assert expression.fullmatch("Bearer aaa.bbb.ccc-_")
    for text in ("Bearer", "Bearer a.b", "Basic a.b.c", "Bearer a.b.c d", "Bearer a.b.c\n"):
        assert not expression.fullmatch(text)


def test_what_the_gateway_refuses_by_itself_has_the_protocols_form(template: Template) -> None:
    (api,) = resources(template, "AWS::Serverless::Api").values()
    said = api["GatewayResponses"]
    assert {"DEFAULT_4XX", "DEFAULT_5XX", "THROTTLED"} <= set(said)
    for kind, response in said.items():
        text = response["ResponseTemplates"]["application/json"]
        assert list(json.loads(text.replace("$context.error.messageString", '"m"'))) == ["error"], kind


def test_bodies_that_were_handed_over_are_removed_after_a_day(template: Template) -> None:
    (bucket,) = resources(template, "AWS::S3::Bucket").values()
    rules = bucket["LifecycleConfiguration"]["Rules"]
    (rule,) = [rule for rule in rules if rule.get("Prefix") == layout.HANDOVER]
    assert (rule["Status"], rule["ExpirationInDays"]) == ("Enabled", 1)
    assert rule["NoncurrentVersionExpiration"] == {"NoncurrentDays": 1}
