"""A job's output: to a file, to CloudWatch Logs, and through the metric definitions."""

import contextlib
import re
import threading
import time
from pathlib import Path
from typing import Any

from .store import Job, now

GROUP = "/aws/sagemaker/TrainingJobs"
MAX_LINE_BYTES = 256 * 1024


class JobLog:
    """Feed it bytes; it forwards whole lines. Thread-safe."""

    def __init__(self, job: Job, file: Path, logs: Any) -> None:
        self._job, self._file, self._logs = job, file, logs
        self._stream = f"{job.name}/algo-1-{int(time.time())}"
        self._lock, self._rest, self._batch = threading.Lock(), b"", list[dict[str, Any]]()
        definitions = job.request["AlgorithmSpecification"].get("MetricDefinitions", [])
        self._metrics = [(entry["Name"], re.compile(entry["Regex"])) for entry in definitions]
        self._create_stream()

    def _create_stream(self) -> None:
        with contextlib.suppress(self._logs.exceptions.ResourceAlreadyExistsException):
            self._logs.create_log_group(logGroupName=GROUP)  # every job shares it
        self._logs.create_log_stream(logGroupName=GROUP, logStreamName=self._stream)

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

    def flush(self, last: bool = False) -> None:
        """Send what has gathered; with ``last`` also an unfinished line."""
        with self._lock:
            if last and self._rest:
                self._take(self._rest)
                self._rest = b""
            batch, self._batch = self._batch, []
        for start in range(0, len(batch), 1000):
            part = batch[start : start + 1000]
            self._logs.put_log_events(logGroupName=GROUP, logStreamName=self._stream, logEvents=part)
