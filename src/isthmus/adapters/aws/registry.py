"""``Registry`` on the SageMaker Model Registry."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Literal

from isthmus.adapters.aws.errors import passing_trouble
from isthmus.adapters.aws.session import client


class SageMakerRegistry:
    """One model package group of the stack; a package per release of any model."""

    def __init__(self, group: str) -> None:
        self._group = group

    @passing_trouble("SageMaker")
    def register(
        self, model: str, release: int, source: str, metadata: Mapping[str, str], *, approved: bool = True
    ) -> str:
        description = f"{model} release {release}"
        for page in (
            client("sagemaker")
            .get_paginator("list_model_packages")
            .paginate(ModelPackageGroupName=self._group)
        ):
            for package in page["ModelPackageSummaryList"]:
                if package.get("ModelPackageDescription") == description:
                    return str(package["ModelPackageArn"])
        answer = client("sagemaker").create_model_package(
            ModelPackageGroupName=self._group,
            ModelPackageDescription=description,
            ModelApprovalStatus="Approved" if approved else "PendingManualApproval",
            CustomerMetadataProperties={**metadata, "source": source},
            ClientToken=hashlib.sha256(f"{self._group}/{description}".encode()).hexdigest()[:36],
        )
        return str(answer["ModelPackageArn"])

    @passing_trouble("SageMaker")
    def judge(
        self,
        package: str,
        status: Literal["Approved", "Rejected", "PendingManualApproval"],
        description: str,
    ) -> None:
        client("sagemaker").update_model_package(
            ModelPackageArn=package, ModelApprovalStatus=status, ApprovalDescription=description
        )
