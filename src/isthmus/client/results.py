"""Results of a device to its stack's API, by the standard library's HTTP: the edge's package has no urllib3."""

from __future__ import annotations

import gzip
import http.client
from urllib.parse import quote, urlsplit

import msgspec

from isthmus.client.place import Authorize, Outgoing
from isthmus.errors import InvalidAnswer, InvalidInput, PermissionMissing, Refused, Unavailable
from isthmus.model.results import RESULTS_PATH, Batch, Confirmed
from isthmus.model.units import KIB

SECONDS = 60.0
"""Of silence on the connection: an API waits 29 s for its function."""
MAX_ANSWER_BYTES = 64 * KIB
LEVEL = 6


class ApiResults:
    """``edge.drain.ResultSink`` at a stack's API, such as ``https://….execute-api.eu-west-1.amazonaws.com/v``.

    Raises:
        InvalidInput: an address that is none.
    """

    def __init__(self, address: str, authorize: Authorize) -> None:
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
            raise InvalidInput(
                f"results need an address that begins with https:// and names a host, not {address[:200]!r}"
            )
        self._address, self._authorize = address.rstrip("/"), authorize

    def send(self, batch: Batch) -> int:
        """As ``ResultSink``.

        Raises:
            PermissionMissing: the device may not send results of its name.
            Refused: the cloud refuses the batch; the sentence says why.
        """
        body = gzip.compress(msgspec.json.encode(batch), LEVEL, mtime=0)
        url = f"{self._address}{RESULTS_PATH}{quote(batch.device, safe='')}"
        status, raw = _exchange(
            self._authorize(Outgoing("POST", url, {"content-type": "application/gzip"}, body))
        )
        if status != 200:
            raise _refusal(status, raw, batch.device)
        try:
            return msgspec.json.decode(raw, type=Confirmed).last
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InvalidAnswer(f"the cloud's answer to a batch of results is none: {error}") from error


def _exchange(request: Outgoing) -> tuple[int, bytes]:
    parts = urlsplit(request.url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.netloc, timeout=SECONDS)
    try:
        connection.request(request.method, parts.path, request.body, dict(request.headers))
        answer = connection.getresponse()
        return answer.status, answer.read(MAX_ANSWER_BYTES)
    except (OSError, http.client.HTTPException) as error:
        raise Unavailable(f"the cloud could not be reached ({type(error).__name__})") from error
    finally:
        connection.close()


def _refusal(status: int, raw: bytes, device: str) -> Exception:
    try:
        said = str(msgspec.json.decode(raw)["error"])[:300]
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError):
        said = "it does not say why"
    if status == 403:
        return PermissionMissing(f"the API takes no results of {device} from this device: {said}")
    if status == 429 or status >= 500:
        return Unavailable(f"the cloud answered {status}: {said}")
    return Refused(f"the cloud refuses results of {device} ({status}): {said}")
