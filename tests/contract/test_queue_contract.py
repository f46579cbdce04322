from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from isthmus import documents
from isthmus.adapters.aws.bridge import SqsJobQueue
from isthmus.adapters.aws.rigs import create_queue
from isthmus.adapters.aws.session import client
from isthmus.adapters.local.queue import MemoryQueue, MemoryTasks
from isthmus.errors import Conflict
from isthmus.model.messages import Work
from isthmus.ports import JobQueue, Tasks

ROOT = Path(__file__).resolve().parents[2]
WORK = Work(job_key="k", fencing=2, job="jobs/k/job.json", manifest="m", token="t" * 1000, execution="e")
Send = Callable[[Work], None]


@pytest.fixture(params=["memory", "sqs"])
def queue(request: pytest.FixtureRequest) -> tuple[JobQueue, Send]:
    if request.param == "memory":
        memory = MemoryQueue()
        return memory, memory.send
    request.getfixturevalue("aws")
    dead = client("sqs").create_queue(QueueName="dead")["QueueUrl"]
    attributes = client("sqs").get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]
    given = ("shop-rig-1", "shop", "alias/aws/sqs", attributes["QueueArn"])
    url = create_queue(*given)
    assert create_queue(*given) == url, "joining again finds the queue"

    def send(work: Work) -> None:
        client("sqs").send_message(QueueUrl=url, MessageBody=msgspec.json.encode(work).decode())

    return SqsJobQueue(url), send


def test_a_message_arrives_whole_and_once(queue: tuple[JobQueue, Send]) -> None:
    jobs, send = queue
    assert jobs.receive(wait_seconds=0) == []
    send(WORK)
    (received,) = jobs.receive(wait_seconds=1)
    assert (received.work, received.problem) == (WORK, "")
    assert jobs.receive(wait_seconds=0) == [], "nobody else sees it while it is in flight"
    jobs.delete(received.receipt)
    jobs.delete(received.receipt)


def test_messages_come_in_tens(queue: tuple[JobQueue, Send]) -> None:
    jobs, send = queue
    for fencing in range(12):
        send(msgspec.structs.replace(WORK, fencing=fencing))
    first, second, third = (jobs.receive(wait_seconds=0) for _ in range(3))
    assert (len(first), len(second), third) == (10, 2, [])
    assert sorted(entry.work.fencing for entry in first + second if entry.work) == list(range(12))


def test_what_cannot_be_read_keeps_nothing_else_from_arriving(aws: None) -> None:
    url = client("sqs").create_queue(QueueName="shop-rig-1")["QueueUrl"]
    jobs = SqsJobQueue(url)
    client("sqs").send_message(QueueUrl=url, MessageBody='{"schema": "isthmus/work/9"}')
    client("sqs").send_message(QueueUrl=url, MessageBody=msgspec.json.encode(WORK).decode())
    received = sorted(jobs.receive(wait_seconds=0), key=lambda entry: entry.problem)
    assert [entry.work for entry in received] == [WORK, None]
    assert "isthmus/work/9" in received[1].problem


# Keys of the messages of stacks and of agents before teams, and of what is to come.
OLD = ("schema", "job_key", "fencing", "job", "manifest", "token", "execution")


def test_messages_of_earlier_and_later_versions_are_read() -> None:
    plain = msgspec.to_builtins(WORK)
    earlier = documents.convert(Work, {name: plain[name] for name in OLD}, "an earlier message")
    assert (earlier.team, earlier.submitted_at, earlier.started_at) == ("default", "", "")
    assert earlier.sending == (0, 0)
    assert earlier.priority == 5
    later = documents.convert(Work, plain | {"hurry": 3}, "a later message")
    assert later == WORK


# Of the fake alone: moto takes any task token. Step Functions' own refusals (TaskTimedOut,
# TaskDoesNotExist, InvalidToken) are in tests/unit/adapters.
@pytest.mark.parametrize("answer", ["heartbeat", "succeed", "fail"])
def test_nobody_waits_for_an_unknown_token(answer: str) -> None:
    tasks: Tasks = MemoryTasks()
    calls: dict[str, Callable[[], None]] = {
        "heartbeat": lambda: tasks.heartbeat("unknown"),
        "succeed": lambda: tasks.succeed("unknown", {}),
        "fail": lambda: tasks.fail("unknown", "Error", "cause"),
    }
    with pytest.raises(Conflict):
        calls[answer]()


def test_the_state_machine_sends_every_field_of_the_work() -> None:
    text = (ROOT / "statemachines/train_and_deploy.asl.json").read_text()
    body = json.loads(text)["States"]["WaitForRig"]["Parameters"]["MessageBody"]
    assert {name.removesuffix(".$") for name in body} == set(Work.__struct_fields__)
