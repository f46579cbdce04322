from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace

import pytest

from isthmus.adapters.aws.functions import LambdaFunctions
from isthmus.adapters.aws.operator.concurrency import LambdaConcurrency
from isthmus.adapters.aws.session import client
from isthmus.adapters.local.functions import MemoryFunctions
from isthmus.errors import LimitExceeded, OtherStack, UnknownModel
from isthmus.ports import Alias, Concurrency, FunctionCode, Functions

MODEL = "shop-model-digits"


def archive() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as out:
        out.writestr("app.py", "def handler(event, context):\n    return event\n")
    return stream.getvalue()


@pytest.fixture(params=["memory", "lambda"])
def functions(request: pytest.FixtureRequest, served_zip: str) -> Functions:
    """With a function ``serve`` that the stack deployed."""
    if request.param == "memory":
        memory = MemoryFunctions()
        memory.install("serve", FunctionCode(served_zip, "abc", (), {"Environment": {"Variables": {}}}))
        return memory
    request.getfixturevalue("aws")
    document = {"Version": "2012-10-17", "Statement": []}
    role = client("iam").create_role(RoleName="r", AssumeRolePolicyDocument=json.dumps(document))
    client("lambda").create_function(
        FunctionName="serve",
        Runtime="python3.13",
        Handler="app.handler",
        Role=role["Role"]["Arn"],
        Code={"ZipFile": archive()},
        MemorySize=1769,
        Timeout=29,
        Environment={"Variables": {"ISTHMUS_MODEL_DIR": "/opt/m"}},
    )
    client("s3").create_bucket(Bucket="data", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    for name in ("l1", "l2"):
        client("s3").put_object(Bucket="data", Key=f"{name}.zip", Body=archive())
    return LambdaFunctions("data")


@pytest.fixture
def pattern(functions: Functions, served_zip: str) -> FunctionCode:
    """The pattern, its code at an address that answers."""
    return replace(functions.pattern("serve"), zip_url=served_zip)


def test_the_pattern_is_all_that_a_version_needs(pattern: FunctionCode) -> None:
    assert pattern.sha256
    assert "Variables" in pattern.settings["Environment"]


def test_a_layer_is_published_once_per_marker(functions: Functions) -> None:
    first = functions.publish_layer(MODEL, "l1.zip", "bundle 1")
    assert functions.publish_layer(MODEL, "l1.zip", "bundle 1") == first
    second = functions.publish_layer(MODEL, "l2.zip", "bundle 2")
    assert (first.rsplit(":", 1)[1], second.rsplit(":", 1)[1]) == ("1", "2")
    assert first.split(":")[5:7] == ["layer", MODEL]


def test_staging_publishes_a_version_once_per_marker(functions: Functions, pattern: FunctionCode) -> None:
    layer = functions.publish_layer(MODEL, "l1.zip", "bundle 1")
    assert functions.stage(MODEL, pattern, (layer,), "m1") == "1"
    assert functions.stage(MODEL, pattern, (layer,), "m1") == "1"
    other = functions.publish_layer(MODEL, "l2.zip", "bundle 2")
    assert functions.stage(MODEL, pattern, (other,), "m2") == "2"
    assert functions.stage(MODEL, pattern, (layer,), "m1") == "1", "the old version is still there"
    assert functions.alias(MODEL) is None, "nobody is routed anywhere"


def test_a_name_that_is_too_long_is_refused(functions: Functions, pattern: FunctionCode) -> None:
    with pytest.raises(LimitExceeded, match="at most 64"):
        functions.stage("f" * 65, pattern, (), "m")


def test_a_function_of_another_stack_is_not_taken_over(functions: Functions, pattern: FunctionCode) -> None:
    """``b-model-c`` of the stack ``a`` and ``c`` of the stack ``a-model-b`` would be one function."""
    shop, other = replace(pattern, stack="shop"), replace(pattern, stack="shop-model-x")
    assert functions.stage(MODEL, shop, (), "m1") == "1"
    with pytest.raises(OtherStack, match="belongs to the stack shop, not shop-model-x"):
        functions.stage(MODEL, other, (), "m2")
    assert functions.stage(MODEL, shop, (), "m2") == "2"


def test_an_alias_points_and_splits_and_points_again(functions: Functions, pattern: FunctionCode) -> None:
    for number in (1, 2):
        functions.stage(MODEL, pattern, (), f"m{number}")
    for alias in (Alias("1"), Alias("1"), Alias("1", "2", 0.25), Alias("2")):
        functions.point(MODEL, alias)
        assert functions.alias(MODEL) == alias


def test_a_release_is_named_beside_what_is_in_service(functions: Functions, pattern: FunctionCode) -> None:
    for number in (1, 2):
        functions.stage(MODEL, pattern, (), f"m{number}")
    functions.point(MODEL, Alias("2"))
    functions.name_release(MODEL, 7, "1")
    functions.name_release(MODEL, 7, "2")
    functions.name_release(MODEL, 7, "1")
    assert functions.alias(MODEL) == Alias("2")
    assert functions.invoke(MODEL, "release-7", {}).payload


def test_a_function_is_held_to_a_number_of_calls_and_let_go(
    functions: Functions, pattern: FunctionCode
) -> None:
    concurrency: Concurrency = functions if isinstance(functions, MemoryFunctions) else LambdaConcurrency()
    functions.stage(MODEL, pattern, (), "m1")
    for calls in (None, 5, 7, None):
        concurrency.set_limit(MODEL, calls)
        assert concurrency.limit(MODEL) == calls
    with pytest.raises(UnknownModel, match="shop-model-gone"):
        concurrency.set_limit("shop-model-gone", 5)


def test_what_nobody_waits_for_is_sent_and_no_more_than_lambda_takes(
    functions: Functions, pattern: FunctionCode
) -> None:
    functions.stage(MODEL, pattern, (), "m1")
    functions.send(MODEL, {"a": 1})
    with pytest.raises(LimitExceeded, match="1,048,576"):
        functions.send(MODEL, {"a": "x" * 1_048_576})


def test_a_function_that_is_not_there_has_no_alias(functions: Functions) -> None:
    assert functions.alias("shop-model-gone") is None


# Of the fake alone: moto without Docker answers for any function. Lambda's own refusal
# (ResourceNotFoundException) is in tests/unit/adapters.
def test_a_function_that_is_not_there_is_unknown() -> None:
    with pytest.raises(UnknownModel, match="shop-model-gone"):
        MemoryFunctions().invoke("shop-model-gone", "live", {})


def test_an_invocation_answers(functions: Functions, pattern: FunctionCode) -> None:
    functions.stage(MODEL, pattern, (), "m1")
    functions.point(MODEL, Alias("1"))
    answer = functions.invoke(MODEL, "live", {"httpMethod": "GET"})
    assert answer.error == ""
    assert answer.payload


def test_publishing_unchanged_code_is_the_same_version(functions: Functions) -> None:
    first = functions.publish_version("serve")
    assert functions.publish_version("serve") == first
    assert first.endswith(":serve:1")
