"""What the end-to-end tests do over and over: jobs as files, waiting for an end, asking a model."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from demo.stamp import ROOT
from demo.system import CommandFailed, System, run
from isthmus.inference.http import HttpResponse
from tests.e2e.cleanup import client
from tests.e2e.signed import SignedApi

ENDED = ("DEPLOYED", "REJECTED", "FAILED", "ABORTED")
EXAMPLE = ROOT / "examples/digits"


def write_job(folder: Path, *, script: str = "", without: str = "", **changes: Any) -> Path:
    """Write the digits job with changes; ``hyperparameters`` and ``evaluation`` are merged.

    ``without``: a member to leave out. ``script`` is put before the example's own training script.
    """
    job = yaml.safe_load((EXAMPLE / "job.yaml").read_text())
    job.pop(without, None)
    job["source"]["hyperparameters"] |= changes.pop("hyperparameters", {})
    job["evaluation"] |= changes.pop("evaluation", {})
    job["source"] |= changes.pop("source", {})
    job |= changes
    code = folder / "code"
    shutil.copytree(
        EXAMPLE, code, ignore=shutil.ignore_patterns("__pycache__", "job.yaml"), dirs_exist_ok=True
    )
    train = code / "train.py"
    train.write_text(script + train.read_text())
    job["source"]["code"] = "code"
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(job))
    return path


def wait_for_end(system: System, job_key: str, limit_seconds: float = 240) -> dict[str, Any]:
    """Return the job's status once it has ended. Raises CommandFailed when it does not."""
    deadline = time.monotonic() + limit_seconds
    while True:
        job = system.job(job_key)
        if job["state"] in ENDED:
            return job
        if time.monotonic() > deadline:
            raise CommandFailed(f"job {job_key} did not end in {limit_seconds:.0f} s: {job}")
        time.sleep(1)


def wait_for_step(system: System, job_key: str, step: str, limit_seconds: float = 120) -> None:
    """Wait until the job has entered a step."""
    deadline = time.monotonic() + limit_seconds
    while step not in [name for name, _ in system.job(job_key)["steps"]]:
        if time.monotonic() > deadline:
            raise CommandFailed(f"job {job_key} did not reach {step}: {system.job(job_key)}")
        time.sleep(0.5)


def steps_of(job: dict[str, Any]) -> list[str]:
    """Return the names of the steps that a job went through."""
    return [name for name, _ in job["steps"]]


def outputs(system: System) -> dict[str, str]:
    """Return the stack's outputs."""
    stacks = client(system, "cloudformation").describe_stacks(StackName=system.stack)["Stacks"]
    return {entry["OutputKey"]: entry["OutputValue"] for entry in stacks[0]["Outputs"]}


def champion(system: System, model: str) -> dict[str, Any]:
    """Return what is in service of a model."""
    listed = json.loads(system.isthmus("model", "list", "--json"))
    return next(entry for entry in listed if entry["model"] == model)


def executions(system: System, machine: str = "TrainAndDeployMachine") -> dict[str, str]:
    """Return the names of a machine's executions with their status."""
    pages = (
        client(system, "stepfunctions")
        .get_paginator("list_executions")
        .paginate(stateMachineArn=outputs(system)[machine])
    )
    return {entry["name"]: entry["status"] for page in pages for entry in page["executions"]}


def ask(system: System, model: str, request: dict[str, Any], folder: Path, *where: str) -> dict[str, Any]:
    """Send an inference request as a user does."""
    path = folder / "request.json"
    path.write_text(json.dumps(request))
    return dict(json.loads(system.isthmus("predict", model, path, *where, "--json")))


def raw_request(sample: dict[str, Any]) -> dict[str, Any]:
    """Return a request in the bundle's raw form, with its pre- and post-processing."""
    return {
        "inputs": [
            {
                "name": "raw",
                "shape": sample["shape"],
                "datatype": sample["datatype"],
                "data": sample["pixels"],
            }
        ],
        "parameters": {"preprocess": True, "postprocess": True},
    }


def at_home(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process mean the system's own cloud, as the system's commands do."""
    if system.cloud_of_its_own:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            monkeypatch.delenv(name)
    for name, value in system.env.items():
        if name.startswith("AWS_"):
            monkeypatch.setenv(name, value)


def call(system: System, monkeypatch: pytest.MonkeyPatch, method: str, path: str) -> HttpResponse:
    """Send a signed request to the API."""
    at_home(system, monkeypatch)
    return SignedApi(outputs(system)["ApiUrl"]).call(method, path)


def aws(system: System, *arguments: str | Path) -> str:
    """Run the AWS command line interface."""
    return run([system.bin / "aws", *arguments], system.env)


def descendants(pid: int) -> list[int]:
    """Return a process and all that came of it (proc(5): ``/proc/<pid>/task/<tid>/children``)."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            found += descendants(int(child))
    return found


def listening(processes: list[int]) -> list[str]:
    """Return the TCP and UDP sockets on which these processes wait for others (proc(5): ``/proc/net/tcp``)."""
    inodes = set()
    for pid in processes:
        for entry in Path(f"/proc/{pid}/fd").glob("*"):
            with contextlib.suppress(OSError):
                inodes.add(os.readlink(entry))
    found = []
    for kind, state in (("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")):
        for line in Path(f"/proc/net/{kind}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == state and f"socket:[{fields[9]}]" in inodes:
                found.append(f"{kind} {fields[1]}")
    return found


def resident_bytes(pid: int) -> int:
    """Return how much memory a process holds."""
    (line,) = [
        line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS")
    ]
    return int(line.split()[1]) * 1024
