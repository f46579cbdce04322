"""The greengrassv2 provider: botocore's model parses and serialises, these functions answer."""

from localemu.aws.skeleton import Skeleton
from localemu.aws.spec import load_service
from localemu.services.plugins import Service, aws_provider

from . import components, deployments

OPERATIONS = {
    "CreateComponentVersion": components.create_component_version,
    "DescribeComponent": components.describe_component,
    "GetComponent": components.get_component,
    "GetComponentVersionArtifact": components.get_artifact,
    "ListComponents": components.list_components,
    "ListComponentVersions": components.list_component_versions,
    "DeleteComponent": components.delete_component,
    "ListTagsForResource": components.list_tags,
    "TagResource": components.tag_resource,
    "UntagResource": components.untag_resource,
    "CreateDeployment": deployments.create_deployment,
    "GetDeployment": deployments.get_deployment,
    "ListDeployments": deployments.list_deployments,
    "CancelDeployment": deployments.cancel_deployment,
    "DeleteDeployment": deployments.delete_deployment,
    "GetCoreDevice": deployments.get_core_device,
    "ListCoreDevices": deployments.list_core_devices,
    "DeleteCoreDevice": deployments.delete_core_device,
    "ListEffectiveDeployments": deployments.list_effective_deployments,
    "ListInstalledComponents": deployments.list_installed_components,
}


@aws_provider()  # type: ignore[untyped-decorator]
def greengrassv2() -> Service:
    return Service("greengrassv2", skeleton=Skeleton(load_service("greengrassv2"), OPERATIONS))
