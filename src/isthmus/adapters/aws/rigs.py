"""A rig's queue: made once, by ``rig join``."""

from __future__ import annotations

import json

from isthmus.adapters.aws.errors import passing_trouble
from isthmus.adapters.aws.session import client
from isthmus.model.layout import STACK_TAG

VISIBILITY_SECONDS = 60
"""A message is deleted as soon as its lease is durable; until then nobody else should see it."""


@passing_trouble("SQS")
def create_queue(name: str, stack: str, key_arn: str, dead_letters_arn: str) -> str:
    """Create the queue if it is not there, encrypted with the stack's key and tagged as the stack's;
    return its URL."""
    attributes = {
        "VisibilityTimeout": str(VISIBILITY_SECONDS),
        "MessageRetentionPeriod": "1209600",
        "KmsMasterKeyId": key_arn,
        "ReceiveMessageWaitTimeSeconds": "20",
        # A message that no agent can read leaves the queue, and raises the stack's alarm.
        "RedrivePolicy": json.dumps({"deadLetterTargetArn": dead_letters_arn, "maxReceiveCount": 5}),
    }
    url = str(client("sqs").create_queue(QueueName=name, Attributes=attributes)["QueueUrl"])
    # A call of its own: CreateQueue gives no tags to a queue that is there already.
    client("sqs").tag_queue(QueueUrl=url, Tags={STACK_TAG: stack})
    return url
