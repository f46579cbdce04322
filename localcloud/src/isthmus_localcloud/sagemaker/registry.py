"""The model registry: groups, and versioned packages that need no InferenceSpecification."""

import threading
from datetime import UTC, datetime
from typing import Any

from localemu.aws.api import RequestContext

from .training import Request, refuse

GROUPS: dict[str, Request] = {}
PACKAGES: dict[str, Request] = {}
LOCK = threading.Lock()
SUMMARY_FIELDS = (
    "ModelPackageGroupName",
    "ModelPackageVersion",
    "ModelPackageArn",
    "ModelPackageDescription",
    "CreationTime",
    "ModelPackageStatus",
    "ModelApprovalStatus",
)
UPDATABLE = ("ModelApprovalStatus", "ApprovalDescription", "SourceUri", "InferenceSpecification", "ModelCard")


def arn(context: RequestContext, kind: str, name: str) -> str:
    return f"arn:aws:sagemaker:{context.region}:{context.account_id}:{kind}/{name}"


def group_arn(context: RequestContext, name: str) -> str:
    return name if name.startswith("arn:") else arn(context, "model-package-group", name)


def find_group(context: RequestContext, name: str) -> Request:
    group = GROUPS.get(group_arn(context, name))
    if group is None:
        raise refuse(f"Model Package Group {group_arn(context, name)} does not exist.")
    return group


def find_package(context: RequestContext, name: str) -> Request:
    key = name if name.startswith("arn:") else arn(context, "model-package", name)
    if key not in PACKAGES:
        raise refuse(f"ModelPackage {key} does not exist.")
    return PACKAGES[key]


def create_group(context: RequestContext, request: Request) -> Request:
    key = arn(context, "model-package-group", request["ModelPackageGroupName"])
    with LOCK:
        if key in GROUPS:
            raise refuse(f"Model Package Group already exists: {key}")
        GROUPS[key] = {
            **request,
            "ModelPackageGroupArn": key,
            "CreationTime": datetime.now(UTC),
            "ModelPackageGroupStatus": "Completed",
            "CreatedBy": {},
        }
    return {"ModelPackageGroupArn": key}


def describe_group(context: RequestContext, request: Request) -> Request:
    return {k: v for k, v in find_group(context, request["ModelPackageGroupName"]).items() if k != "Tags"}


def delete_group(context: RequestContext, request: Request) -> Request:
    group = find_group(context, request["ModelPackageGroupName"])
    with LOCK:
        if packages_of(context, group["ModelPackageGroupName"]):
            raise refuse(
                "Model Package Group cannot be deleted because it still contains Model Packages.",
                "ConflictException",
            )
        del GROUPS[group["ModelPackageGroupArn"]]
    return {}


def list_groups(context: RequestContext, request: Request) -> Request:
    names = (
        "ModelPackageGroupName",
        "ModelPackageGroupArn",
        "ModelPackageGroupDescription",
        "CreationTime",
        "ModelPackageGroupStatus",
    )
    prefix = arn(context, "model-package-group", "")
    found = [group for key, group in GROUPS.items() if key.startswith(prefix)]
    found = [group for group in found if request.get("NameContains", "") in group["ModelPackageGroupName"]]
    return {"ModelPackageGroupSummaryList": [{n: g[n] for n in names if n in g} for g in found]}


def packages_of(context: RequestContext, group: str) -> list[Request]:
    prefix = arn(context, "model-package", f"{group}/")
    return [package for key, package in PACKAGES.items() if key.startswith(prefix)]


def create_package(context: RequestContext, request: Request) -> Request:
    """Versions count up per group and are never given twice."""
    if "ModelPackageGroupName" not in request:
        raise refuse("the local cloud keeps versioned model packages only: ModelPackageGroupName is needed")
    group = find_group(context, request["ModelPackageGroupName"])
    name = group["ModelPackageGroupName"]
    with LOCK:
        version = group["next_version"] = group.get("next_version", 0) + 1
        key = arn(context, "model-package", f"{name}/{version}")
        PACKAGES[key] = {
            "ModelApprovalStatus": "PendingManualApproval",
            **{k: v for k, v in request.items() if k not in ("Tags", "ClientToken")},
            "ModelPackageName": f"{name}/{version}",
            "ModelPackageGroupName": name,
            "ModelPackageVersion": version,
            "ModelPackageArn": key,
            "CreationTime": datetime.now(UTC),
            "ModelPackageStatus": "Completed",
            "ModelPackageStatusDetails": {"ValidationStatuses": [], "ImageScanStatuses": []},
            "CreatedBy": {},
        }
    return {"ModelPackageArn": key}


def describe_package(context: RequestContext, request: Request) -> Request:
    return find_package(context, request["ModelPackageName"])


def update_package(context: RequestContext, request: Request) -> Request:
    package = find_package(context, request["ModelPackageArn"])
    with LOCK:
        package.update({name: request[name] for name in UPDATABLE if name in request})
        metadata = {
            **package.get("CustomerMetadataProperties", {}),
            **request.get("CustomerMetadataProperties", {}),
        }
        for name in request.get("CustomerMetadataPropertiesToRemove", []):
            metadata.pop(name, None)
        if metadata:
            package["CustomerMetadataProperties"] = metadata
        package["LastModifiedTime"] = datetime.now(UTC)
        package["LastModifiedBy"] = {}
    return {"ModelPackageArn": package["ModelPackageArn"]}


def delete_package(context: RequestContext, request: Request) -> Request:
    package = find_package(context, request["ModelPackageName"])
    with LOCK:
        PACKAGES.pop(package["ModelPackageArn"], None)
    return {}


def list_packages(context: RequestContext, request: Request) -> Request:
    """Filters by group and approval; sorted by creation, newest first unless asked otherwise."""
    group = request.get("ModelPackageGroupName")
    if group:
        found = packages_of(context, find_group(context, group)["ModelPackageGroupName"])
    else:
        found = [p for key, p in PACKAGES.items() if key.startswith(arn(context, "model-package", ""))]
    wanted = request.get("ModelApprovalStatus")
    found = [p for p in found if wanted in (None, p["ModelApprovalStatus"])]
    found.sort(
        key=lambda p: (p["CreationTime"], p["ModelPackageVersion"]),
        reverse=request.get("SortOrder") != "Ascending",
    )
    start = int(request.get("NextToken") or 0)
    size = request.get("MaxResults", 100)
    answer: Request = {"ModelPackageSummaryList": [summary(p) for p in found[start : start + size]]}
    if start + size < len(found):
        answer["NextToken"] = str(start + size)
    return answer


def summary(package: Request) -> dict[str, Any]:
    return {name: package[name] for name in SUMMARY_FIELDS if name in package}
