"""rig_start_latency: from a message's sending to its script's first line, a rig's agent against the least there can be.

The reference is a process that polls its queue for long, makes the same durable write (a conditional one, DynamoDB)
and starts the same Python with the same script. Both are processes of their own at one endpoint, and take turns; both
are warm. Ours also answers the wait for a rig, fetches the job's documents, verifies its code and data, remembers the
attempt on disk, and starts the script under a warden.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.regional import stack
from benchmarks.regional.endpoint import Endpoint
from benchmarks.report import report
from isthmus import documents
from isthmus.adapters.aws.session import client
from isthmus.errors import Conflict
from isthmus.model import layout
from isthmus.model.messages import Work

ROUNDS, WARM_UP = 40, 3
RAW = "raw"
FIRST_LINE = "import time; began = time.time()\n"
SCRIPT = (
    FIRST_LINE + "import os; open(os.environ['SM_HP_SEEN'], 'w').write(repr(began)); raise SystemExit(3)\n"
)
"""It fails on purpose: what comes after a script's end is not measured."""
WAIT_SECONDS = 60
TRANSITION_SECONDS = 0.05
"""From an answer to the next state's function, which runs elsewhere; here it would take a core away."""


class Machine:
    """The bridge's half of the state machine: the wait's answer brings the training's token."""

    def __init__(self) -> None:
        self._waiting: set[str] = set()
        self._lock = threading.Lock()
        self.ended = threading.Event()

    def open(self, token: str) -> str:
        with self._lock:
            self._waiting.add(token)
        return token

    def end(self, token: str, kind: str, value: Any) -> None:
        with self._lock:
            if token not in self._waiting:
                raise Conflict("the task is no longer waiting")
            self._waiting.discard(token)
        if token.startswith("wait"):
            key = token.removeprefix("wait-")
            arguments = (key, int(value["fencing"]))
            threading.Timer(TRANSITION_SECONDS, self._hand_out, args=arguments).start()
        else:
            self.ended.set()

    def _hand_out(self, key: str, fencing: int) -> None:
        from isthmus.workflows.train_on_rig import train_on_rig

        records, _ = stack.stores()
        train_on_rig(key, fencing, self.open(f"train-{key}"), records=records, tasks=self)  # type: ignore[arg-type]

    def heartbeat(self, token: str) -> None:
        if token not in self._waiting:
            raise Conflict("the task is no longer waiting")

    def invoke(self, payload: dict[str, Any]) -> Any:
        from isthmus.workflows.train_on_rig import finish_attempt

        records, _ = stack.stores()
        done = finish_attempt(payload["job_key"], payload["fencing"], records=records, tasks=_Answers(self))
        return {"delivered": done.delivered}


class _Answers:
    """``ports.Tasks`` of the function FinishAttempt."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.heartbeat = machine.heartbeat

    def succeed(self, token: str, output: Any) -> None:
        self._machine.end(token, "succeeded", output)

    def fail(self, token: str, error: str, cause: str) -> None:
        self._machine.end(token, "failed", {"Error": error, "Cause": cause})


def main() -> None:
    """Measure and report; or, with arguments, be one of the two that start scripts."""
    if sys.argv[1:]:
        {"ours": _be_agent, "raw": _be_raw}[sys.argv[1]](*sys.argv[2:])
        return
    endpoint, machine = Endpoint(), Machine()
    endpoint.control = machine
    os.environ.update(stack.environment(endpoint.url))
    stack.make((stack.RIG, RAW))
    with tempfile.TemporaryDirectory(prefix="isthmus-bench-") as scratch:
        folder = Path(scratch)
        (folder / "train.py").write_text(SCRIPT)
        with _process("ours", endpoint.url, str(folder / "rig")), _process("raw", endpoint.url, str(folder)):
            _measure(endpoint.url, machine, folder)


def _measure(url: str, machine: Machine, folder: Path) -> None:
    ours, raw = [], []
    for number in range(WARM_UP + ROUNDS):
        raw.append(_one_raw(url, folder / f"raw-{number}"))
        machine.ended.clear()
        ours.append(_one_of_ours(url, machine, number, folder / f"ours-{number}"))
        if not machine.ended.wait(WAIT_SECONDS):
            raise SystemExit("an attempt did not end")
        print(f"{number}: ours {ours[-1] * 1000:.1f} ms, raw {raw[-1] * 1000:.1f} ms", file=sys.stderr)
    ours, raw = ours[WARM_UP:], raw[WARM_UP:]
    report(
        "rig_start_latency",
        ours=statistics.median(ours) * 1000,
        reference=statistics.median(raw) * 1000,
        unit="ms",
        ours_quartiles=[round(value * 1000, 1) for value in statistics.quantiles(ours)],
        reference_quartiles=[round(value * 1000, 1) for value in statistics.quantiles(raw)],
        rounds=ROUNDS,
        reference_is="a long-polling consumer that makes one conditional write and starts the same script",
    )


def _one_of_ours(url: str, machine: Machine, number: int, seen: Path) -> float:
    key = f"{number:040x}"
    _, blobs = stack.stores()
    stack.put_job(key, SCRIPT, blobs, hyperparameters={"seen": str(seen)})
    work = Work(
        job_key=key,
        fencing=1,
        job=layout.registered_job(key),
        manifest=layout.registered_manifest(key),
        token=machine.open(f"wait-{key}"),
        execution=key,
    )
    return _sent(url, stack.RIG, documents.encode(work).decode(), seen)


def _one_raw(url: str, seen: Path) -> float:
    return _sent(url, RAW, json.dumps({"seen": str(seen)}), seen)


def _sent(url: str, queue: str, body: str, seen: Path) -> float:
    """Send, and return the seconds until the script's first line."""
    time.sleep(0.3)  # both idle again, and long polling
    began = time.time()
    client("sqs").send_message(QueueUrl=stack.queue_url(url, queue), MessageBody=body)
    deadline = time.monotonic() + WAIT_SECONDS
    while not seen.exists() or not seen.read_text():
        if time.monotonic() > deadline:
            raise SystemExit(f"{queue}: no script began within {WAIT_SECONDS} s")
        time.sleep(0.005)
    if os.environ.get("ISTHMUS_TIMES"):
        print(f"{began:.4f} sent to {queue}; {float(seen.read_text()):.4f} its first line", file=sys.stderr)
    return float(seen.read_text()) - began


@contextlib.contextmanager
def _process(which: str, url: str, folder: str) -> Iterator[None]:
    command = [sys.executable, "-m", "benchmarks.rig_start_latency", which, url, folder]
    process = subprocess.Popen(command, env=stack.environment(url), stdout=sys.stderr)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def _be_agent(url: str, folder: str) -> None:
    from isthmus.rig.environments import source_folder
    from isthmus.rig.runner import JobRunner
    from isthmus.rig.signals import obey_signals

    where = Path(folder)
    runner = JobRunner(
        interpreter=lambda name, version, stop: Path(sys.executable), source=source_folder(where)
    )
    agent = stack.agent(url, where, _tell if os.environ.get("ISTHMUS_TIMES") else _silent, runner)
    obey_signals(agent)
    agent.run()


def _silent(event: str, **fields: object) -> None:
    return


def _tell(event: str, **fields: object) -> None:
    print(f"{time.time():.4f} {event}", file=sys.stderr, flush=True)


def _be_raw(url: str, folder: str) -> None:
    sqs, table = client("sqs"), client("dynamodb")
    queue, number = stack.queue_url(url, RAW), 0
    while True:
        for message in sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=20).get("Messages", []):
            number += 1
            table.put_item(
                TableName=stack.TABLE,
                Item={"pk": {"S": "RAW"}, "sk": {"S": str(number)}, "body": {"S": message["Body"]}},
                ConditionExpression="attribute_not_exists(pk)",
            )
            variables = {**os.environ, "SM_HP_SEEN": json.loads(message["Body"])["seen"]}
            subprocess.run([sys.executable, f"{folder}/train.py"], env=variables, check=False)
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])


if __name__ == "__main__":
    main()
