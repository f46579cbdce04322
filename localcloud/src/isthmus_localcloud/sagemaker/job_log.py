"""A job's output: to a file, to CloudWatch Logs, and through the metric definitions."""

import contextlib
import re
import threading
import time
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from .store import Job, now

GROUP = "/aws/sagemaker/TrainingJobs"
MAX_LINE_BYTES = 256 * 1024


class JobLog:
    """Feed it bytes; it forwards whole lines. Thread-safe."""

    def __init__(self, job: Job, file: Path) -> None:
        self._job, self._file = job, file
        self._logs: Any = None
        self._cloudwatch: Any = None
        self._stream = f"{job.name}/algo-1-{int(time.time())}"
        self._lock, self._rest, self._batch = threading.Lock(), b"", list[dict[str, Any]]()
        definitions = job.request["AlgorithmSpecification"].get("MetricDefinitions", [])
        self._metrics = [(entry["Name"], re.compile(entry["Regex"])) for entry in definitions]
        self._points = list[dict[str, Any]]()

    def open(self, logs: Any, cloudwatch: Any) -> None:
        """Log to CloudWatch as the job's role does, by clients of it; a job that may not runs without."""
        try:
            with contextlib.suppress(logs.exceptions.ResourceAlreadyExistsException):
                logs.create_log_group(logGroupName=GROUP)  # every job shares it
            with contextlib.suppress(logs.exceptions.ResourceAlreadyExistsException):
                # It is there already when an interrupted job goes on.
                logs.create_log_stream(logGroupName=GROUP, logStreamName=self._stream)
            logs.describe_log_streams(logGroupName=GROUP, logStreamNamePrefix=self._stream)
        except ClientError:
            return
        self._logs, self._cloudwatch = logs, cloudwatch

    def feed(self, data: bytes) -> None:
        with self._file.open("ab") as file:
            file.write(data)
        with self._lock:
            *lines, self._rest = (self._rest + data).split(b"\n")
            for line in lines:
                self._take(line)

    def _take(self, line: bytes) -> None:
        text = line[:MAX_LINE_BYTES].decode(errors="replace")
        for name, pattern in self._metrics:
            for match in pattern.finditer(text):
                self._note(name, match.group(1) if match.groups() else match.group(0))
        if text.strip():
            self._batch.append({"timestamp": int(time.time() * 1000), "message": text})

    def _note(self, name: str, text: str) -> None:
        try:
            value = float(text)
        except ValueError:  # the user's pattern matched something that is no number: AWS ignores it too
            return
        self._job.metrics[name] = {"MetricName": name, "Value": value, "Timestamp": now()}
        host = {"Name": "Host", "Value": f"{self._job.name}/algo-1"}
        self._points.append({"MetricName": name, "Value": value, "Timestamp": now(), "Dimensions": [host]})

    def flush(self, last: bool = False) -> None:
        """Send what has gathered; with ``last`` also an unfinished line."""
        with self._lock:
            if last and self._rest:
                self._take(self._rest)
                self._rest = b""
            if self._logs is None:
                return
            batch, self._batch = self._batch, []
            points, self._points = self._points, []
        for start in range(0, len(batch), 1000):
            part = batch[start : start + 1000]
            with contextlib.suppress(ClientError):
                self._logs.put_log_events(logGroupName=GROUP, logStreamName=self._stream, logEvents=part)
        for start in range(0, len(points), 500):
            with contextlib.suppress(ClientError):
                self._cloudwatch.put_metric_data(Namespace=GROUP, MetricData=points[start : start + 500])
