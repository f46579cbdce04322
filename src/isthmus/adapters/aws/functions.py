"""``Functions`` on AWS Lambda."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from botocore.exceptions import ClientError

from isthmus.adapters.aws.errors import code_of, message_of, passing_trouble
from isthmus.adapters.aws.session import IMPATIENT, client
from isthmus.errors import LimitExceeded, OtherStack, Throttled, Unavailable, UnknownModel
from isthmus.model.layout import STACK_TAG, release_alias
from isthmus.ports import Alias, FunctionCode, Invocation

LIVE = "live"
MAX_NAME_CHARACTERS = 64
MAX_EVENT_BYTES = 1_048_576
"""Of an asynchronous invocation (Lambda quotas, "Invocation payload")."""
COPIED = (
    "Runtime",
    "Handler",
    "Role",
    "MemorySize",
    "Timeout",
    "Architectures",
    "KMSKeyArn",
    "TracingConfig",
    "LoggingConfig",
    "EphemeralStorage",
)


class LambdaFunctions:
    """Functions, layers and aliases of one region."""

    def __init__(self, bucket: str) -> None:
        self._bucket = bucket

    @passing_trouble("Lambda")
    def pattern(self, function: str) -> FunctionCode:
        answer = client("lambda").get_function(FunctionName=function)
        setup = answer["Configuration"]
        settings = {name: setup[name] for name in COPIED if setup.get(name)}
        if "TracingConfig" in settings:
            settings["TracingConfig"] = {"Mode": settings["TracingConfig"]["Mode"]}
        settings["Environment"] = {"Variables": dict(setup.get("Environment", {}).get("Variables", {}))}
        return FunctionCode(
            zip_url=answer["Code"]["Location"],
            sha256=setup["CodeSha256"],
            layers=tuple(layer["Arn"] for layer in setup.get("Layers", [])),
            settings=settings,
        )

    @passing_trouble("Lambda")
    def publish_layer(self, name: str, zip_key: str, marker: str) -> str:
        for page in client("lambda").get_paginator("list_layer_versions").paginate(LayerName=name):
            for version in page["LayerVersions"]:
                if version.get("Description") == marker:
                    return str(version["LayerVersionArn"])
        content = {"S3Bucket": self._bucket, "S3Key": zip_key}
        answer = client("lambda").publish_layer_version(LayerName=name, Description=marker, Content=content)
        return str(answer["LayerVersionArn"])

    @passing_trouble("Lambda")
    def stage(self, function: str, pattern: FunctionCode, layers: tuple[str, ...], marker: str) -> str:
        if len(function) > MAX_NAME_CHARACTERS:
            raise LimitExceeded(
                f"the function name {function} has {len(function)} characters; Lambda takes at most "
                f"{MAX_NAME_CHARACTERS}: shorten the model's name or the stack's"
            )
        known = next((v for v in self._versions(function) if v.get("Description") == marker), None)
        if known is not None:
            return str(known["Version"])
        code, arn = _download(pattern.zip_url), self._arn(function)
        if arn:
            _claim(arn, pattern.stack)
            self._update(function, pattern, layers, code)
        else:
            made = client("lambda").create_function(
                FunctionName=function, Code={"ZipFile": code}, Layers=list(layers), **pattern.settings
            )
            _claim(made["FunctionArn"], pattern.stack)
            client("lambda").get_waiter("function_active_v2").wait(FunctionName=function)
        answer = client("lambda").publish_version(FunctionName=function, Description=marker)
        version = str(answer["Version"])
        client("lambda").get_waiter("function_active_v2").wait(FunctionName=f"{function}:{version}")
        return version

    @passing_trouble("Lambda")
    def invoke(self, function: str, qualifier: str, event: Mapping[str, Any]) -> Invocation:
        try:
            answer = client("lambda", IMPATIENT).invoke(
                FunctionName=function, Qualifier=qualifier, Payload=json.dumps(event).encode()
            )
        except ClientError as error:
            if code_of(error) == "ResourceNotFoundException":
                raise UnknownModel(f"there is no function {function}:{qualifier}") from error
            if code_of(error) == "TooManyRequestsException":
                raise Throttled(f"{function} takes no more calls at present: {message_of(error)}") from error
            raise
        payload = answer["Payload"].read()
        failed = answer.get("FunctionError", "")
        return Invocation(payload, str(answer.get("ExecutedVersion", "")), failed and _error_type(payload))

    @passing_trouble("Lambda")
    def send(self, function: str, event: Mapping[str, Any]) -> None:
        payload = json.dumps(event).encode()
        if len(payload) > MAX_EVENT_BYTES:
            raise LimitExceeded(
                f"the event for {function} has {len(payload):,} bytes; Lambda takes at most "
                f"{MAX_EVENT_BYTES:,} of what nobody waits for"
            )
        client("lambda").invoke(FunctionName=function, InvocationType="Event", Payload=payload)

    @passing_trouble("Lambda")
    def alias(self, function: str) -> Alias | None:
        try:
            answer = client("lambda").get_alias(FunctionName=function, Name=LIVE)
        except ClientError as error:
            if code_of(error) == "ResourceNotFoundException":
                return None
            raise
        weights = answer.get("RoutingConfig", {}).get("AdditionalVersionWeights", {})
        for version, weight in weights.items():
            return Alias(answer["FunctionVersion"], version, float(weight))
        return Alias(answer["FunctionVersion"])

    @passing_trouble("Lambda")
    def point(self, function: str, alias: Alias) -> None:
        weights = {alias.next_version: alias.next_weight} if alias.next_version else {}
        request = {
            "FunctionName": function,
            "Name": LIVE,
            "FunctionVersion": alias.version,
            "RoutingConfig": {"AdditionalVersionWeights": weights},
        }
        if self.alias(function) is None:
            client("lambda").create_alias(**request)
        else:
            client("lambda").update_alias(**request)

    @passing_trouble("Lambda")
    def unroute(self, function: str) -> None:
        client("lambda").delete_alias(FunctionName=function, Name=LIVE)

    @passing_trouble("Lambda")
    def name_release(self, function: str, release: int, version: str) -> None:
        name = {"FunctionName": function, "Name": release_alias(release)}
        try:
            named = client("lambda").get_alias(**name)["FunctionVersion"]
        except ClientError as error:
            if code_of(error) != "ResourceNotFoundException":
                raise
            client("lambda").create_alias(**name, FunctionVersion=version)
            return
        if named != version:  # a proof that is repeated leaves the name as it is
            client("lambda").update_alias(**name, FunctionVersion=version)

    @passing_trouble("Lambda")
    def publish_version(self, function: str) -> str:
        return str(client("lambda").publish_version(FunctionName=function)["FunctionArn"])

    def _versions(self, function: str) -> Iterator[dict[str, Any]]:
        try:
            for page in (
                client("lambda").get_paginator("list_versions_by_function").paginate(FunctionName=function)
            ):
                yield from page["Versions"]
        except ClientError as error:
            if code_of(error) != "ResourceNotFoundException":
                raise

    def _arn(self, function: str) -> str:
        """Return the function's own ARN, without a qualifier; empty when there is none."""
        arns = (entry["FunctionArn"] for entry in self._versions(function))
        return next((":".join(arn.split(":")[:7]) for arn in arns), "")

    def _update(self, function: str, pattern: FunctionCode, layers: tuple[str, ...], code: bytes) -> None:
        # Two calls, and a version is published only after both: a reader of the alias sees neither.
        waiter = client("lambda").get_waiter("function_updated_v2")
        client("lambda").update_function_code(FunctionName=function, ZipFile=code)
        waiter.wait(FunctionName=function)
        settings = {name: value for name, value in pattern.settings.items() if name != "Architectures"}
        # Not given, it would stay on from an earlier version, and go on being paid for.
        settings.setdefault("SnapStart", {"ApplyOn": "None"})
        client("lambda").update_function_configuration(FunctionName=function, Layers=list(layers), **settings)
        waiter.wait(FunctionName=function)


def _claim(arn: str, stack: str) -> None:
    """Tag the function as the stack's.

    Raises:
        OtherStack: it is another's: model ``b-model-c`` of the stack ``a`` and model ``c`` of the
            stack ``a-model-b`` would be one function.
    """
    owner = client("lambda").list_tags(Resource=arn).get("Tags", {}).get(STACK_TAG)
    if owner not in (None, stack):
        raise OtherStack(
            f"the function {arn.split(':')[6]} belongs to the stack {owner}, not {stack}: give the model or "
            "the stack another name"
        )
    if owner is None:
        client("lambda").tag_resource(Resource=arn, Tags={STACK_TAG: stack})


def _download(url: str) -> bytes:
    # The location is presigned; it is fetched as it stands, without further credentials.
    import urllib3

    answer = urllib3.PoolManager().request("GET", url, timeout=30, retries=3)
    if answer.status != 200:
        raise Unavailable(f"the serving function's code could not be fetched: HTTP {answer.status}")
    return bytes(answer.data)


def _error_type(payload: bytes) -> str:
    try:
        return str(json.loads(payload).get("errorType", "Unhandled"))
    except (ValueError, AttributeError):
        return "Unhandled"
