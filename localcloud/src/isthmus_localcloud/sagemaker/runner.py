"""Runs one training job from Starting to its end, in a thread of LocalEmu's process.

A spot job may be interrupted (``isthmus-localcloud interrupt``): its program gets SIGTERM, its checkpoints
stay in S3, and it starts again when there is capacity (developer guide, "Managed Spot Training in Amazon
SageMaker AI").
"""

import logging
import os
import shlex
import shutil
import signal
import subprocess
import threading
import time
from typing import Any

from localemu import config
from localemu.aws.connect import connect_to
from localemu.utils.aws.client_types import ServicePrincipal

from ..lambdas.environment import Output
from ..processes import Program, kill_group, launch, namespaces_work
from ..state import StateFolder, read_json
from . import contract
from .events import publish
from .job_log import JobLog
from .pipes import Pipes, make_pipe, objects_of
from .registry_pull import pull
from .s3_files import FolderMirror, download_manifest, download_prefix, upload_archive
from .store import Job, now

LOG = logging.getLogger(__name__)
GRACE_VARIABLE = "ISTHMUS_LOCALCLOUD_STOP_GRACE_SECONDS"
GRACE_SECONDS = 120.0
POLL_SECONDS = 0.05
SYNC_SECONDS = 1.0
INTERRUPT = "interrupt"
"""A file in a job's folder: its spot capacity is gone, for as many seconds as it says."""
DEFAULT_MAX_RUNTIME_SECONDS = 86400
SAGEMAKER = ServicePrincipal("sagemaker")
HOSTS_LINE = f"127.0.0.1 localhost {contract.HOST}\n"


class JobError(Exception):
    """The job failed; the text becomes its FailureReason."""


class JobRunner:
    """One attempt at one job."""

    def __init__(self, job: Job, state: StateFolder) -> None:
        self.job, self.state, self.request = job, state, job.request
        self.folder = state.jobs_dir / job.name
        self.ml = self.folder / "ml"
        self._own = connect_to(aws_access_key_id=job.account, region_name=job.region)
        self.credentials: dict[str, str] = {}
        self.s3: Any = None
        self.log = JobLog(job, state.job_log(job.name))
        self.mirror: FolderMirror | None = None

    def run(self) -> None:
        """Never raises: whatever goes wrong ends the job as Failed with a reason."""
        try:
            reason = self._train()
            if reason != "Interrupted":
                self._upload()
            self._finish("Stopped" if reason == "Interrupted" else reason)
        except JobError as error:
            if str(error) == "MaxWaitTimeExceeded":
                self.job.end("Stopped", str(error))
            else:
                self.job.end("Failed", "Failed", str(error))
        except Exception as error:  # a job must end, or everything that waits on it waits for ever
            LOG.exception("training job %s", self.job.name)
            self.job.end("Failed", "Failed", f"ClientError: {error}")
        finally:
            self.log.flush(last=True)
            shutil.rmtree(self.folder, ignore_errors=True)
            publish(self._own, self.job)

    def _train(self) -> str | None:
        """Run it as often as capacity comes back. Returns as ``_execute``; Interrupted: stopped meanwhile."""
        while True:
            self._prepare()
            reason = self._execute()
            if reason != "Interrupted" or not self._capacity_comes_back():
                return reason

    def _capacity_comes_back(self) -> bool:
        """Whether it does before somebody stops the job, or it has waited too long."""
        seconds = float((self.folder / INTERRUPT).read_text() or "60")
        self._move("Interrupted", "Spot capacity was taken back")
        limit = self.request.get("StoppingCondition", {}).get("MaxWaitTimeInSeconds", float("inf"))
        left = limit - (now() - self.job.created).total_seconds()
        if self.job.stop_requested.wait(max(0.0, min(seconds, left))):
            return False
        if left <= seconds:
            raise JobError("MaxWaitTimeExceeded")
        shutil.rmtree(self.folder)
        self._move("Starting", "Preparing the instances for training")
        return True

    def _move(self, secondary: str, message: str) -> None:
        self.job.move(secondary, message)
        publish(self._own, self.job)

    def _command(self) -> list[str]:
        image = self.request["AlgorithmSpecification"].get("TrainingImage", "")
        name = image.rpartition("/")[2].partition("@")[0].partition(":")[0]
        command = (read_json(self.state.images_file) or {}).get(name)
        if not command:
            raise JobError(
                f"ClientError: no command is known for the training image {name!r}: start the cloud with "
                f"--image {name}=COMMAND, or name it in {self.state.images_file.name}"
            )
        arguments = self.request["AlgorithmSpecification"].get("ContainerArguments", [])
        words = [*(shlex.split(command) if isinstance(command, str) else command), *arguments]
        entrypoint = self.request["AlgorithmSpecification"].get("ContainerEntrypoint")
        return self._entered(entrypoint, words) if entrypoint else words

    def _entered(self, entrypoint: list[str], command: list[str]) -> list[str]:
        """The job's own entry point; what it may start is the image's ``train``, as in a framework image.

        It sets the toolkit's variables anew: a shell drops those whose names have a dash.
        """
        ml = contract.PREFIX if namespaces_work() else str(self.ml)
        given = [f"{name}={value}" for name, value in contract.variables(self.request, ml).items()]
        train = self.folder / "bin/train"
        train.parent.mkdir(exist_ok=True)
        train.write_text(f"#!/bin/sh\nexec {shlex.join(['env', *given, *command])}\n")
        train.chmod(0o755)
        return [part.replace(contract.PREFIX, ml, 1) for part in entrypoint]

    def _assume_role(self) -> None:
        """Channels, checkpoints and the model are read and written with the job's role, and by it alone."""
        sts = self._own.sts.request_metadata(service_principal=SAGEMAKER)
        role = self.request["RoleArn"]
        self.credentials = sts.assume_role(RoleArn=role, RoleSessionName="SageMaker")["Credentials"]
        as_role = connect_to(
            aws_access_key_id=self.credentials["AccessKeyId"],
            aws_secret_access_key=self.credentials["SecretAccessKey"],
            aws_session_token=self.credentials["SessionToken"],
            region_name=self.job.region,
        )
        self.s3 = as_role.s3
        self.log.open(as_role.logs, as_role.cloudwatch)
        pull(as_role.ecr, self.request["AlgorithmSpecification"].get("TrainingImage", ""))

    def _prepare(self) -> None:
        self._assume_role()
        self._move("Downloading", "Downloading the training data")
        channels = self.request.get("InputDataConfig", [])
        piped = self._piped()
        contract.make_tree(self.ml, [channel["ChannelName"] for channel in channels if channel not in piped])
        contract.write_config(self.ml, self.request)
        for channel in channels:
            source = channel["DataSource"]["S3DataSource"]
            uri, folder = source["S3Uri"], self.ml / "input/data" / channel["ChannelName"]
            if channel in piped and objects_of(self.s3, source):
                make_pipe(folder.parent, folder.name)
                continue
            listed = source.get("S3DataType") == "ManifestFile"
            if (download_manifest if listed else download_prefix)(self.s3, uri, folder) == 0:
                raise JobError(f"ClientError: Data download failed: no S3 objects found under {uri}")
        if checkpoints := self.request.get("CheckpointConfig"):
            download_prefix(self.s3, checkpoints["S3Uri"].rstrip("/") + "/", self.ml / "checkpoints")
            self.mirror = FolderMirror(self.s3, self.ml / "checkpoints", checkpoints["S3Uri"])

    def _piped(self) -> list[dict[str, Any]]:
        channels = self.request.get("InputDataConfig", [])
        return [channel for channel in channels if contract.input_mode(self.request, channel) == "Pipe"]

    def _program(self) -> Program:
        isolated = namespaces_work()
        ml = contract.PREFIX if isolated else str(self.ml)
        for name in ("tmp", "root"):
            (self.folder / name).mkdir(exist_ok=True)
        hosts = self.folder / "hosts"
        hosts.write_text(HOSTS_LINE)
        env = {
            "PATH": f"{self.folder / 'bin'}:{os.environ.get('PATH', os.defpath)}",
            "LANG": "C.UTF-8",
            "HOME": str(self.folder / "tmp"),
            "TMPDIR": str(self.folder / "tmp"),
            "PYTHONUNBUFFERED": "1",
            "AWS_ACCESS_KEY_ID": self.credentials["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": self.credentials["SecretAccessKey"],
            "AWS_SESSION_TOKEN": self.credentials["SessionToken"],
            "AWS_REGION": self.job.region,
            "AWS_DEFAULT_REGION": self.job.region,
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{config.GATEWAY_LISTEN[0].port}",
            "TRAINING_JOB_NAME": self.job.name,
            "TRAINING_JOB_ARN": self.job.arn,
            **contract.variables(self.request, ml),
            **self.request.get("Environment", {}),
        }
        grafts = {contract.PREFIX: (self.ml, False), "/etc/hosts": (hosts, True)}
        return Program(self._command(), env, ml, self.folder / "root", grafts)

    def _execute(self) -> str | None:
        """Wait for the program. Returns why it ended: None, or a secondary status."""
        program = self._program()
        output = Output(self.log.feed)
        self.job.started = self.job.started or now()
        self._move("Training", "Training image download completed. Training in progress.")
        process = launch(program, output.write_fd)
        os.close(output.write_fd)
        follower = threading.Thread(target=output.follow, name="job-log", daemon=True)
        follower.start()
        pipes = Pipes(self.s3, self._piped(), self.ml / "input/data", lambda: kill_group(process))
        with pipes:
            reason = self._await(process)
            kill_group(process)
        follower.join(timeout=5)
        if pipes.failure:
            raise JobError(pipes.failure)
        if reason is None and process.returncode != 0:
            raise JobError(self._failure(process.returncode))
        return reason

    def _await(self, process: subprocess.Popen[bytes]) -> str | None:
        limit = self.request.get("StoppingCondition", {}).get(
            "MaxRuntimeInSeconds", DEFAULT_MAX_RUNTIME_SECONDS
        )
        deadline, next_sync = time.monotonic() + limit, 0.0
        reason: str | None = None
        kill_at = float("inf")
        while process.poll() is None:
            if reason is None and (reason := self._reason(deadline)):
                if reason != "Interrupted":
                    self._move("Stopping", "Stopping the training job")
                process.send_signal(signal.SIGTERM)
                kill_at = time.monotonic() + float(os.environ.get(GRACE_VARIABLE) or GRACE_SECONDS)
            if time.monotonic() > kill_at:
                kill_group(process)
            if time.monotonic() > next_sync:
                next_sync = time.monotonic() + SYNC_SECONDS
                self._sync()
            self.job.stop_requested.wait(POLL_SECONDS) if reason is None else time.sleep(POLL_SECONDS)
        self._sync()
        return reason

    def _reason(self, deadline: float) -> str | None:
        if self.job.stop_requested.is_set():
            return "Stopped"
        if self.request.get("EnableManagedSpotTraining") and (self.folder / INTERRUPT).exists():
            return "Interrupted"
        return "MaxRuntimeExceeded" if time.monotonic() > deadline else None

    def _sync(self) -> None:
        self.log.flush()
        if self.mirror:
            self.mirror.push()

    def _failure(self, code: int) -> str:
        """The failure file's first kilobyte, as DescribeTrainingJob documents, and the exit code."""
        file = self.ml / "output/failure"
        text = (
            file.read_bytes()[:1024].decode(errors="replace") if file.is_file() else "ExecuteUserScriptError"
        )
        shown = code if code >= 0 else 128 - code
        return f"AlgorithmError: {text}, exit code: {shown}"

    def _upload(self) -> None:
        self._move("Uploading", "Uploading generated training model")
        base = f"{self.request['OutputDataConfig']['S3OutputPath'].rstrip('/')}/{self.job.name}/output"
        upload_archive(self.s3, self.ml / "model", f"{base}/model.tar.gz", self.folder)
        if any((self.ml / "output/data").iterdir()):
            upload_archive(self.s3, self.ml / "output/data", f"{base}/output.tar.gz", self.folder)
        self.job.artifacts = f"{base}/model.tar.gz"

    def _finish(self, reason: str | None) -> None:
        self.log.flush(last=True)
        if reason is None:
            self.job.end("Completed", "Completed")
        else:
            self.job.end("Stopped", reason)
