"""Prefixes of ``aws-sdk`` errors: Step Functions names services as the AWS SDK for Java 2 does (Ssm, not
SSM)."""

from localemu.services.stepfunctions.asl.component.state.state_execution.state_task.service import (
    state_task_service_aws_sdk as engine,
)

NAMES = {name.lower(): name for name in ("Ssm", "Sqs", "Kms", "Iam", "Sns", "Sts", "Ec2", "Ecr", "Iot", "S3")}


def apply() -> None:
    """LocalEmu knows a few by name and takes the rest from botocore, in capitals."""
    engine._SERVICE_ERROR_NAMES.update(NAMES)
