"""The SageMaker model registry's group of a stack, with its packages."""

from __future__ import annotations

from collections.abc import Callable

from isthmus.adapters.aws.errors import passing_trouble
from isthmus.adapters.aws.operator.home import Home, call, listed
from isthmus.model import layout
from isthmus.model.inventory import Thing


class ModelPackages:
    """A group must be empty before it can be deleted, by CloudFormation or by anybody.

    Its description tells that it is isthmus's, and its name whose: others may call theirs so too.
    """

    kind = "model registry"

    def __init__(self, home: Home) -> None:
        self._group = layout.model_group(home.stack)

    @passing_trouble("SageMaker")
    def find(self) -> list[Thing]:
        group = call("sagemaker", "describe_model_package_group", ModelPackageGroupName=self._group)
        if group.get("ModelPackageGroupDescription") != layout.MODEL_GROUP_DESCRIPTION:
            return []
        packages = len(self._packages())
        note = f"{packages} model packages"
        return [Thing(id=self._group, name=self._group, items=1 + packages, kept_by=("models",), note=note)]

    @passing_trouble("SageMaker")
    def remove(self, thing: Thing, report: Callable[[str], None]) -> None:
        for arn in self._packages():
            call("sagemaker", "delete_model_package", ModelPackageName=arn)
        call("sagemaker", "delete_model_package_group", ModelPackageGroupName=thing.id)

    def _packages(self) -> list[str]:
        entries = listed(
            "sagemaker",
            "list_model_packages",
            "ModelPackageSummaryList",
            ModelPackageGroupName=self._group,
        )
        return [str(entry["ModelPackageArn"]) for entry in entries]
