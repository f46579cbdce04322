"""A system to work with: a local cloud, a deployed stack, a rig's agent and a core device.

Nothing here is special to the product: it calls the commands that a user would type, and only the
environment says that AWS is a process on this machine.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3

from demo.identities import Identities, answers
from demo.leftovers import end_agents
from demo.stamp import ROOT, build_once

RIG, CORE = "demo-rig", "demo-core"
OPERATORS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE")
"""What in an environment says who the operator is."""
ROLLOUT_STEP_SECONDS = 1
ROLLOUT_BAKE_SECONDS = {True: 1, False: 90}
"""By whether the cloud is one of its own: AWS tells a minute late how calls ended."""
Say = Callable[[str], None]


class CommandFailed(Exception):
    """A command ended with an error; the message holds what it printed last."""


def run(
    command: Sequence[str | Path],
    env: Mapping[str, str],
    *,
    cwd: Path = ROOT,
    log: Path | None = None,
    pass_fds: Sequence[int] = (),
) -> str:
    """Run a command and return what it printed on stdout. ``pass_fds``: descriptors that it inherits.

    Raises:
        CommandFailed: its exit status was not 0.
    """
    done = subprocess.run(
        [str(part) for part in command],
        env=dict(env),
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        pass_fds=pass_fds,
    )
    if log is not None:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(done.stdout + done.stderr)
    if done.returncode != 0:
        name = " ".join(str(part) for part in command[:4])
        tail = (done.stderr or done.stdout)[-3000:]
        raise CommandFailed(f"{name} … ended with {done.returncode}:\n{tail}")
    return done.stdout


EDGE_PORTS = 50
"""A core device serves each further model on the next port."""


def free_ports(first: int = 20_000, end: int = 32_000) -> int:
    """Return the first of ``EDGE_PORTS`` loopback ports that nobody uses at the moment, in ``[first, end)``: below
    those that Linux gives to outgoing connections (from 32768 on), which could take one later.

    Raises:
        CommandFailed: there are none.
    """
    starts = list(range(first, end - EDGE_PORTS + 1, EDGE_PORTS))
    for start in random.sample(starts, len(starts)):
        if all(_free(port) for port in range(start, start + EDGE_PORTS)):
            return start
    raise CommandFailed(
        f"needs {EDGE_PORTS} free loopback ports in a row between {first} and {end}; end what uses them"
    )


def _free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


@dataclass
class System:
    """Everything in ``folder``; ``close`` ends what was started.

    ``cloud_of_its_own``: a local cloud, by ``up``; else the environment says which AWS is meant.
    """

    folder: Path
    say: Say
    stack: str = "isthmus"
    cloud_of_its_own: bool = True
    env: dict[str, str] = field(default_factory=dict)
    endpoint_url: str = ""
    ca_bundle: str = ""
    edge_port: int = 0
    prepare: tuple[str, ...] = ("mxnet-1.9.1",)
    """Training environments that the agent builds before it takes work."""
    agent_within: tuple[str | Path, ...] = ()
    """What stands before the agent's own command: a program that runs it in a place of its own."""
    _agent: subprocess.Popen[bytes] | None = None
    _rig_keys: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder = self.folder.absolute()
        (self.folder / "tmp").mkdir(parents=True, exist_ok=True)
        self.cloud = self.folder / "cloud"
        self.bin = Path(sys.executable).parent
        kept = {name: value for name, value in os.environ.items() if not name.startswith("ISTHMUS_")}
        if self.cloud_of_its_own:
            # A user's own AWS set-up must not reach the local cloud, nor the local cloud the user's.
            kept = {name: value for name, value in kept.items() if not name.startswith("AWS_")} | {
                "AWS_EC2_METADATA_DISABLED": "true",
                "AWS_ACCESS_KEY_ID": "local",
                "AWS_SECRET_ACCESS_KEY": "local",
                "AWS_CONFIG_FILE": str(self.folder / "no-config"),
                "AWS_SHARED_CREDENTIALS_FILE": str(self.folder / "no-credentials"),
            }
        self.env = {
            **kept,
            # What a killed program leaves in it goes with the next start.
            "TMPDIR": str(self.folder / "tmp"),
            "ISTHMUS_UV": os.environ.get("ISTHMUS_UV", str(ROOT / ".tools/bin/uv")),
            "ISTHMUS_STACK": self.stack,
            "ISTHMUS_LOCALCLOUD": str(ROOT / "localcloud"),
            "SAM_CLI_TELEMETRY": "0",
            "ORT_DISABLE_TELEMETRY": "1",
            "__SAM_CLI_APP_DIR": str(self.folder / "sam"),
        }

    def end_earlier(self) -> None:
        """End what an earlier, killed run left running here, and remove what it left lying about.

        Environments, caches and checkpoints stay: each is whole or is seen not to be.
        """
        if self.cloud.exists():
            self.isthmus("local", "down", "--state", self.cloud)
        end_agents(self.folder / "rig")
        for name in ("logs", "tmp"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        (self.folder / "tmp").mkdir(parents=True)

    # ------------------------------------------------------------------ the cloud and the stack

    def up(self) -> None:
        """Start the local cloud on a free port."""
        # A device that an earlier run left behind would start what it had installed.
        shutil.rmtree(self.cloud / "edge", ignore_errors=True)
        output = self.isthmus("local", "up", "--state", self.cloud, "--port", "0", "--json")
        answer = json.loads(output)
        self.endpoint_url, self.ca_bundle = answer["endpoint_url"], answer["ca_bundle"]
        self.env |= {"AWS_ENDPOINT_URL": self.endpoint_url, "AWS_DEFAULT_REGION": answer["region"]}

    def build(self) -> None:
        """``sam build``, unless nothing that it reads has changed since."""
        log = self.folder / "logs/sam-build.log"
        command: list[str | Path] = [self.bin / "sam", "build", "--config-env", "local"]
        build_once(lambda lock: run(command, self.env, log=log, pass_fds=(lock,)))

    def deploy(self, *, project: Path = ROOT, **parameters: object) -> None:
        """``sam deploy``; the parameters that name this machine's ports and folders go on top."""
        self.edge_port = self.edge_port or free_ports()
        chosen: dict[str, object] = {
            "RolloutWeights": "0.5,1",
            "RolloutStepSeconds": ROLLOUT_STEP_SECONDS,
            "RolloutBakeSeconds": ROLLOUT_BAKE_SECONDS[self.cloud_of_its_own],
            **parameters,
        }
        if self.cloud_of_its_own:
            chosen |= {
                "EdgeRoot": self.cloud / "edge" / CORE,
                "EdgePort": self.edge_port,
            }
        if self.cloud_of_its_own and project == ROOT:  # an earlier version knows no canaries
            chosen["EdgeBakeSeconds"] = 1
        overrides = [f"{name}={value}" for name, value in chosen.items()]
        command = [self.bin / "sam", "deploy", "--config-env", "local", "--parameter-overrides", *overrides]
        run(
            [*command, "--stack-name", self.stack],
            self.env,
            cwd=project,
            log=self.folder / "logs/sam-deploy.log",
        )

    # ------------------------------------------------------------------ the rig and the core device

    @property
    def identities(self) -> Identities:
        """Those that the rig and the core device have."""
        session = boto3.Session()
        if self.cloud_of_its_own:
            session = boto3.Session(
                self.env["AWS_ACCESS_KEY_ID"],
                self.env["AWS_SECRET_ACCESS_KEY"],
                region_name=self.env["AWS_DEFAULT_REGION"],
            )
        return Identities(self.stack, session, self.env.get("AWS_ENDPOINT_URL"))

    def rig_env(self) -> dict[str, str]:
        """Return the environment of the rig: nobody's keys. The local cloud has an authority of its own, to trust.

        A rig that the previous version joined has no certificate, and works with its own user's keys.
        """
        others = {name: value for name, value in self.env.items() if name not in OPERATORS}
        if (self.folder / "rig/identity.json").exists():
            return others | ({"AWS_CA_BUNDLE": self.ca_bundle} if self.ca_bundle else {})
        if not self._rig_keys:
            self._rig_keys = self.identities.rig()
            # On AWS a new key is known everywhere only after some seconds.
            endpoint_url = self.env.get("AWS_ENDPOINT_URL")
            wait_until(lambda: answers(self._rig_keys, endpoint_url), "the rig's key to work", 60)
        return {**others, **self._rig_keys}

    def join_rig(self) -> None:
        """Register this machine as a rig, as its operator does, who gets it a certificate."""
        folder = self.folder / "rig"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "rig.toml").write_text("measure_rates = false  # they take a minute\n")
        options = ("--name", RIG, "--zone", "onprem-here", "--folder", folder)
        run([self.bin / "isthmus", "rig", "join", *options], self.env)

    def start_agent(self, *, wait: bool = True) -> int:
        """Start the rig's agent and return its process id."""
        log = self.folder / "logs/rig.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        mark = log.stat().st_size if log.exists() else 0
        with log.open("ab") as stream:
            self._agent = subprocess.Popen(
                [
                    *self.agent_within,
                    self.bin / "isthmus",
                    "rig",
                    "run",
                    "--name",
                    RIG,
                    "--folder",
                    self.folder / "rig",
                    "--prepare",
                    *self.prepare,
                ],
                env=self.rig_env(),
                cwd=ROOT,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )
        if wait:
            wait_until(
                lambda: "agent started" in log.read_text()[mark:],
                "the rig's agent to start",
                600,
                self._alive,
            )
        return self._agent.pid

    def _alive(self) -> None:
        if self._agent is not None and self._agent.poll() is not None:
            raise CommandFailed(
                f"the rig's agent ended:\n{(self.folder / 'logs/rig.log').read_text()[-2000:]}"
            )

    @property
    def agent_pid(self) -> int:
        """The rig's agent's process id. Raises CommandFailed when none was started."""
        if self._agent is None:
            raise CommandFailed("the rig's agent was not started")
        return self._agent.pid

    def kill_agent(self) -> None:
        """SIGKILL the agent, as a power cut would."""
        if self._agent is not None:
            self._agent.send_signal(signal.SIGKILL)
            self._agent.wait()

    def edge(self, action: str) -> dict[str, Any]:
        """Start, stop, cut, mend or ask for the state of the core device."""
        more: list[str | Path] = []
        if action == "start":
            more = ["--config", self.join_core()]
        answer = self.isthmus("local", "edge", action, CORE, *more, "--state", self.cloud, "--json")
        return dict(json.loads(answer))

    def join_core(self, *more: str) -> Path:
        """Make a core device of this machine, as its operator does; return what its nucleus is started with."""
        # The local cloud signs for its own endpoints, which a device of AWS knows by Amazon's roots.
        trusted = {"AWS_CA_BUNDLE": self.ca_bundle} if self.ca_bundle else {}
        options = ("--name", CORE, "--folder", self.folder / "core", "--force", "--json", *more)
        answer = run([self.bin / "isthmus", "edge", "join", *options], {**self.env, **trusted})
        return Path(json.loads(answer)["config"])

    @property
    def edge_url(self) -> str:
        """The core device's own server."""
        return f"http://127.0.0.1:{self.edge_port}"

    # ------------------------------------------------------------------ what a user types

    def isthmus(self, *arguments: str | Path) -> str:
        """Run ``isthmus`` and return its stdout. Raises CommandFailed."""
        return run([self.bin / "isthmus", *arguments], self.env)

    def push(self, data: Path, job: Path, name: str) -> str:
        """Push a dataset; return the job key."""
        output = self.isthmus("dataset", "push", data, "--name", name, "--job", job, "--json")
        return str(json.loads(output)["job_key"])

    def job(self, job_key: str) -> dict[str, Any]:
        """Return a job's status."""
        return dict(json.loads(self.isthmus("job", "show", job_key, "--json")))

    def stop_agent(self) -> None:
        """SIGTERM: the agent finishes what it has and leaves; killed after half a minute."""
        if self._agent is not None and self._agent.poll() is None:
            self._agent.terminate()
            try:
                self._agent.wait(30)
            except subprocess.TimeoutExpired:
                self.kill_agent()

    def leave(self) -> None:
        """End the agent and take back what the rig and the core device were given."""
        self.stop_agent()
        with contextlib.suppress(CommandFailed):  # no rig had joined, or its certificate is revoked by now
            self.isthmus("rig", "revoke", RIG)
        self.identities.remove()
        self._rig_keys = {}

    def close(self) -> None:
        """End the agent, and the local cloud with all that runs in it, if it was started here."""
        self.stop_agent()
        if self.endpoint_url:
            self.isthmus("local", "down", "--state", self.cloud)


def wait_until(
    met: Callable[[], object],
    what: str,
    limit_seconds: float,
    check: Callable[[], None] = lambda: None,
    *,
    every_seconds: float = 0.25,
) -> None:
    """Wait for a condition, ``every_seconds`` between looks.

    Raises:
        CommandFailed: not met in time.
    """
    deadline = time.monotonic() + limit_seconds
    while not met():
        check()
        if time.monotonic() > deadline:
            raise CommandFailed(f"waited {limit_seconds:.0f} s for {what}")
        time.sleep(every_seconds)
