"""Each kind of thing that a stack has: its own is found and removed, its neighbours' never.

The neighbours are ``shop-b`` and ``shop-model-x``: the first has ``shop-`` as a prefix, the second even
``shop-model-``. Greengrass is missing here, for moto has none: tests/unit/adapters holds its requests to
boto3's models, and the local cloud answers them end to end.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse

from isthmus.adapters.aws.operator.bucket import BucketItself, BucketObjects
from isthmus.adapters.aws.operator.executions import RunningExecutions
from isthmus.adapters.aws.operator.formation import StackItself
from isthmus.adapters.aws.operator.functions import Layers, ModelFunctions
from isthmus.adapters.aws.operator.home import Home
from isthmus.adapters.aws.operator.keys import Keys
from isthmus.adapters.aws.operator.logs import LogGroups
from isthmus.adapters.aws.operator.policies import PolicyAttachments
from isthmus.adapters.aws.operator.queues import RigQueues
from isthmus.adapters.aws.operator.registry import ModelPackages
from isthmus.adapters.aws.operator.table import Tables
from isthmus.adapters.aws.session import client
from isthmus.adapters.local.belongings import MemoryBelongings
from isthmus.adapters.local.queue import ManualClock
from isthmus.errors import ForeignStack, PermissionMissing, StackNotDeleted
from isthmus.model import layout
from isthmus.model.inventory import Thing
from isthmus.ports import Belongings
from tests.contract.formation import ACCOUNT, REGION, Formation, outputs_of

STACKS = ("shop", "shop-b", "shop-model-x")


def archive() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as out:
        out.writestr("app.py", "def handler(event, context):\n    return event\n")
    return stream.getvalue()


def tags(stack: str) -> list[dict[str, str]]:
    return [{"Key": layout.STACK_TAG, "Value": stack}]


def make_function(stack: str) -> None:
    document = json.dumps({"Version": "2012-10-17", "Statement": []})
    role = client("iam").create_role(RoleName=f"{stack}-r", AssumeRolePolicyDocument=document)["Role"]["Arn"]
    for model, tagged in (("tagged", {layout.STACK_TAG: stack}), ("untagged", {})):
        client("lambda").create_function(
            FunctionName=layout.function_name(stack, model),
            Runtime="python3.13",
            Handler="app.handler",
            Role=role,
            Code={"ZipFile": archive()},
            Tags=tagged,
        )


def make_layers(stack: str) -> None:
    content = {"ZipFile": archive()}
    for name in (layout.layer_name(stack, "untagged"), layout.layer_name(stack, "gone")):
        client("lambda").publish_layer_version(LayerName=name, Description="bundle d", Content=content)
    for _ in range(2):
        client("lambda").publish_layer_version(
            LayerName=f"{stack}-core-x86", Description="The isthmus package", Content=content
        )


def make_bucket(stack: str) -> None:
    name = layout.bucket_name(stack, ACCOUNT, REGION)
    s3 = client("s3")
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    s3.put_bucket_tagging(Bucket=name, Tagging={"TagSet": tags(stack)})
    s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    for key in ("bundles/untagged/d/layer.zip", "bundles/gone/d/layer.zip", "datasets/d/x", "stray"):
        s3.put_object(Bucket=name, Key=key, Body=b"12345")
    s3.put_object(Bucket=name, Key="datasets/d/x", Body=b"1234567")
    s3.delete_object(Bucket=name, Key="datasets/d/x")


def make_queue(stack: str) -> None:
    for rig, tagged in (("tagged", {layout.STACK_TAG: stack}), ("untagged", {})):
        client("sqs").create_queue(QueueName=layout.queue_name(stack, rig), tags=tagged)


def make_table(stack: str) -> None:
    client("dynamodb").create_table(
        TableName=f"{stack}-Table-1X",
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
        Tags=tags(stack),
    )


def make_keys(stack: str) -> None:
    for description in layout.key_descriptions(stack).values():
        client("kms").create_key(Description=description)


def make_group(stack: str) -> None:
    group = layout.model_group(stack)
    client("sagemaker").create_model_package_group(
        ModelPackageGroupName=group, ModelPackageGroupDescription=layout.MODEL_GROUP_DESCRIPTION
    )
    for release in (1, 2):
        client("sagemaker").create_model_package(
            ModelPackageGroupName=group, ModelPackageDescription=f"m release {release}"
        )


def make_execution(stack: str) -> None:
    definition = json.dumps({"StartAt": "E", "States": {"E": {"Type": "Succeed"}}})
    role = f"arn:aws:iam::{ACCOUNT}:role/r"
    for machine in layout.machines(stack):
        made = client("stepfunctions").create_state_machine(name=machine, definition=definition, roleArn=role)
        client("stepfunctions").start_execution(stateMachineArn=made["stateMachineArn"], name=f"{stack}-job")


def make_policy(stack: str, formation: Formation) -> None:
    """A managed policy of the stack at a user of its owner's."""
    statement = {"Effect": "Allow", "Action": "sqs:ReceiveMessage", "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    arn = client("iam").create_policy(PolicyName=f"{stack}-RigPolicy", PolicyDocument=document)["Policy"][
        "Arn"
    ]
    formation.stacks[stack] = [
        ("RigPolicy", "AWS::IAM::ManagedPolicy", arn),
        ("Topic", "AWS::SNS::Topic", "t"),
    ]
    client("iam").create_user(UserName=f"{stack}-rig-user")
    client("iam").attach_user_policy(UserName=f"{stack}-rig-user", PolicyArn=arn)


def make_log_group(stack: str) -> None:
    client("logs").create_log_group(logGroupName=layout.log_group(stack))


@dataclass
class Case:
    """How a kind is made for a stack, looked for, and what of ``shop`` must be found."""

    make: tuple[Callable[[str], None], ...]
    kind: Callable[[Home], Belongings]
    found: list[str]
    items: list[int] = field(default_factory=list)


CASES = {
    "functions": Case(
        (make_bucket, make_function), ModelFunctions, ["shop-model-tagged", "shop-model-untagged"]
    ),
    "layers": Case(
        (make_bucket, make_layers),
        Layers,
        ["shop-core-x86", "shop-model-gone", "shop-model-untagged"],
        [2, 1, 1],
    ),
    "objects": Case(
        (make_bucket,),
        BucketObjects,
        [f"s3://shop-{ACCOUNT}-{REGION}/{folder}" for folder in ("bundles/", "datasets/", "stray")],
        [2, 3, 1],
    ),
    "queues": Case(
        (make_queue,),
        lambda home: RigQueues(home, lambda: {"untagged"}),
        ["shop-rig-tagged", "shop-rig-untagged"],
    ),
    "table": Case((make_table,), Tables, ["shop-Table-1X"]),
    "executions": Case((make_execution,), RunningExecutions, ["shop-job", "shop-job"]),
    "log group": Case((make_log_group,), LogGroups, ["/isthmus/shop"]),
}


@pytest.fixture(autouse=True)
def formation(aws: None) -> Formation:
    """CloudFormation, empty."""
    found = Formation()
    found.install()
    return found


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, formation: Formation) -> Case:
    found: Case = CASES[request.param]
    for stack in STACKS:
        for make in found.make:
            make(stack)
    return found


def names(kind: Belongings) -> list[str]:
    return sorted(thing.name for thing in kind.find())


def silent(line: str) -> None:
    return


def test_only_the_stacks_own_is_found_and_removed(case: Case) -> None:
    mine, others = case.kind(Home("shop")), [case.kind(Home(stack)) for stack in STACKS[1:]]
    before = [names(kind) for kind in others]
    things = sorted(mine.find(), key=lambda thing: thing.name)
    assert [thing.name for thing in things] == case.found
    assert not case.items or [thing.items for thing in things] == case.items
    for thing in things:
        mine.remove(thing, silent)
    assert mine.find() == []
    assert [names(kind) for kind in others] == before
    assert all(before)


def test_removing_what_is_gone_is_no_error(case: Case) -> None:
    kind = case.kind(Home("shop"))
    things = kind.find()
    for thing in (*things, *things):
        kind.remove(thing, silent)
    assert kind.find() == []


def test_an_empty_account_has_nothing() -> None:
    home = Home("shop")
    kinds = [case.kind(home) for case in CASES.values()]
    others = [BucketItself(home), Keys(home), PolicyAttachments(home), StackItself(home, ManualClock())]
    others += [ModelPackages(home)]
    assert [thing for kind in (*kinds, *others) for thing in kind.find()] == []


def test_the_fake_does_the_same() -> None:
    fake = MemoryBelongings("kind", [Thing(id="a", name="a"), Thing(id="b", name="b")])
    for thing in (*fake.find(), *fake.find()):
        fake.remove(thing, silent)
    assert fake.find() == []


# moto cannot delete a model package: the removal is in tests/unit/adapters.
def test_a_model_registry_is_found_with_its_packages() -> None:
    for stack in STACKS:
        make_group(stack)
    (thing,) = ModelPackages(Home("shop")).find()
    assert (thing.name, thing.items, thing.kept_by) == ("shop-models", 3, ("models",))
    assert ModelPackages(Home("shop-c")).find() == []


def test_a_model_group_of_the_same_name_may_be_another_applications() -> None:
    client("sagemaker").create_model_package_group(
        ModelPackageGroupName=layout.model_group("shop"), ModelPackageGroupDescription="Prices"
    )
    assert ModelPackages(Home("shop")).find() == []


def test_a_bucket_of_the_same_name_may_be_another_applications(formation: Formation) -> None:
    bucket = layout.bucket_name("shop", ACCOUNT, REGION)
    client("s3").create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    client("s3").put_object(Bucket=bucket, Key="datasets/state", Body=b"theirs")
    kinds = [BucketObjects(Home("shop")), BucketItself(Home("shop"))]
    assert [thing for kind in kinds for thing in kind.find()] == []
    client("s3").put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": tags("another")})
    assert [thing for kind in kinds for thing in kind.find()] == []
    formation.stacks["shop"] = []
    assert [len(kind.find()) for kind in kinds] == [1, 1], "a stack that has it says so"


def test_a_bucket_without_a_tag_is_ours_if_it_has_our_key() -> None:
    make_keys("shop")
    key = next(thing.id for thing in Keys(Home("shop")).find() if thing.name.startswith("DataKey"))
    bucket = layout.bucket_name("shop", ACCOUNT, REGION)
    client("s3").create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    default = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": f"arn:aws:kms:{REGION}:{ACCOUNT}:key/{key}"}
    rule = {"ApplyServerSideEncryptionByDefault": default}
    client("s3").put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration={"Rules": [rule]})
    assert [thing.name for thing in BucketItself(Home("shop")).find()] == [bucket]


def test_a_bucket_is_removed_when_it_is_empty() -> None:
    for stack in STACKS:
        make_bucket(stack)
    objects, bucket = BucketObjects(Home("shop")), BucketItself(Home("shop"))
    for thing in objects.find():
        objects.remove(thing, silent)
    for thing in bucket.find():
        bucket.remove(thing, silent)
    left = [entry["Name"] for entry in client("s3").list_buckets()["Buckets"]]
    assert left == [layout.bucket_name(stack, ACCOUNT, REGION) for stack in STACKS[1:]]


def test_a_key_waits_for_its_deletion_and_is_found_no_more() -> None:
    for stack in STACKS:
        make_keys(stack)
    keys = Keys(Home("shop"))
    assert [thing.name.split()[0] for thing in keys.find()] == ["DataKey", "SigningKey"]
    for thing in keys.find():
        keys.remove(thing, silent)
    assert keys.find() == []
    assert len(Keys(Home("shop-b")).find()) == 2


def test_a_policy_is_taken_from_who_holds_it_and_from_nobody_else(formation: Formation) -> None:
    for stack in STACKS:
        make_policy(stack, formation)
    attachments = PolicyAttachments(Home("shop"))
    (thing,) = attachments.find()
    assert thing.name == "shop-RigPolicy at the user shop-rig-user"
    attachments.remove(thing, silent)
    attachments.remove(thing, silent)
    assert attachments.find() == []
    assert len(PolicyAttachments(Home("shop-b")).find()) == 1
    assert client("iam").get_user(UserName="shop-rig-user")["User"], "the identity is the user's own"


def test_a_stack_is_deleted_with_its_progress_and_no_other(formation: Formation) -> None:
    for stack in STACKS:
        formation.stacks[stack] = [("A", "T", "a"), ("B", "T", "b")]
    stack, said = StackItself(Home("shop"), ManualClock()), []
    (thing,) = stack.find()
    assert (thing.name, thing.note) == ("shop", "CREATE_COMPLETE, 2 resources")
    stack.remove(thing, said.append)
    assert said == ["1 of 2 resources are gone", "2 of 2 resources are gone"]
    assert stack.find() == []
    assert set(formation.status) == {"shop"}


def test_a_stack_that_cannot_be_deleted_says_why(formation: Formation) -> None:
    formation.stacks["shop"], formation.ending = [("A", "T", "a")], "DELETE_FAILED"
    stack = StackItself(Home("shop"), ManualClock())
    with pytest.raises(StackNotDeleted, match=r"A: it is in use"):
        stack.remove(stack.find()[0], silent)
    assert "DELETE_FAILED" in stack.find()[0].note, "and is there for another try"


def test_a_stack_that_is_being_changed_or_is_protected_says_so(formation: Formation) -> None:
    formation.stacks["shop"] = [("A", "T", "a")]
    stack = StackItself(Home("shop"), ManualClock())
    assert stack.find()[0].blocked == ""
    formation.protected = {"shop"}
    assert "--no-enable-termination-protection --stack-name shop" in stack.find()[0].blocked
    formation.status["shop"] = "UPDATE_IN_PROGRESS"
    assert stack.find()[0].blocked == "is UPDATE_IN_PROGRESS; wait for the end of it"


FOREIGN = {
    "other outputs": {"Url": "https://shop.example"},
    "outputs of the same names": {"Bucket": "photos", "Table": "orders", "TrainAndDeployMachine": "train"},
    "another stack's": outputs_of("shop-b"),
    "none": {},
}


@pytest.mark.parametrize("outputs", FOREIGN.values(), ids=FOREIGN)
@pytest.mark.parametrize("status", ["CREATE_COMPLETE", "ROLLBACK_COMPLETE", "DELETE_FAILED"])
def test_another_applications_stack_is_refused(
    formation: Formation, outputs: dict[str, str], status: str
) -> None:
    formation.stacks["shop"], formation.outputs["shop"] = [("A", "T", "a")], outputs
    formation.status["shop"] = status
    with pytest.raises(ForeignStack, match=rf"the stack shop is not one of isthmus.*it is {status}"):
        StackItself(Home("shop"), ManualClock()).find()
    assert Home("shop").outputs() == {}, "nothing is looked for by them"


@pytest.mark.parametrize(
    ("status", "description"),
    [
        ("CREATE_FAILED", "isthmus: GPU rigs"),
        ("ROLLBACK_COMPLETE", "isthmus: GPU rigs"),
        ("REVIEW_IN_PROGRESS", ""),
    ],
)
def test_a_stack_that_never_came_up_is_known_by_its_description(
    formation: Formation, status: str, description: str
) -> None:
    formation.stacks["shop"], formation.outputs["shop"] = [], {}
    formation.status["shop"], formation.descriptions["shop"] = status, description
    assert [thing.name for thing in StackItself(Home("shop"), ManualClock()).find()] == ["shop"]


def make_kept_table(name: str, stack: str, key: str) -> None:
    """A table that CloudFormation tagged, and nobody else: its stack is gone, or is not isthmus's."""
    sse = {"Enabled": True, "SSEType": "KMS", "KMSMasterKeyId": key}
    client("dynamodb").create_table(
        TableName=name,
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
        SSESpecification=sse if key else {"Enabled": False},
        Tags=[{"Key": "aws:cloudformation:stack-name", "Value": stack}],
    )


def test_a_table_that_only_cloudformation_tagged_is_ours_if_it_has_our_key(formation: Formation) -> None:
    make_keys("shop")
    mine = next(thing.id for thing in Keys(Home("shop")).find() if thing.name.startswith("DataKey"))
    theirs = client("kms").create_key(Description="orders")["KeyMetadata"]["KeyId"]
    kms = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/"
    make_kept_table("shop-Table-kept", "shop", kms + mine)
    make_kept_table("shop-Orders-1", "shop", kms + theirs)
    make_kept_table("shop-Orders-2", "shop", "")
    assert names(Tables(Home("shop"))) == ["shop-Table-kept"]
    formation.stacks["shop"], formation.outputs["shop"] = [], {"Table": "shop-Orders-2"}
    assert names(Tables(Home("shop"))) == ["shop-Table-kept"], "nor by another application's output"
    refusing({kms + theirs})
    assert names(Tables(Home("shop"))) == ["shop-Table-kept"], "nor by a key that may not be looked at"


def refusing(keys: set[str]) -> None:
    """Let keys refuse to be described, as a key policy of their own makes them."""

    def refuse(model: Any, params: Any, **_: Any) -> tuple[AWSResponse, dict[str, Any]] | None:
        if not keys or json.loads(params["body"])["KeyId"] in keys:
            error = {"Code": "AccessDeniedException", "Message": "no resource-based policy allows it"}
            return AWSResponse("", 400, {}, None), {"Error": error}
        return None

    client("kms").meta.events.register("before-call.kms.DescribeKey", refuse)


def test_a_key_that_may_not_be_described_is_somebody_elses() -> None:
    theirs = client("kms").create_key(Description="payroll")["KeyMetadata"]["KeyId"]
    make_keys("shop")
    refusing({theirs})
    assert [thing.name.split()[0] for thing in Keys(Home("shop")).find()] == ["DataKey", "SigningKey"]


def test_where_no_key_may_be_described_the_caller_lacks_the_right() -> None:
    make_keys("shop")
    refusing(set())
    with pytest.raises(PermissionMissing, match="DescribeKey"):
        Keys(Home("shop")).find()


def test_a_layer_whose_name_two_stacks_models_share_goes_by_its_bundles() -> None:
    """Model ``b-model-c`` of ``a`` and model ``c`` of ``a-model-b`` have one layer name."""
    name, content = layout.layer_name("a", "b-model-c"), {"ZipFile": archive()}
    assert name == layout.layer_name("a-model-b", "c")
    for stack, model, digest in (("a", "b-model-c", "d1"), ("a-model-b", "c", "d2")):
        bucket = layout.bucket_name(stack, ACCOUNT, REGION)
        client("s3").create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
        client("s3").put_object(Bucket=bucket, Key=f"bundles/{model}/{digest}/layer.zip", Body=b"")
        client("lambda").publish_layer_version(
            LayerName=name, Description=f"bundle {digest}", Content=content
        )
    layers = Layers(Home("a"))
    (thing,) = layers.find()
    assert (thing.name, thing.items) == (name, 1)
    layers.remove(thing, silent)
    versions = client("lambda").list_layer_versions(LayerName=name)["LayerVersions"]
    assert [version["Description"] for version in versions] == ["bundle d2"]
    assert [entry.items for entry in Layers(Home("a-model-b")).find()] == [1]
    layers.remove(thing, silent)
    assert len(Layers(Home("a-model-b")).find()) == 1


def test_a_layer_of_the_same_name_belongs_to_whose_description_it_bears() -> None:
    """The model ``core-x86`` of ``shop`` and the stack ``shop-model`` have one layer name between them."""
    content = {"ZipFile": archive()}
    name = layout.layer_name("shop", "core-x86")
    for description in ("bundle d", "The isthmus package"):
        client("lambda").publish_layer_version(LayerName=name, Description=description, Content=content)
    bucket = layout.bucket_name("shop", ACCOUNT, REGION)
    client("s3").create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    client("s3").put_object(Bucket=bucket, Key="bundles/core-x86/d/layer.zip", Body=b"")
    layers = Layers(Home("shop"))
    (thing,) = layers.find()
    assert (thing.name, thing.items) == (name, 1)
    layers.remove(thing, silent)
    versions = client("lambda").list_layer_versions(LayerName=name)["LayerVersions"]
    assert [version["Description"] for version in versions] == ["The isthmus package"]
    assert [entry.name for entry in Layers(Home("shop-model")).find()] == [name]


def test_a_function_that_another_stack_tagged_is_not_ours_even_under_our_models_name() -> None:
    """Model ``x-model-y`` of ``shop`` and model ``y`` of ``shop-model-x`` would be one function."""
    make_function("shop-model-x")
    bucket = layout.bucket_name("shop", ACCOUNT, REGION)
    client("s3").create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    client("s3").put_object(Bucket=bucket, Key="bundles/x-model-tagged/d/layer.zip", Body=b"")
    assert ModelFunctions(Home("shop")).find() == []
