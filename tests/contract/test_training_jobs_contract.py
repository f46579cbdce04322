"""Training jobs are described alike by the fake and by SageMaker, and stopping one that has ended changes nothing."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.stub import Stubber

from isthmus.adapters.aws.session import client
from isthmus.adapters.aws.training_jobs import SageMakerTrainingJobs
from isthmus.adapters.local.training_jobs import MemoryTrainingJobs
from isthmus.errors import PermissionMissing, Unavailable
from isthmus.ports import TrainingJobStatus

ARN = "arn:aws:sagemaker:eu-west-1:123456789012:training-job/shop-1"
MOMENT = 1_800_000_000
DESCRIBED: dict[str, Any] = {
    "TrainingJobName": "shop-1",
    "TrainingJobArn": ARN,
    "ModelArtifacts": {"S3ModelArtifacts": "s3://data/out/shop-1/output/model.tar.gz"},
    "TrainingJobStatus": "Completed",
    "SecondaryStatus": "Completed",
    "AlgorithmSpecification": {"TrainingInputMode": "File"},
    "ResourceConfig": {"VolumeSizeInGB": 30},
    "StoppingCondition": {},
    "CreationTime": MOMENT,
    "SecondaryStatusTransitions": [
        {"Status": "Training", "StartTime": MOMENT},
        {"Status": "Completed", "StartTime": MOMENT},
    ],
    "TrainingTimeInSeconds": 200,
    "BillableTimeInSeconds": 61,
}
COMPLETED = TrainingJobStatus(
    status="Completed",
    secondary="Completed",
    passed=("Training", "Completed"),
    seconds=200.0,
    billed_seconds=61.0,
    artifacts="s3://data/out/shop-1/output/model.tar.gz",
)


def test_a_job_is_described(aws: None) -> None:
    with Stubber(client("sagemaker")) as stub:
        stub.add_response("describe_training_job", DESCRIBED, {"TrainingJobName": "shop-1"})
        assert SageMakerTrainingJobs().describe("shop-1") == COMPLETED
    memory = MemoryTrainingJobs()
    memory.jobs["shop-1"] = COMPLETED
    assert memory.describe("shop-1") == COMPLETED


def test_there_is_no_such_job(aws: None) -> None:
    with Stubber(client("sagemaker")) as stub:
        said = "Requested resource not found."
        stub.add_client_error("describe_training_job", "ValidationException", said, 400)
        assert SageMakerTrainingJobs().describe("shop-1") is None
    assert MemoryTrainingJobs().describe("shop-1") is None


def test_a_job_is_stopped_and_one_that_has_ended_stays_as_it_is(aws: None) -> None:
    with Stubber(client("sagemaker")) as stub:
        stub.add_response("stop_training_job", {}, {"TrainingJobName": "shop-1"})
        said = "The request was rejected because the training job is in status Stopped."
        stub.add_client_error("stop_training_job", "ValidationException", said, 400)
        jobs = SageMakerTrainingJobs()
        jobs.stop("shop-1")
        jobs.stop("shop-1")
        stub.assert_no_pending_responses()
    memory = MemoryTrainingJobs()
    memory.jobs = {"runs": TrainingJobStatus("InProgress"), "ended": COMPLETED}
    memory.stop("runs")
    memory.stop("ended")
    assert (memory.jobs["runs"].status, memory.jobs["ended"]) == ("Stopped", COMPLETED)


@pytest.mark.parametrize(
    ("code", "kind"), [("ThrottlingException", Unavailable), ("AccessDeniedException", PermissionMissing)]
)
def test_what_passes_and_what_is_forbidden_differ(aws: None, code: str, kind: type[Exception]) -> None:
    with Stubber(client("sagemaker")) as stub:
        stub.add_client_error("describe_training_job", code, "no", 400)
        with pytest.raises(kind):
            SageMakerTrainingJobs().describe("shop-1")
