"""Lambda: payloads, and the size of the code with its layers.

Five layers and 4 KB of environment variables are LocalEmu's own refusals; the size of an answer is refused by
the Runtime API (``lambdas.runtime_api``).
"""

import tempfile
import zipfile
from io import BytesIO
from typing import Any

from botocore.exceptions import ClientError
from localemu.aws.api import CommonServiceException, RequestContext
from localemu.aws.api.lambda_ import InvalidParameterValueException
from localemu.aws.connect import connect_to
from localemu.services.lambda_.api_utils import get_name_and_qualifier, parse_layer_arn
from localemu.services.lambda_.invocation.models import lambda_stores

from . import limits


def invoke(context: RequestContext) -> None:
    """Raises RequestEntityTooLargeException (413). Binary inside the JSON counts as base64, a third more."""
    kind = context.service_request.get("InvocationType") or "RequestResponse"
    limit = limits.LAMBDA_SYNCHRONOUS_REQUEST if kind != "Event" else limits.LAMBDA_ASYNCHRONOUS_REQUEST
    payload = context.request.get_data()
    # The stream that was there has been read.
    context.service_request["Payload"] = BytesIO(payload) if payload else None
    size = len(payload)
    if size > limit.value:
        raise CommonServiceException(
            "RequestEntityTooLargeException",
            f"{size} byte payload is too large for the {kind} invocation type (limit {limit.value} bytes)",
            413,
        )


def create_function(context: RequestContext) -> None:
    request = context.service_request
    check_total(context, new_code_bytes(context, request.get("Code") or {}), request.get("Layers") or [])


def update_code(context: RequestContext) -> None:
    present = latest(context)
    if present is not None:
        layers = [layer.layer_version_arn for layer in present.config.layers]
        check_total(context, new_code_bytes(context, context.service_request), layers)


def update_configuration(context: RequestContext) -> None:
    present, layers = latest(context), context.service_request.get("Layers")
    if present is not None and present.config.code is not None and layers is not None:
        check_total(context, archive_bytes(present.config.code), layers)


CHECKS = {
    "lambda.Invoke": invoke,
    "lambda.CreateFunction": create_function,
    "lambda.UpdateFunctionCode": update_code,
    "lambda.UpdateFunctionConfiguration": update_configuration,
}


def check_total(context: RequestContext, code_bytes: int, layers: list[str]) -> None:
    """Raises InvalidParameterValueException when function and layers are too large together."""
    total = code_bytes + sum(layer_bytes(context, arn) for arn in layers)
    limit = limits.LAMBDA_UNZIPPED.value
    if layers and total > limit:
        raise InvalidParameterValueException(
            f"Function code combined with layers exceeds the maximum allowed size of {limit} bytes. "
            f"The actual size is {total} bytes.",
            Type="User",
        )


def latest(context: RequestContext) -> Any | None:
    """The function's $LATEST, None where there is no such function: LocalEmu says so."""
    name, _ = get_name_and_qualifier(context.service_request["FunctionName"], None, context)
    function = lambda_stores[context.account_id][context.region].functions.get(name)
    return function.latest() if function else None


def layer_bytes(context: RequestContext, arn: str) -> int:
    """0 for a layer that does not exist: LocalEmu says so."""
    region, account, name, version = parse_layer_arn(arn)
    layer = lambda_stores[account or context.account_id][region or context.region].layers.get(name)
    found = layer.layer_versions.get(version) if layer else None
    return archive_bytes(found.code) if found else 0


def new_code_bytes(context: RequestContext, code: dict[str, Any]) -> int:
    """Unzipped. 0 for what LocalEmu refuses itself (no zip, no such object) and for images."""
    archive = code.get("ZipFile") or from_s3(context, code)
    try:
        return unzipped_bytes(BytesIO(archive)) if archive else 0
    except zipfile.BadZipFile:
        return 0


def from_s3(context: RequestContext, code: dict[str, Any]) -> bytes | None:
    if not code.get("S3Bucket"):
        return None
    s3 = connect_to(aws_access_key_id=context.account_id, region_name=context.region).s3
    version = {"VersionId": code["S3ObjectVersion"]} if code.get("S3ObjectVersion") else {}
    try:
        body: bytes = s3.get_object(Bucket=code["S3Bucket"], Key=code["S3Key"], **version)["Body"].read()
    except ClientError:
        return None
    return body


_measured: dict[str, int] = {}


def archive_bytes(code: Any) -> int:
    """Unzipped size of code that LocalEmu keeps; measured once, for an archive never changes."""
    if not hasattr(code, "_download_archive_to_file"):  # an image
        return 0
    if code.id not in _measured:
        with tempfile.TemporaryFile() as file:
            code._download_archive_to_file(file)
            _measured[code.id] = unzipped_bytes(file)
    return _measured[code.id]


def unzipped_bytes(file: Any) -> int:
    with zipfile.ZipFile(file) as archive:
        return sum(entry.file_size for entry in archive.infolist())
