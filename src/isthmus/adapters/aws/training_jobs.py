"""``TrainingJobs`` on SageMaker."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ClientError

from isthmus.adapters.aws.errors import code_of, message_of, passing_trouble
from isthmus.adapters.aws.session import client
from isthmus.ports import TrainingJobStatus

NOT_FOUND = "Requested resource not found"
"""DescribeTrainingJob has no error of its own for a name that nobody took (boto/boto3#2808: ValidationException)."""
ENDED = "is in status"
"""How StopTrainingJob refuses: "The request was rejected because the training job is in status Stopped."
(awslabs/benchmark-ai#928)"""


class SageMakerTrainingJobs:
    """The account's training jobs in this region."""

    @passing_trouble("SageMaker")
    def describe(self, name: str) -> TrainingJobStatus | None:
        try:
            found = client("sagemaker").describe_training_job(TrainingJobName=name)
        except ClientError as error:
            if code_of(error) in ("ValidationException", "ResourceNotFound") and _is_missing(error):
                return None
            raise
        return _status(found)

    @passing_trouble("SageMaker")
    def stop(self, name: str) -> None:
        try:
            client("sagemaker").stop_training_job(TrainingJobName=name)
        except ClientError as error:
            if not (code_of(error) == "ValidationException" and ENDED in message_of(error)):
                raise


def _is_missing(error: ClientError) -> bool:
    return code_of(error) == "ResourceNotFound" or NOT_FOUND in message_of(error)


def _status(found: dict[str, Any]) -> TrainingJobStatus:
    """Of spot the billed seconds are what was saved less than those of the training: "if BillableTimeInSeconds is 100
    and TrainingTimeInSeconds is 500, the savings is 80%" (API reference, DescribeTrainingJob)."""
    return TrainingJobStatus(
        status=found["TrainingJobStatus"],
        secondary=found.get("SecondaryStatus", ""),
        passed=tuple(entry["Status"] for entry in found.get("SecondaryStatusTransitions", [])),
        reason=found.get("FailureReason", ""),
        seconds=float(found.get("TrainingTimeInSeconds", 0)),
        billed_seconds=float(found.get("BillableTimeInSeconds", 0)),
        artifacts=found.get("ModelArtifacts", {}).get("S3ModelArtifacts", ""),
    )
