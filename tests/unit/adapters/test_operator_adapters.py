"""The operator's adapters: requests that moto cannot answer, held to boto3's own models."""

from __future__ import annotations

import datetime
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from botocore.stub import Stubber

from isthmus.adapters.aws.functions import LambdaFunctions
from isthmus.adapters.aws.operator.account import AwsAccount
from isthmus.adapters.aws.operator.actions import ACTIONS
from isthmus.adapters.aws.operator.edge import Components, Deployments
from isthmus.adapters.aws.operator.estate import AwsEstate
from isthmus.adapters.aws.operator.home import Home
from isthmus.adapters.aws.operator.registry import ModelPackages
from isthmus.adapters.aws.operator.releases import published_releases
from isthmus.adapters.aws.rigs import create_queue
from isthmus.adapters.aws.session import client
from isthmus.adapters.local.queue import ManualClock
from isthmus.errors import NotChecked, OtherStack, PermissionMissing
from isthmus.model import layout
from isthmus.model.inventory import Thing
from isthmus.planning.collection import FunctionVersion
from isthmus.ports import FunctionCode
from isthmus.workflows.examine_account import Caller

ACCOUNT = "123456789012"
TARGET = f"arn:aws:iot:eu-west-1:{ACCOUNT}:thinggroup/shop-cores"
COMPONENTS = f"arn:aws:greengrass:eu-west-1:{ACCOUNT}:components"
LAMBDA = f"arn:aws:lambda:eu-west-1:{ACCOUNT}"
WHEN = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


@contextmanager
def answers(service: str) -> Iterator[Stubber]:
    """Let the process's one client answer from a script; each scripted answer must be used."""
    with Stubber(client(service)) as stub:
        yield stub
        stub.assert_no_pending_responses()


class Here(Home):
    """A home whose account needs no call."""

    @property
    def account(self) -> str:
        return ACCOUNT

    @property
    def region(self) -> str:
        return "eu-west-1"

    def arn(self, service: str, resource: str) -> str:
        return f"arn:aws:{service}:eu-west-1:{ACCOUNT}:{resource}"


def silent(line: str) -> None:
    return


# ------------------------------------------------------------------------------------------- edge


def deployment(identity: str, status: str) -> dict[str, Any]:
    return {"deploymentId": identity, "deploymentStatus": status, "targetArn": TARGET}


def test_every_revision_of_the_groups_deployments_is_found_and_only_the_groups() -> None:
    with answers("greengrassv2") as stub:
        stub.add_response(
            "list_deployments",
            {"deployments": [deployment("a", "ACTIVE"), deployment("b", "INACTIVE")]},
            {"targetArn": TARGET, "historyFilter": "ALL"},
        )
        stub.add_response(
            "list_deployments",
            {"deployments": [deployment("c", "CANCELED")]},
            {"parentTargetArn": TARGET, "historyFilter": "ALL"},
        )
        canaries = TARGET.replace("-cores", "-canaries")
        for name, found in (("targetArn", [deployment("d", "INACTIVE")]), ("parentTargetArn", [])):
            stub.add_response(
                "list_deployments", {"deployments": found}, {name: canaries, "historyFilter": "ALL"}
            )
        things = Deployments(Here("shop"), ManualClock()).find()
    assert [(thing.id, thing.note) for thing in things] == [
        ("a", "ACTIVE"),
        ("b", "INACTIVE"),
        ("c", "CANCELED"),
        ("d", "INACTIVE"),
    ]


def test_an_active_deployment_is_cancelled_first_and_throttling_is_waited_for() -> None:
    said: list[str] = []
    clock = ManualClock()
    began = clock.now()
    with answers("greengrassv2") as stub:
        stub.add_response("cancel_deployment", {"message": "ok"}, {"deploymentId": "a"})
        stub.add_client_error("delete_deployment", "ThrottlingException", http_status_code=429)
        stub.add_client_error("cancel_deployment", "ConflictException", http_status_code=409)
        stub.add_response("delete_deployment", {}, {"deploymentId": "a"})
        Deployments(Here("shop"), clock).remove(Thing(id="a", name="a", note="ACTIVE"), said.append)
    assert clock.now() > began
    assert len(said) == 1


def test_a_deployment_that_is_gone_is_removed() -> None:
    with answers("greengrassv2") as stub:
        stub.add_client_error("delete_deployment", "ResourceNotFoundException", http_status_code=404)
        thing = Thing(id="a", name="a", note="CANCELED")
        Deployments(Here("shop"), ManualClock()).remove(thing, silent)


def component(name: str) -> dict[str, Any]:
    arn = f"{COMPONENTS}:{name}"
    latest = {"arn": f"{arn}:versions:1.0.0", "componentVersion": "1.0.0"}
    return {"arn": arn, "componentName": name, "latestVersion": latest}


def test_components_are_told_apart_by_their_names_first_part_and_by_their_tag() -> None:
    names = ("shop.pear.model", "shop.plum.model", "shop-b.pear.model", "shop.tool", "aws.greengrass.Cli")
    with answers("greengrassv2") as stub:
        stub.add_response(
            "list_components", {"components": [component(name) for name in names]}, {"scope": "PRIVATE"}
        )
        for name, owner in (("shop.pear.model", "shop"), ("shop.plum.model", "another")):
            stub.add_response(
                "list_tags_for_resource",
                {"tags": {layout.STACK_TAG: owner}},
                {"resourceArn": f"{COMPONENTS}:{name}:versions:1.0.0"},
            )
            if owner == "shop":
                stub.add_response("list_component_versions", {"componentVersions": [{}, {}]})
        (thing,) = Components(Here("shop")).find()
    assert (thing.name, thing.items) == ("shop.pear.model", 2)


def test_a_component_goes_with_all_its_versions() -> None:
    arn = f"{COMPONENTS}:shop.pear.model"
    versions = [{"arn": f"{arn}:versions:{number}.0.0"} for number in (2, 1)]
    with answers("greengrassv2") as stub:
        stub.add_response("list_component_versions", {"componentVersions": versions}, {"arn": arn})
        for version in versions:
            stub.add_response("delete_component", {}, version)
        Components(Here("shop")).remove(Thing(id=arn, name="shop.pear.model"), silent)


# --------------------------------------------------------------------------------------- registry


def test_a_model_group_is_emptied_before_it_is_deleted() -> None:
    arn = f"arn:aws:sagemaker:eu-west-1:{ACCOUNT}:model-package/shop-models/1"
    package = {"ModelPackageArn": arn, "CreationTime": WHEN, "ModelPackageStatus": "Completed"}
    with answers("sagemaker") as stub:
        stub.add_response(
            "list_model_packages",
            {"ModelPackageSummaryList": [package]},
            {"ModelPackageGroupName": "shop-models"},
        )
        stub.add_response("delete_model_package", {}, {"ModelPackageName": arn})
        stub.add_response("delete_model_package_group", {}, {"ModelPackageGroupName": "shop-models"})
        ModelPackages(Here("shop")).remove(Thing(id="shop-models", name="shop-models"), silent)


# ------------------------------------------------------------------------------- whose a thing is


def test_a_rigs_queue_is_tagged_also_when_it_was_there_before() -> None:
    with answers("sqs") as stub:
        stub.add_response("create_queue", {"QueueUrl": "https://q"})
        stub.add_response("tag_queue", {}, {"QueueUrl": "https://q", "Tags": {layout.STACK_TAG: "shop"}})
        assert create_queue("shop-rig-r", "shop", "key", "dead") == "https://q"


def staged_on(owner: dict[str, str]) -> Stubber:
    stub = Stubber(client("lambda"))
    arn = f"{LAMBDA}:function:shop-model-pear"
    version = {"FunctionArn": f"{arn}:$LATEST", "Version": "$LATEST"}
    for _ in range(2):
        stub.add_response("list_versions_by_function", {"Versions": [version]})
    stub.add_response("list_tags", {"Tags": owner}, {"Resource": arn})
    return stub


@pytest.fixture
def pattern() -> Iterator[FunctionCode]:
    """A pattern whose code is at an address that answers."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield FunctionCode(f"http://127.0.0.1:{server.server_port}/code.zip", "sha", (), {}, "shop")
    server.shutdown()
    server.server_close()


def test_a_function_of_another_stack_is_not_taken_over(pattern: FunctionCode) -> None:
    with staged_on({layout.STACK_TAG: "shop-model-x"}) as stub:
        with pytest.raises(OtherStack, match=r"shop-model-pear belongs to the stack shop-model-x, not shop"):
            LambdaFunctions("data").stage("shop-model-pear", pattern, (), "m")
        stub.assert_no_pending_responses()


def test_a_function_of_an_earlier_version_gets_its_tag(pattern: FunctionCode) -> None:
    arn = f"{LAMBDA}:function:shop-model-pear"
    with staged_on({}) as stub:
        stub.add_response("tag_resource", {}, {"Resource": arn, "Tags": {layout.STACK_TAG: "shop"}})
        stub.add_client_error("update_function_code", "AccessDeniedException", http_status_code=403)
        with pytest.raises(PermissionMissing):
            LambdaFunctions("data").stage("shop-model-pear", pattern, (), "m")
        stub.assert_no_pending_responses()


# ----------------------------------------------------------------------------------------- estate


def test_what_refers_to_components_is_what_is_deployed_and_what_is_installed() -> None:
    entries = [
        {**deployment("now", "ACTIVE"), "isLatestForTarget": True},
        {**deployment("last", "CANCELED"), "isLatestForTarget": True},
        {**deployment("old", "INACTIVE"), "isLatestForTarget": False},
    ]
    with answers("greengrassv2") as stub, answers("lambda") as functions, answers("s3") as s3:
        functions.add_response("list_functions", {"Functions": []}, {"FunctionVersion": "ALL"})
        functions.add_response("list_functions", {"Functions": []})
        functions.add_response("list_functions", {"Functions": []})
        s3.add_response("list_objects_v2", {})
        for name in layout.TEMPLATE_LAYERS:
            functions.add_response(
                "list_layer_versions", {"LayerVersions": []}, {"LayerName": f"shop-{name}"}
            )
        stub.add_response("list_components", {"components": []}, {"scope": "PRIVATE"})
        stub.add_response("list_deployments", {"deployments": entries}, {"historyFilter": "ALL"})
        for number, identity in enumerate(("now", "last"), 1):
            wished = {"components": {"shop.pear.model": {"componentVersion": f"{number}.0.0"}}}
            stub.add_response("get_deployment", wished, {"deploymentId": identity})
        stub.add_response("list_core_devices", {"coreDevices": [{"coreDeviceThingName": "core"}]})
        stub.add_response(
            "list_installed_components",
            {"installedComponents": [{"componentName": "shop.pear.model", "componentVersion": "7.0.0"}]},
            {"coreDeviceThingName": "core", "topologyFilter": "ALL"},
        )
        with answers("cloudformation") as formation:
            for _ in range(2):
                formation.add_response(
                    "list_stack_resources", {"StackResourceSummaries": []}, {"StackName": "shop"}
                )
            held = AwsEstate(Here("shop")).holdings([])
    assert held.named_components == {("shop.pear.model", f"{number}.0.0") for number in (1, 2, 7)}


def test_a_releases_name_goes_with_its_version_and_no_other_name_does() -> None:
    function, number = "shop-model-pear", "4"
    aliases = [
        {"Name": "release-4", "FunctionVersion": number},
        {"Name": "release-5", "FunctionVersion": "5"},
        {"Name": "mine", "FunctionVersion": number},
    ]
    with answers("lambda") as stub:
        stub.add_response("list_aliases", {"Aliases": aliases}, {"FunctionName": function})
        stub.add_response("delete_alias", {}, {"FunctionName": function, "Name": "release-4"})
        stub.add_response("delete_function", {}, {"FunctionName": function, "Qualifier": number})
        AwsEstate(Here("shop")).remove_function(FunctionVersion(function, 4))


def test_the_releases_that_can_be_asked_for_are_their_aliases() -> None:
    names = ["live", "release-10", "release-2", "release-x"]
    aliases = [{"Name": name, "FunctionVersion": "1"} for name in names]
    with answers("lambda") as stub:
        stub.add_response("list_aliases", {"Aliases": aliases}, {"FunctionName": "shop-model-pear"})
        assert published_releases("shop-model-pear") == [2, 10]


# ---------------------------------------------------------------------------------------- account


def test_the_region_and_its_services_need_no_call(monkeypatch: pytest.MonkeyPatch) -> None:
    assert AwsAccount().region() == "eu-west-1"
    assert AwsAccount().absent_services("eu-west-1") == []
    assert "greengrassv2" in AwsAccount().absent_services("me-south-1")


def test_the_clock_is_compared_with_the_answers_date() -> None:
    answer = {"Account": ACCOUNT, "Arn": f"arn:aws:iam::{ACCOUNT}:user/ada", "UserId": "u"}
    headers = {"HTTPHeaders": {"date": "Thu, 01 Jan 2026 00:00:00 GMT"}, "HTTPStatusCode": 200}
    with answers("sts") as stub:
        stub.add_response("get_caller_identity", {**answer, "ResponseMetadata": headers})
        caller = AwsAccount().caller()
    assert (caller.account, caller.arn) == (ACCOUNT, answer["Arn"])
    assert caller.skew_seconds > 3600


def test_lambda_says_what_it_grants_and_what_is_used() -> None:
    with answers("lambda") as stub:
        stub.add_response(
            "get_account_settings",
            {
                "AccountLimit": {"TotalCodeSize": 80530636800, "ConcurrentExecutions": 10},
                "AccountUsage": {"TotalCodeSize": 5, "FunctionCount": 1},
            },
        )
        limits = AwsAccount().lambda_limits()
    assert (limits.concurrency, limits.used_bytes, limits.limit_bytes) == (10, 5, 75 << 30)


def test_only_training_quotas_count() -> None:
    quotas = {
        "ml.g5.xlarge for training job usage": 1.0,
        "ml.g5.xlarge for spot training job usage": 2.0,
        "ml.g5.xlarge for endpoint usage": 3.0,
    }
    entries = [{"QuotaName": name, "Value": value} for name, value in quotas.items()]
    with answers("service-quotas") as stub:
        stub.add_response("list_service_quotas", {"Quotas": entries}, {"ServiceCode": "sagemaker"})
        assert AwsAccount().training_quotas() == {"ml.g5.xlarge": 1.0}


def test_a_sessions_permissions_are_its_roles() -> None:
    role = f"arn:aws:iam::{ACCOUNT}:role/team/deployer"
    made = {"Path": "/team/", "RoleName": "deployer", "RoleId": "A" * 16, "Arn": role, "CreateDate": WHEN}
    with answers("iam") as stub:
        stub.add_response("get_role", {"Role": made}, {"RoleName": "deployer"})
        for resource, actions in ACTIONS.items():
            place = resource.format(region="eu-west-1", account=ACCOUNT, stack="shop")
            results = [
                {
                    "EvalActionName": action,
                    "EvalDecision": "implicitDeny" if action == "kms:CreateKey" else "allowed",
                }
                for action in actions
            ]
            stub.add_response(
                "simulate_principal_policy",
                {"EvaluationResults": results},
                {
                    "PolicySourceArn": role,
                    "ActionNames": list(actions),
                    "ResourceArns": ["*" if place == "*" else f"arn:aws:{place}"],
                },
            )
        arn = f"arn:aws:sts::{ACCOUNT}:assumed-role/deployer/session"
        assert AwsAccount().refused_actions(Caller(ACCOUNT, arn, 0.0), "shop") == ["kms:CreateKey"]


def test_whoever_may_not_simulate_is_told_so() -> None:
    with answers("iam") as stub:
        stub.add_client_error("simulate_principal_policy", "AccessDenied", "not authorized", 403)
        user = Caller(ACCOUNT, f"arn:aws:iam::{ACCOUNT}:user/ada", 0.0)
        with pytest.raises(PermissionMissing, match="not authorized"):
            AwsAccount().refused_actions(user, "shop")


def test_what_else_iam_refuses_is_a_check_that_could_not_be_made() -> None:
    with answers("iam") as stub:
        stub.add_client_error("simulate_principal_policy", "NoSuchEntity", "no such user", 404)
        user = Caller(ACCOUNT, f"arn:aws:iam::{ACCOUNT}:user/ada", 0.0)
        with pytest.raises(NotChecked, match="IAM refused: no such user"):
            AwsAccount().refused_actions(user, "shop")
    federated = f"arn:aws:sts::{ACCOUNT}:federated-user/ada"
    with pytest.raises(NotChecked, match="IAM simulates no federated-user"):
        AwsAccount().refused_actions(Caller(ACCOUNT, federated, 0.0), "shop")


def test_the_root_user_may_do_everything() -> None:
    assert AwsAccount().refused_actions(Caller(ACCOUNT, f"arn:aws:iam::{ACCOUNT}:root", 0.0), "shop") == []
