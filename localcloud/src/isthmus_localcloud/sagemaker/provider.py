"""The sagemaker provider: our operations over moto's."""

from typing import Any

from localemu.aws.api import RequestContext
from localemu.aws.skeleton import Skeleton
from localemu.aws.spec import load_service
from localemu.services.moto import MotoOnlyDispatcher, call_moto
from localemu.services.plugins import Service, aws_provider

from . import registry, training
from .store import JOBS

OPERATIONS = {
    "CreateTrainingJob": training.create_training_job,
    "DescribeTrainingJob": training.describe_training_job,
    "StopTrainingJob": training.stop_training_job,
    "ListTrainingJobs": training.list_training_jobs,
    "CreateModelPackageGroup": registry.create_group,
    "DescribeModelPackageGroup": registry.describe_group,
    "DeleteModelPackageGroup": registry.delete_group,
    "ListModelPackageGroups": registry.list_groups,
    "CreateModelPackage": registry.create_package,
    "DescribeModelPackage": registry.describe_package,
    "UpdateModelPackage": registry.update_package,
    "DeleteModelPackage": registry.delete_package,
    "ListModelPackages": registry.list_packages,
}


def tagged(arn: str) -> list[dict[str, str]] | None:
    """The tag list of one of our resources, or None when moto holds it."""
    for job in JOBS.values():
        if job.arn == arn:
            return job.request.setdefault("Tags", [])  # type: ignore[no-any-return]
    holder = registry.GROUPS.get(arn) or registry.PACKAGES.get(arn)
    return holder.setdefault("Tags", []) if holder is not None else None


def list_tags(context: RequestContext, request: dict[str, Any]) -> Any:
    tags = tagged(request["ResourceArn"])
    return call_moto(context) if tags is None else {"Tags": tags}


def add_tags(context: RequestContext, request: dict[str, Any]) -> Any:
    tags = tagged(request["ResourceArn"])
    if tags is None:
        return call_moto(context)
    new = {tag["Key"] for tag in request["Tags"]}
    tags[:] = [tag for tag in tags if tag["Key"] not in new] + list(request["Tags"])
    return {"Tags": tags}


@aws_provider(name="isthmus")  # type: ignore[untyped-decorator]
def sagemaker() -> Service:
    service = load_service("sagemaker")
    table = {**MotoOnlyDispatcher(service), **OPERATIONS, "ListTags": list_tags, "AddTags": add_tags}
    return Service("sagemaker", skeleton=Skeleton(service, table))
