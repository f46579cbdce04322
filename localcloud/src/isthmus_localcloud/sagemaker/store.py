"""Training jobs as DescribeTrainingJob shows them."""

import math
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

# (account, region, name): names are unique for ever, as on AWS.
JOBS: dict[tuple[str, str, str], "Job"] = {}
LOCK = threading.Lock()
ENDED = ("Completed", "Failed", "Stopped")
SPOT_BILLED = 0.4
"""What is billed of a spot training's seconds here: on AWS it changes with the market (API reference,
DescribeTrainingJob: ``BillableTimeInSeconds``), and is never the time itself."""
REQUEST_FIELDS = (
    "TrainingJobName",
    "HyperParameters",
    "AlgorithmSpecification",
    "RoleArn",
    "InputDataConfig",
    "OutputDataConfig",
    "ResourceConfig",
    "VpcConfig",
    "StoppingCondition",
    "EnableNetworkIsolation",
    "EnableInterContainerTrafficEncryption",
    "EnableManagedSpotTraining",
    "CheckpointConfig",
    "DebugHookConfig",
    "ExperimentConfig",
    "Environment",
    "RetryStrategy",
)


def now() -> datetime:
    return datetime.now(UTC)


@dataclass
class Job:
    """One job. ``status`` and ``secondary`` follow the API reference of DescribeTrainingJob."""

    account: str
    region: str
    request: dict[str, Any]
    status: str = "InProgress"
    secondary: str = "Starting"
    failure_reason: str | None = None
    artifacts: str | None = None
    created: datetime = field(default_factory=now)
    started: datetime | None = None
    ended: datetime | None = None
    transitions: list[dict[str, Any]] = field(default_factory=list)
    metrics: dict[str, dict[str, Any]] = field(default_factory=dict)
    stop_requested: threading.Event = field(default_factory=threading.Event)

    @property
    def name(self) -> str:
        return str(self.request["TrainingJobName"])

    @property
    def arn(self) -> str:
        return f"arn:aws:sagemaker:{self.region}:{self.account}:training-job/{self.name.lower()}"

    def move(self, secondary: str, message: str) -> None:
        """Enter a secondary status, closing the one before."""
        moment = now()
        if self.transitions:
            self.transitions[-1]["EndTime"] = moment
        self.transitions.append({"Status": secondary, "StartTime": moment, "StatusMessage": message})
        self.secondary = secondary

    def end(self, status: str, secondary: str, reason: str | None = None) -> None:
        with LOCK:
            self.move(secondary, reason or f"Training job {status.lower()}")
            self.transitions[-1]["EndTime"] = self.ended = now()
            self.failure_reason = reason[:1024] if reason else None
            self.status = status

    def describe(self) -> dict[str, Any]:
        with LOCK:
            answer = {key: self.request[key] for key in REQUEST_FIELDS if key in self.request}
            answer |= {
                "TrainingJobArn": self.arn,
                "TrainingJobStatus": self.status,
                "SecondaryStatus": self.secondary,
                "CreationTime": self.created,
                "LastModifiedTime": self.ended or self.created,
                "SecondaryStatusTransitions": [dict(entry) for entry in self.transitions],
                "FinalMetricDataList": list(self.metrics.values()),
            }
            optional: dict[str, Any] = {
                "ModelArtifacts": {"S3ModelArtifacts": self.artifacts} if self.artifacts else None,
                "FailureReason": self.failure_reason,
                "TrainingStartTime": self.started,
                "TrainingEndTime": self.ended,
            }
            if self.started and self.ended:
                seconds = int((self.ended - self.started).total_seconds())
                billed = seconds * (SPOT_BILLED if self.request.get("EnableManagedSpotTraining") else 1)
                optional |= {"TrainingTimeInSeconds": seconds, "BillableTimeInSeconds": math.ceil(billed)}
            return answer | {key: value for key, value in optional.items() if value is not None}

    def summary(self) -> dict[str, Any]:
        names = ("TrainingJobName", "TrainingJobArn", "CreationTime", "TrainingEndTime", "TrainingJobStatus")
        full = self.describe()
        return {name: full[name] for name in (*names, "LastModifiedTime", "SecondaryStatus") if name in full}


def running_jobs() -> list[Job]:
    return [job for job in list(JOBS.values()) if job.status not in ENDED]
