"""What EventBridge hears of training jobs: an event at every change of the secondary status.

Source: SageMaker developer guide, "Events that Amazon SageMaker AI sends to Amazon EventBridge".
"""

import json
import logging
from typing import Any

from botocore.exceptions import ClientError

from .store import Job

LOG = logging.getLogger(__name__)


def publish(clients: Any, job: Job) -> None:
    """A best effort, as on AWS."""
    detail = json.dumps(job.describe(), default=lambda value: int(value.timestamp() * 1000))
    entry = {
        "Source": "aws.sagemaker",
        "DetailType": "SageMaker Training Job State Change",
        "Resources": [job.arn],
        "Detail": detail,
    }
    try:
        clients.events.put_events(Entries=[entry])
    except ClientError:
        LOG.exception("the event of %s", job.name)
