"""Lambda's limits: payloads, code with layers, environment variables."""

import io
import zipfile
from collections.abc import Callable
from typing import Any

import pytest
from conftest import REGION, ROLE, Cloud
from test_refusals import outcome

from isthmus_localcloud.refusals import limits


@pytest.fixture(scope="module")
def echo(cloud: Cloud) -> str:
    """Answers with as many letters as it is asked for."""
    cloud.function("echo", "def handler(e, c): return 'a' * e['n']\n", MemorySize=512)
    return "echo"


def padded(size: int) -> bytes:
    """A JSON event of that size."""
    event = b'{"n": 1}'
    return event + b" " * (size - len(event))


@pytest.mark.parametrize(
    ("kind", "size", "passes"),
    [
        ("RequestResponse", limits.LAMBDA_SYNCHRONOUS_REQUEST.value, True),
        ("RequestResponse", 6_291_457, False),
        ("Event", limits.LAMBDA_ASYNCHRONOUS_REQUEST.value, True),
        ("Event", 1_048_577, False),
    ],
)
def test_requests(cloud: Cloud, echo: str, kind: str, size: int, passes: bool) -> None:
    invoke = cloud.client("lambda").invoke
    request = {"FunctionName": echo, "InvocationType": kind, "Payload": padded(size)}
    if passes:
        assert "FunctionError" not in invoke(**request)
    else:
        assert outcome(invoke, **request) == (413, "RequestEntityTooLargeException")


@pytest.mark.parametrize(
    ("size", "passes"), [(limits.LAMBDA_SYNCHRONOUS_RESPONSE.value, True), (6_291_557, False)]
)
def test_responses(cloud: Cloud, echo: str, size: int, passes: bool) -> None:
    """The size of the JSON text: two quotes more than the letters."""
    error, answer, _ = cloud.invoke(echo, {"n": size - 2})
    if passes:
        assert (error, len(answer)) == (None, size - 2)
    else:
        assert (error, answer["errorType"]) == ("Unhandled", "Function.ResponseSizeTooLarge")
    assert cloud.invoke(echo, {"n": 1})[1] == "a"


@pytest.mark.parametrize(("size", "passes"), [(limits.LAMBDA_ENVIRONMENT.value, True), (4_097, False)])
def test_environment_variables(cloud: Cloud, echo: str, size: int, passes: bool) -> None:
    """Measured as a JSON object."""
    value = "x" * (size - len('{"LONG":""}'))
    assert outcome(
        cloud.client("lambda").update_function_configuration,
        FunctionName=echo,
        Environment={"Variables": {"LONG": value}},
    ) == (None if passes else (400, "InvalidParameterValueException"))


def archive(unzipped_bytes: int) -> bytes:
    """A small zip with one file of zeros."""
    buffer, block = io.BytesIO(), bytes(1_000_000)
    found = zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1)
    with found, found.open("zeros", "w") as file:
        for left in range(unzipped_bytes, 0, -len(block)):
            file.write(block[:left])
    return buffer.getvalue()


def layer(cloud: Cloud, name: str, content: bytes) -> str:
    answer = cloud.client("lambda").publish_layer_version(LayerName=name, Content={"ZipFile": content})
    return str(answer["LayerVersionArn"])


@pytest.mark.parametrize(("count", "passes"), [(limits.LAMBDA_LAYERS.value, True), (6, False)])
def test_layers(cloud: Cloud, echo: str, count: int, passes: bool) -> None:
    content = archive(10)
    layers = [layer(cloud, f"small-{number}", content) for number in range(count)]
    assert outcome(
        cloud.client("lambda").update_function_configuration, FunctionName=echo, Layers=layers
    ) == (None if passes else (400, "InvalidParameterValueException"))


CODE_BYTES = 2_144_000


@pytest.fixture(scope="module")
def large_layers(cloud: Cloud) -> list[str]:
    """With a function of CODE_BYTES they make 262,144,000 bytes."""
    return [layer(cloud, f"large-{n}", archive(size)) for n, size in enumerate((200_000_000, 60_000_000))]


COMMON: dict[str, Any] = {"Runtime": "python3.13", "Role": ROLE, "Handler": "app.handler"}


def create(cloud: Cloud, name: str, code: dict[str, Any], layers: list[str]) -> tuple[int, str] | None:
    """With the code and the layers at once."""
    functions = cloud.client("lambda")
    return outcome(functions.create_function, FunctionName=name, Code=code, Layers=layers, **COMMON)


def update_code(cloud: Cloud, name: str, code: dict[str, Any], layers: list[str]) -> tuple[int, str] | None:
    """The layers first, with code that fits."""
    functions = cloud.client("lambda")
    small = {"ZipFile": archive(10)}
    functions.create_function(FunctionName=name, Code=small, Layers=layers, **COMMON)
    wait_until_active(cloud, name)
    return outcome(functions.update_function_code, FunctionName=name, **code)


def update_layers(cloud: Cloud, name: str, code: dict[str, Any], layers: list[str]) -> tuple[int, str] | None:
    """The code first, without layers."""
    functions = cloud.client("lambda")
    functions.create_function(FunctionName=name, Code=code, **COMMON)
    wait_until_active(cloud, name)
    return outcome(functions.update_function_configuration, FunctionName=name, Layers=layers)


@pytest.fixture(scope="module")
def bucket(cloud: Cloud) -> str:
    s3 = cloud.client("s3")
    s3.create_bucket(Bucket="code", CreateBucketConfiguration={"LocationConstraint": REGION})
    return "code"


@pytest.mark.parametrize(("size", "passes"), [(CODE_BYTES, True), (CODE_BYTES + 1, False)])
@pytest.mark.parametrize("way", [create, update_code, update_layers])
def test_code_with_layers(
    cloud: Cloud,
    bucket: str,
    large_layers: list[str],
    way: Callable[..., tuple[int, str] | None],
    size: int,
    passes: bool,
) -> None:
    """The code comes from S3, as ``sam deploy`` sends it."""
    cloud.client("s3").put_object(Bucket=bucket, Key=f"{size}.zip", Body=archive(size))
    stored = {"S3Bucket": bucket, "S3Key": f"{size}.zip"}
    expected = None if passes else (400, "InvalidParameterValueException")
    assert way(cloud, f"{way.__name__}-{size}", stored, large_layers) == expected


def wait_until_active(cloud: Cloud, *names: str) -> None:
    waiter = cloud.client("lambda").get_waiter("function_active_v2")
    waiter.config.delay = 0.1
    for name in names:
        waiter.wait(FunctionName=name)


def test_the_refusal_names_both_sizes(cloud: Cloud, large_layers: list[str]) -> None:
    with pytest.raises(cloud.client("lambda").exceptions.InvalidParameterValueException) as caught:
        cloud.function("too-large", "x" * (CODE_BYTES + 1), Layers=large_layers)
    assert caught.value.response["Error"]["Message"] == (
        "Function code combined with layers exceeds the maximum allowed size of 262144000 bytes. "
        "The actual size is 262144001 bytes."
    )
