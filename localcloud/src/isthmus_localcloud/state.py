"""The one folder that holds everything a local cloud writes."""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

STATE_VARIABLE = "ISTHMUS_LOCALCLOUD_STATE"


@dataclass(frozen=True)
class StateFolder:
    """Names inside the state folder. Nothing is written outside it."""

    path: Path

    @classmethod
    def of_this_process(cls) -> "StateFolder":
        """The folder of the local cloud that this process is part of."""
        return cls(Path(os.environ[STATE_VARIABLE]))

    @property
    def endpoint_file(self) -> Path:
        """Written last when the cloud is ready, removed first when it goes down."""
        return self.path / "endpoint.json"

    @property
    def supervisor_file(self) -> Path:
        return self.path / "supervisor.json"

    @property
    def failure_file(self) -> Path:
        """One sentence: why the last start failed."""
        return self.path / "failure.txt"

    @property
    def ca_bundle(self) -> Path:
        """What a client of the credentials provider has to trust (``AWS_CA_BUNDLE``), new at each start."""
        return self.path / "ca.pem"

    @property
    def images_file(self) -> Path:
        return self.path / "images.json"

    @property
    def runtimes_file(self) -> Path:
        return self.path / "runtimes.json"

    @property
    def control_socket(self) -> Path:
        return self.path / "control.sock"

    @property
    def runtime_dir(self) -> Path:
        return self.path / "runtime"

    @property
    def edge_runtime_dir(self) -> Path:
        return self.path / "runtime-edge"

    @property
    def lambda_dir(self) -> Path:
        return self.path / "lambda"

    @property
    def jobs_dir(self) -> Path:
        return self.path / "jobs"

    @property
    def edge_dir(self) -> Path:
        return self.path / "edge"

    @property
    def tmp_dir(self) -> Path:
        return self.path / "tmp"

    @property
    def logs_dir(self) -> Path:
        return self.path / "logs"

    @property
    def engine_log(self) -> Path:
        return self.logs_dir / "localcloud.log"

    @property
    def iam_record(self) -> Path:
        """Every decision of IAM, one JSON object a line."""
        return self.logs_dir / "iam.jsonl"

    def function_log(self, name: str) -> Path:
        return self.logs_dir / f"function-{name}.log"

    def job_log(self, name: str) -> Path:
        return self.logs_dir / f"job-{name}.log"

    def forget_earlier_cloud(self) -> None:
        """A start begins with an empty cloud, so nothing of an earlier one may be found under the same
        name: LocalEmu unpacks a layer once per ARN, and a new cloud gives out the same ARNs again."""
        for folder in (self.tmp_dir, self.lambda_dir, self.jobs_dir, self.path / "greengrass"):
            shutil.rmtree(folder, ignore_errors=True)
        for file in (self.iam_record, self.iam_record.with_name(self.iam_record.name + ".1")):
            file.unlink(missing_ok=True)

    def make(self) -> None:
        for folder in (self.path, self.lambda_dir, self.jobs_dir, self.edge_dir, self.tmp_dir, self.logs_dir):
            folder.mkdir(parents=True, exist_ok=True)


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in the file, or None when it is missing or was cut short by a crash."""
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def write_json(path: Path, value: object) -> None:
    """Atomically: a reader sees the old text or the new one."""
    draft = path.with_name(path.name + ".new")
    draft.write_text(json.dumps(value, indent=2) + "\n")
    draft.replace(path)
