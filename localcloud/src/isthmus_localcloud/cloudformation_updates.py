"""Updates that LocalEmu's CloudFormation providers leave out: without these a second deploy changes nothing.

For types that are not in the table LocalEmu keeps the resource as it was and logs a warning.
"""

import importlib
import json
from collections.abc import Callable
from typing import Any

from localemu.services.cloudformation.resource_provider import OperationStatus, ProgressEvent

Update = Callable[[Any, Any], dict[str, Any]]
SERVICES = "localemu.services"


def merged(request: Any) -> dict[str, Any]:
    return {**(request.previous_state or {}), **request.desired_state}


def again(provider: Any, request: Any) -> dict[str, Any]:
    """Types whose create call is a put: doing it again replaces everything."""
    create, request.desired_state = type(provider).create, merged(request)
    model: dict[str, Any] = create(provider, request).resource_model
    return model


def alias(_provider: Any, request: Any) -> dict[str, Any]:
    model = merged(request)
    routing = request.desired_state.get("RoutingConfig") or {}
    weights = {
        str(w["FunctionVersion"]): float(w["FunctionWeight"])
        for w in routing.get("AdditionalVersionWeights", [])
    }
    request.aws_client_factory.lambda_.update_alias(
        FunctionName=model["FunctionName"],
        Name=model["Name"],
        FunctionVersion=str(model["FunctionVersion"]),
        Description=model.get("Description", ""),
        RoutingConfig={"AdditionalVersionWeights": weights},
    )
    return model


def rule(provider: Any, request: Any) -> dict[str, Any]:
    """Put the rule and its targets again, and remove targets that are gone."""
    model = {**merged(request), "Name": request.previous_state["Id"].rpartition("|")[2]}
    bus = {"EventBusName": model["EventBusName"]} if model.get("EventBusName") else {}
    events = request.aws_client_factory.events
    known = events.list_targets_by_rule(Rule=model["Name"], **bus)["Targets"]
    wanted = {target["Id"] for target in model.get("Targets") or []}
    if gone := [target["Id"] for target in known if target["Id"] not in wanted]:
        events.remove_targets(Rule=model["Name"], Ids=gone, **bus)
    request.desired_state = model
    return again(provider, request)


def rest_api(_provider: Any, request: Any) -> dict[str, Any]:
    """The body is imported anew; what was added to the API at run time is lost, as on AWS."""
    model = merged(request)
    if body := model.get("Body"):
        request.aws_client_factory.apigateway.put_rest_api(
            restApiId=model["RestApiId"],
            mode=model.get("Mode", "overwrite"),
            body=(json.dumps(body) if isinstance(body, dict) else body).encode(),
            parameters={"basepath": "ignore"},
        )
    return model


def stage(_provider: Any, request: Any) -> dict[str, Any]:
    model = merged(request)
    changes = [{"op": "replace", "path": "/deploymentId", "value": model["DeploymentId"]}]
    for name, value in (model.get("Variables") or {}).items():
        changes.append({"op": "replace", "path": f"/variables/{name}", "value": str(value)})
    request.aws_client_factory.apigateway.update_stage(
        restApiId=model["RestApiId"], stageName=model["StageName"], patchOperations=changes
    )
    return model


def log_group(_provider: Any, request: Any) -> dict[str, Any]:
    model = merged(request)
    if days := model.get("RetentionInDays"):
        request.aws_client_factory.logs.put_retention_policy(
            logGroupName=model["LogGroupName"], retentionInDays=int(days)
        )
    return model


def key(_provider: Any, request: Any) -> dict[str, Any]:
    model, kms = merged(request), request.aws_client_factory.kms
    if policy := model.get("KeyPolicy"):
        text = policy if isinstance(policy, str) else json.dumps(policy)
        kms.put_key_policy(KeyId=model["KeyId"], PolicyName="default", Policy=text)
    return model


def invoke_config(_provider: Any, request: Any) -> dict[str, Any]:
    names = (
        "FunctionName",
        "Qualifier",
        "MaximumRetryAttempts",
        "MaximumEventAgeInSeconds",
        "DestinationConfig",
    )
    model = merged(request)
    wanted = {name: model[name] for name in names if name in model}
    request.aws_client_factory.lambda_.put_function_event_invoke_config(**wanted)
    return model


UPDATES: dict[str, Update] = {
    "lambda_.resource_providers.lambda_alias:LambdaAliasProvider": alias,
    "lambda_.resource_providers.aws_lambda_eventinvokeconfig:LambdaEventInvokeConfigProvider": invoke_config,
    "events.resource_providers.aws_events_rule:EventsRuleProvider": rule,
    "s3.resource_providers.aws_s3_bucketpolicy:S3BucketPolicyProvider": again,
    "s3.resource_providers.aws_s3_bucket:S3BucketProvider": again,
    "cloudwatch.resource_providers.aws_cloudwatch_alarm:CloudWatchAlarmProvider": again,
    "apigateway.resource_providers.aws_apigateway_restapi:ApiGatewayRestApiProvider": rest_api,
    "apigateway.resource_providers.aws_apigateway_stage:ApiGatewayStageProvider": stage,
    "logs.resource_providers.aws_logs_loggroup:LogsLogGroupProvider": log_group,
    "kms.resource_providers.aws_kms_key:KMSKeyProvider": key,
}


def method(update: Update) -> Callable[[Any, Any], Any]:
    def run(self: Any, request: Any) -> Any:
        return ProgressEvent(status=OperationStatus.SUCCESS, resource_model=update(self, request))

    return run


def provider_class(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(f"{SERVICES}.{module}"), name)


def bucket_settings(s3: Any, model: dict[str, Any]) -> None:
    """Settings that LocalEmu's bucket provider drops: encryption, public access block, lifecycle."""
    bucket = model["BucketName"]
    if encryption := model.get("BucketEncryption"):
        rules = [bucket_rule(entry) for entry in encryption["ServerSideEncryptionConfiguration"]]
        s3.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration={"Rules": rules})
    if block := model.get("PublicAccessBlockConfiguration"):
        wanted = {name: str(value).lower() == "true" for name, value in block.items()}
        s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=wanted)
    if lifecycle := model.get("LifecycleConfiguration"):
        rules = [lifecycle_rule(entry) for entry in lifecycle["Rules"]]
        s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": rules})


def bucket_rule(entry: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"BucketKeyEnabled": str(entry.get("BucketKeyEnabled", False)).lower() == "true"}
    if default := entry.get("ServerSideEncryptionByDefault"):
        found["ApplyServerSideEncryptionByDefault"] = default
    return found


def lifecycle_rule(entry: dict[str, Any]) -> dict[str, Any]:
    """CloudFormation spells some members otherwise than the S3 API."""
    found: dict[str, Any] = {"ID": entry.get("Id", "rule"), "Status": entry["Status"]}
    found["Filter"] = {"Prefix": entry.get("Prefix", "")}
    if days := entry.get("ExpirationInDays"):
        found["Expiration"] = {"Days": int(days)}
    if old := entry.get("NoncurrentVersionExpiration"):
        found["NoncurrentVersionExpiration"] = {name: int(value) for name, value in old.items()}
    if abort := entry.get("AbortIncompleteMultipartUpload"):
        found["AbortIncompleteMultipartUpload"] = {"DaysAfterInitiation": int(abort["DaysAfterInitiation"])}
    return found


def apply() -> None:
    buckets = provider_class("s3.resource_providers.aws_s3_bucket:S3BucketProvider")
    original = buckets.create

    def create(self: Any, request: Any) -> Any:
        event = original(self, request)
        bucket_settings(request.aws_client_factory.s3, event.resource_model)
        return event

    buckets.create = create
    for path, update in UPDATES.items():
        provider_class(path).update = method(update)
