"""CreateTrainingJob and its relatives."""

import re
import threading
from typing import Any

from localemu.aws.api import CommonServiceException, RequestContext

from ..state import StateFolder
from .runner import JobRunner
from .store import ENDED, JOBS, LOCK, Job

NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")
Request = dict[str, Any]


def refuse(message: str, code: str = "ValidationException") -> CommonServiceException:
    return CommonServiceException(code, message, status_code=400, sender_fault=True)


def find(context: RequestContext, name: str) -> Job:
    """Raises ValidationException as AWS does, which has no not-found error here."""
    job = JOBS.get((context.account_id, context.region, name))
    if job is None:
        raise refuse("Requested resource not found.")
    return job


def check(request: Request) -> None:
    """What AWS refuses at once, and what one machine cannot do."""
    name = request["TrainingJobName"]
    if not NAME.fullmatch(name):
        raise refuse(
            f"1 validation error detected: Value '{name}' at 'trainingJobName' failed to satisfy constraint: "
            "Member must satisfy regular expression pattern: [a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}"
        )
    stopping = request.get("StoppingCondition", {})
    if request.get("EnableManagedSpotTraining"):
        longest = stopping.get("MaxRuntimeInSeconds", 86400)
        if stopping.get("MaxWaitTimeInSeconds", 0) < longest:
            raise refuse(
                "Invalid MaxWaitTimeInSeconds. It must be present and be greater than or equal to "
                "MaxRuntimeInSeconds"
            )
    elif "MaxWaitTimeInSeconds" in stopping:
        raise refuse("MaxWaitTimeInSeconds is only supported if EnableManagedSpotTraining is set to true")
    if request["ResourceConfig"].get("InstanceCount", 1) != 1:
        raise refuse("the local cloud runs training jobs on one instance only", "ResourceLimitExceeded")
    for channel in request.get("InputDataConfig", []):
        if "S3DataSource" not in channel.get("DataSource", {}):
            raise refuse("the local cloud reads channels from S3 only")


def create_training_job(context: RequestContext, request: Request) -> Request:
    check(request)
    job = Job(context.account_id, context.region, dict(request))
    key = (job.account, job.region, job.name)
    with LOCK:
        if key in JOBS:
            raise refuse(
                "Training job names must be unique within an AWS account and region, and a training job "
                f"with this name already exists ({job.arn})",
                "ResourceInUse",
            )
        JOBS[key] = job
    job.move("Starting", "Preparing the instances for training")
    runner = JobRunner(job, StateFolder.of_this_process())
    threading.Thread(target=runner.run, name=f"job-{job.name}", daemon=True).start()
    return {"TrainingJobArn": job.arn}


def describe_training_job(context: RequestContext, request: Request) -> Request:
    return find(context, request["TrainingJobName"]).describe()


def stop_training_job(context: RequestContext, request: Request) -> Request:
    job = find(context, request["TrainingJobName"])
    with LOCK:
        if job.status in ENDED:
            raise refuse(f"The request was rejected because the training job is in status {job.status}.")
        job.status = "Stopping"
    job.stop_requested.set()
    return {}


def list_training_jobs(context: RequestContext, request: Request) -> Request:
    """Newest first; NameContains and StatusEquals are honoured, paging is not needed here."""
    jobs = [
        job
        for (account, region, _), job in JOBS.items()
        if (account, region) == (context.account_id, context.region)
    ]
    jobs = [job for job in jobs if request.get("NameContains", "") in job.name]
    jobs = [job for job in jobs if request.get("StatusEquals", job.status) == job.status]
    jobs.sort(key=lambda job: job.created, reverse=True)
    return {"TrainingJobSummaries": [job.summary() for job in jobs[: request.get("MaxResults", 100)]]}
