"""The rigs' queues, made by ``isthmus rig join``, on Amazon SQS."""

from __future__ import annotations

from collections.abc import Callable

from isthmus.adapters.aws.errors import passing_trouble
from isthmus.adapters.aws.operator.home import Home, call, listed
from isthmus.model import layout
from isthmus.model.inventory import Thing


class RigQueues:
    """``rigs`` names the registered ones: a queue without a tag is ours if its rig is."""

    kind = "rig queue"

    def __init__(self, home: Home, rigs: Callable[[], set[str]]) -> None:
        self._home, self._rigs = home, rigs

    @passing_trouble("SQS")
    def find(self) -> list[Thing]:
        prefix = layout.queue_name(self._home.stack, "")
        # Without a page size SQS sends the first thousand and no token for more.
        pages = {"PageSize": 1000}
        urls = list(listed("sqs", "list_queues", "QueueUrls", QueueNamePrefix=prefix, PaginationConfig=pages))
        rigs = self._rigs() if urls else set()
        found = []
        for url in urls:
            name = url.rsplit("/", 1)[1]
            tags = call("sqs", "list_queue_tags", QueueUrl=url).get("Tags", {})
            if self._home.owns(tags, otherwise=name.removeprefix(prefix) in rigs):
                found.append(Thing(id=url, name=name))
        return found

    @passing_trouble("SQS")
    def remove(self, thing: Thing, report: Callable[[str], None]) -> None:
        call("sqs", "delete_queue", QueueUrl=thing.id)
