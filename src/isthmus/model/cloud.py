"""What a stack's administrator lets SageMaker train, and how."""

from __future__ import annotations

import re
from typing import Annotated, Literal

import msgspec

InstanceType = Annotated[str, msgspec.Meta(pattern=r"^ml\.[a-z0-9-]+\.[a-z0-9]+(?!\n)$")]
IMAGE_URI = re.compile(
    r"[0-9]{12}\.dkr\.ecr\.[a-z0-9-]+\.amazonaws\.com(\.cn)?/[a-z0-9][a-z0-9._/-]*[:@][A-Za-z0-9._:-]+"
)
"""SageMaker pulls training images from Amazon ECR (CreateTrainingJob, ``TrainingImage``)."""


class CloudTraining(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``instance_types``: those that may be used, none of which is before there is an image to run.

    ``images``: the training image of a framework, by ``name-version``. ``spot``: whether capacity that may be taken
    back is tried first. ``volume_gb``: of each instance's disk. ``experiment``: an experiment of SageMaker's to which
    each training is added.
    """

    schema: Literal["isthmus/sagemaker/1"] = "isthmus/sagemaker/1"
    instance_types: tuple[InstanceType, ...] = ("ml.m5.xlarge", "ml.g4dn.xlarge")
    images: dict[str, str] = {}
    spot: bool = True
    volume_gb: Annotated[int, msgspec.Meta(ge=1, le=16_384)] = 30
    experiment: Annotated[str, msgspec.Meta(pattern=r"^$|^[a-zA-Z0-9](-*[a-zA-Z0-9]){0,119}(?!\n)$")] = ""

    def __post_init__(self) -> None:
        for name, uri in self.images.items():
            if not IMAGE_URI.fullmatch(uri):
                raise ValueError(
                    f"the image of {name} needs an address of Amazon ECR, "
                    f"ACCOUNT.dkr.ecr.REGION.amazonaws.com/NAME:TAG, and is {uri}"
                )
