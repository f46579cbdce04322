"""Reading a published function version for CreateComponentVersion. Layers are not read: AWS imports none."""

import tempfile
from pathlib import Path
from typing import Any

from localemu.aws.api import RequestContext
from localemu.services.lambda_.invocation.models import lambda_stores

from .recipes import digest
from .store import Document, invalid, not_found


def published_version(context: RequestContext, arn: str) -> Any:
    """LocalEmu's function version. Raises ValidationException for anything but a numbered version."""
    parts = arn.split(":")
    if len(parts) != 8 or parts[2] != "lambda" or parts[5] != "function":
        raise invalid(f"The Lambda function ARN {arn} must name a version.")
    if not parts[7].isdigit():
        raise invalid(f"The Lambda function ARN {arn} must name a published version, not {parts[7]}.")
    function = lambda_stores[context.account_id][parts[3]].functions.get(parts[6])
    version = function.versions.get(parts[7]) if function else None
    if version is None:
        raise not_found("Lambda function", arn)
    return version


def import_function(context: RequestContext, arn: str, folder: Path) -> tuple[Document, bytes]:
    """What the device needs to run it, and its deployment package, which is kept in ``folder``."""
    version = published_version(context, arn)
    if not version.config.code:
        raise invalid("Functions of package type Image cannot be imported.")
    with tempfile.TemporaryFile() as file:
        version.config.code._download_archive_to_file(file)
        file.seek(0)
        code = file.read()
    folder.mkdir(parents=True, exist_ok=True)
    stored = folder / f"{digest(code).replace('/', '_')}.zip"
    stored.write_bytes(code)
    config = version.config
    function = {
        "arn": arn,
        "name": version.id.function_name,
        "version": version.id.qualifier,
        "runtime": config.runtime,
        "handler": config.handler,
        "environment": dict(config.environment or {}),
        "file": str(stored),
    }
    return function, code
