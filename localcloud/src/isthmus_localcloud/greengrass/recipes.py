"""Recipes: parsing, checking, artifact digests, and the recipe that AWS writes for an imported Lambda.

Source: IoT Greengrass developer guide, "AWS IoT Greengrass component recipe reference" and
"Run AWS Lambda functions".
"""

import base64
import hashlib
import json
import re
from typing import Any

import yaml

from .store import Document, invalid

MAX_RECIPE_BYTES = 16_000
NAME = re.compile(r"[a-zA-Z0-9-_.]{1,128}")
VERSION = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)([-+].+)?")


def parse_recipe(text: bytes) -> Document:
    """JSON or YAML. Raises ValidationException naming what is wrong with it."""
    if len(text) > MAX_RECIPE_BYTES:
        raise invalid(f"The recipe has {len(text):,} bytes; a recipe can have at most {MAX_RECIPE_BYTES:,}.")
    try:
        recipe = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise invalid(f"Failed to parse the recipe: {error}") from error
    if not isinstance(recipe, dict):
        raise invalid("The recipe is not a JSON or YAML object.")
    # A YAML date is what an unquoted 2020-01-25 becomes.
    if str(recipe.get("RecipeFormatVersion")) != "2020-01-25":
        raise invalid("The recipe needs RecipeFormatVersion 2020-01-25.")
    recipe["RecipeFormatVersion"] = "2020-01-25"
    check_name(recipe.get("ComponentName"))
    check_version(recipe.get("ComponentVersion"))
    if not isinstance(recipe.get("Manifests", []), list):
        raise invalid("Manifests is not a list.")
    return recipe


def check_name(name: Any) -> None:
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise invalid(f"The component name {name!r} does not match {NAME.pattern}.")


def check_version(version: Any) -> None:
    if not isinstance(version, str) or not VERSION.fullmatch(version):
        raise invalid(f"The component version {version!r} is not a semantic version such as 1.0.0.")


def artifacts_of(recipe: Document) -> list[Document]:
    return [
        artifact for manifest in recipe.get("Manifests", []) for artifact in manifest.get("Artifacts", [])
    ]


def digest(data: bytes) -> str:
    """As recipes carry it: base64 of SHA-256."""
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


def add_digests(recipe: Document, s3: Any) -> None:
    """Read every artifact once, as AWS does when a component version is made; it is immutable from then
    on."""
    for artifact in artifacts_of(recipe):
        uri = str(artifact.get("Uri", artifact.get("URI", "")))
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        if not uri.startswith("s3://") or not key:
            raise invalid(f"The artifact URI {uri!r} is not an S3 object.")
        try:
            data = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        except s3.exceptions.ClientError as error:
            raise invalid(
                f"The artifact {uri} cannot be read: {error.response['Error']['Message']}."
            ) from error
        artifact.update({"Uri": uri, "Digest": digest(data), "Algorithm": "SHA-256"})
        artifact.setdefault("Unarchive", "NONE")


def lambda_recipe(name: str, version: str, function_arn: str, code: bytes, options: Document) -> Document:
    """What GetComponent shows for a component made from a Lambda function."""
    parameters = options.get("componentLambdaParameters", {})
    linux = parameters.get("linuxProcessParams", {})
    sources = parameters.get("eventSources", [])
    configuration = {
        "lambdaExecutionParameters": {"EnvironmentVariables": parameters.get("environmentVariables", {})},
        "containerMode": linux.get("isolationMode", "GreengrassContainer"),
        "containerParams": linux.get("containerParams", {}),
        "timeoutInSeconds": parameters.get("timeoutInSeconds", 3),
        "maxInstancesCount": parameters.get("maxInstancesCount", 100),
        "maxQueueSize": parameters.get("maxQueueSize", 1000),
        "maxIdleTimeInSeconds": parameters.get("maxIdleTimeInSeconds", 60),
        "statusTimeoutInSeconds": parameters.get("statusTimeoutInSeconds", 60),
        "inputPayloadEncodingType": parameters.get("inputPayloadEncodingType", "json"),
        "pinned": parameters.get("pinned", True),
        "execArgs": parameters.get("execArgs", []),
        "pubsubTopics": {str(i): {"topic": s["topic"], "type": s["type"]} for i, s in enumerate(sources)},
    }
    dependencies = {
        dependency: {
            "VersionRequirement": wish.get("versionRequirement", ">=0.0.0"),
            "DependencyType": wish.get("dependencyType", "HARD"),
        }
        for dependency, wish in options.get("componentDependencies", {}).items()
    }
    artifact = {
        "Uri": "greengrass:lambda-artifact.zip",
        "Digest": digest(code),
        "Algorithm": "SHA-256",
        "Unarchive": "ZIP",
        "Permission": {"Read": "OWNER", "Execute": "NONE"},
    }
    return {
        "RecipeFormatVersion": "2020-01-25",
        "ComponentName": name,
        "ComponentVersion": version,
        "ComponentType": "aws.greengrass.lambda",
        "ComponentDescription": "",
        "ComponentPublisher": "AWS Lambda",
        "ComponentSource": function_arn,
        "ComponentConfiguration": {"DefaultConfiguration": configuration},
        "ComponentDependencies": dependencies,
        "Manifests": [{"Platform": {}, "Lifecycle": {}, "Artifacts": [artifact]}],
    }


def as_text(recipe: Document, form: str) -> bytes:
    if form == "YAML":
        return yaml.safe_dump(recipe, sort_keys=False).encode()
    return json.dumps(recipe).encode()
