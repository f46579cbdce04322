from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from isthmus.adapters.aws.bridge import SqsJobQueue
from isthmus.adapters.aws.rigs import create_queue
from isthmus.adapters.aws.session import client
from isthmus.adapters.local.queue import MemoryQueue, MemoryTasks
from isthmus.errors import Conflict
from isthmus.model.messages import Work
from isthmus.ports import JobQueue, Tasks

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
    given = ("shop-rig-1", "alias/aws/sqs", attributes["QueueArn"])
    url = create_queue(*given)
    assert create_queue(*given) == url, "joining again finds the queue"

    def send(work: Work) -> None:
        client("sqs").send_message(QueueUrl=url, MessageBody=msgspec.json.encode(work).decode())

    return SqsJobQueue(url), send


def test_a_message_arrives_whole_and_once(queue: tuple[JobQueue, Send]) -> None:
    jobs, send = queue
    assert jobs.receive(wait_seconds=0) is None
    send(WORK)
    received = jobs.receive(wait_seconds=1)
    assert received is not None
    assert received[0] == WORK
    assert jobs.receive(wait_seconds=0) is None, "nobody else sees it while it is in flight"
    jobs.delete(received[1])
    jobs.delete(received[1])


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
