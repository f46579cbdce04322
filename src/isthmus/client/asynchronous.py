"""``isthmus.AsyncClient``: for asyncio, on aiohttp."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from isthmus.client import calls, settings
from isthmus.client.answer import Answer, Classification, Trip
from isthmus.client.exchange import Call, Exchange, Limits, Lost, Outcome, Pause, Send
from isthmus.client.synchronous import ATTEMPTS, CONNECT_SECONDS, DEADLINE_SECONDS, MOST_CONNECTIONS
from isthmus.errors import EnvironmentProblem, IsthmusError
from isthmus.inference.http import HttpResponse
from isthmus.inference.messages import ModelMetadata

if TYPE_CHECKING:
    from aiohttp import ClientSession
    from numpy.typing import ArrayLike

T = TypeVar("T")


class AsyncClient:
    """``Client`` for asyncio: the same arguments, methods, order and errors. Needs ``isthmus[async]``.

    For one event loop; any number of tasks may share it, of which ``connections`` are under way at once.

    Raises:
        InvalidInput: an address that is none.
        EnvironmentProblem: aiohttp is not installed.
    """

    def __init__(
        self,
        *,
        edge: str | None = None,
        api: str | None = None,
        stack: str | None = None,
        token: str | None = None,
        api_key: str | None = None,
        deadline_seconds: float = DEADLINE_SECONDS,
        attempts: int = ATTEMPTS,
        connections: int = MOST_CONNECTIONS,
    ) -> None:
        try:
            import aiohttp
        except ModuleNotFoundError as error:
            raise EnvironmentProblem("isthmus.AsyncClient needs aiohttp; install `isthmus[async]`") from error
        self._aiohttp = aiohttp
        self._places = settings.places(edge=edge, api=api, stack=stack, token=token, api_key=api_key)
        self._limits = Limits(deadline_seconds, attempts)
        self._connections = connections
        self._session: ClientSession | None = None

    async def infer(
        self,
        model: str,
        inputs: Mapping[str, ArrayLike],
        *,
        version: str | None = None,
        outputs: Sequence[str] = (),
        preprocess: bool = False,
        postprocess: bool = False,
        parameters: Mapping[str, Any] | None = None,
        binary: bool | None = None,
        deadline_seconds: float | None = None,
    ) -> Answer:
        """As ``Client.infer``."""
        flags = {"preprocess": preprocess, "postprocess": postprocess}
        asked = {**(parameters or {}), **{name: True for name, flag in flags.items() if flag}}
        call = calls.infer(model, inputs, version=version, outputs=outputs, parameters=asked, binary=binary)
        return calls.answered(*await self._run(call, deadline_seconds))

    async def classify(
        self,
        model: str,
        picture: bytes,
        *,
        version: str | None = None,
        top_k: int | None = None,
        deadline_seconds: float | None = None,
    ) -> Classification:
        """As ``Client.classify``."""
        call = calls.classify(model, picture, version=version, top_k=top_k)
        return calls.classified(*await self._run(call, deadline_seconds))

    async def metadata(
        self, model: str, *, version: str | None = None, deadline_seconds: float | None = None
    ) -> ModelMetadata:
        """As ``Client.metadata``."""
        return (await self._run(calls.metadata(model, version=version), deadline_seconds))[0]

    async def send(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        deadline_seconds: float | None = None,
    ) -> tuple[HttpResponse, Trip]:
        """As ``Client.send``."""
        return await self._run(calls.plain(method, path, headers or {}, body), deadline_seconds)

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _run(self, call: Call[T], deadline_seconds: float | None) -> tuple[T, Trip]:
        limits = self._limits
        if deadline_seconds is not None:
            limits = Limits(deadline_seconds, limits.attempts)
        steps = Exchange(call, self._places, limits, time.monotonic).steps()
        outcome: Outcome = None
        try:
            while True:
                step = steps.send(outcome)
                outcome = await self._do(step)
        except StopIteration as end:
            found: tuple[T, Trip] = end.value
            return found

    async def _do(self, step: Send | Pause) -> Outcome:
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
            return None
        try:
            async with asyncio.timeout(step.timeout_seconds):
                return await self._send(step)
        except IsthmusError as error:
            return Lost(error=error)
        except TimeoutError:
            return Lost("it took too long")
        except self._aiohttp.ClientConnectorError as error:
            number = error.os_error.errno  # of a name that nobody knows, it is negative
            return Lost(f"no connection ({os.strerror(number) if number and number > 0 else error.os_error})")
        except (self._aiohttp.ClientError, OSError) as error:
            return Lost(f"the connection broke ({type(error).__name__})")

    async def _send(self, step: Send) -> HttpResponse:
        from yarl import URL

        # Credentials may be renewed over the network, and a stack be looked up.
        outgoing = await asyncio.to_thread(
            step.place.outgoing, step.method, step.path, step.headers, step.body
        )
        timeout = self._aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS)
        async with self._opened().request(
            outgoing.method,
            URL(outgoing.url, encoded=True),  # as it was signed
            data=outgoing.body or None,
            headers=outgoing.headers,
            timeout=timeout,
            allow_redirects=False,
        ) as response:
            return HttpResponse(response.status, await response.read(), dict(response.headers))

    def _opened(self) -> ClientSession:
        if self._session is None:
            connector = self._aiohttp.TCPConnector(limit=self._connections)
            # aiohttp would name a content type for a body that has none.
            self._session = self._aiohttp.ClientSession(
                connector=connector, skip_auto_headers=("content-type", "user-agent")
            )
        return self._session
