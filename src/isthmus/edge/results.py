"""A core device's results, from its answers to the cloud: recorder, outbox and sender as one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from isthmus.edge.drain import ResultSink
from isthmus.edge.outbox import Outbox
from isthmus.edge.recorder import RecordedService, Recorder
from isthmus.edge.result_settings import ResultSettings
from isthmus.edge.sender import Sender
from isthmus.errors import IsthmusError
from isthmus.inference.served import ServedModel
from isthmus.inference.service import ModelService
from isthmus.ports import Threads

logger = logging.getLogger(__name__)


class Results:
    """Of one process. Without a ``sink`` results wait in the outbox."""

    def __init__(self, settings: ResultSettings, sink: ResultSink | None, threads: Threads) -> None:
        self._outbox = Outbox(
            settings.folder, settings.device, limit_bytes=settings.limit_bytes, drop=settings.drop
        )
        self._sender: Sender | None = None
        if sink is not None:
            self._sender = Sender(self._outbox, sink, threads, gather_seconds=settings.gather_seconds)
        self.recorder = Recorder(self._outbox, self._kept)
        self._report: Callable[[], None] = lambda: None

    def service(
        self, models: Iterable[ServedModel], *, max_request_bytes: int, max_response_bytes: int
    ) -> ModelService:
        """Return a service whose answers are kept."""
        return RecordedService(
            models,
            self.recorder,
            max_request_bytes=max_request_bytes,
            max_response_bytes=max_response_bytes,
        )

    def start(self, report: Callable[[], None] = lambda: None) -> None:
        """Begin to keep and to send, with what an earlier process left. ``report``: there is something to tell."""
        self._report = report
        self.recorder.start()
        if self._sender is not None:
            self._sender.start()

    def close(self) -> None:
        """Keep what was answered; what was not sent waits for the next process."""
        if self._sender is not None:
            self._sender.close()
        self.recorder.close()
        self._outbox.close()

    def _kept(self) -> None:
        if self._sender is not None:
            self._sender.wake()
        self._report()

    def status(self) -> dict[str, Any]:
        """Return what waits, what was dropped, missed and sent, and why nothing is sent."""
        try:
            found = msgspec.to_builtins(self._outbox.state())
        except IsthmusError as error:
            found = {"problem": str(error)}
        found["missed"] = msgspec.to_builtins(self.recorder.missed)
        if self._sender is not None:
            found["sent"] = self._sender.sent
            found.setdefault("problem", self._sender.problem)
        return dict(found)


def open_results(
    settings: ResultSettings | None, sink: ResultSink | None, threads: Threads
) -> Results | None:
    """Return what keeps a device's results; None where it shall keep none, or its policy lets nothing leave."""
    if settings is None:
        return None
    if settings.policy.may_leave == "nothing":
        logger.info("no results are kept: the policy lets nothing leave")
        return None
    return Results(settings, sink, threads)
