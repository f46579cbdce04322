"""An AWS endpoint over HTTP: moto answers for SQS, DynamoDB and S3; task tokens and function calls are handed on."""

from __future__ import annotations

import json
import re
import select
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol

from isthmus.errors import Conflict, IsthmusError

REGION = "eu-central-1"
SERVICE = re.compile(r"Credential=[^/]+/[0-9]+/[^/]+/([a-z0-9]+)/aws4_request")


class Control(Protocol):
    """Who answers for Step Functions and Lambda."""

    def end(self, token: str, kind: str, value: Any) -> None:
        """SendTaskSuccess and SendTaskFailure. Raises Conflict."""

    def heartbeat(self, token: str) -> None:
        """SendTaskHeartbeat. Raises Conflict."""

    def invoke(self, payload: dict[str, Any]) -> Any:
        """Call FinishAttempt."""


class Endpoint(ThreadingHTTPServer):
    """Serves until ``shutdown``; ``control`` is set before the first call that needs it."""

    daemon_threads = True
    request_queue_size = 256
    control: Control

    def __init__(self) -> None:
        from moto.backends import get_backend
        from moto.core.botocore_stubber import BotocoreStubber

        for service in ("dynamodb", "s3", "sqs"):
            get_backend(service)  # imported now: a first call would take longer than a client waits
        super().__init__(("127.0.0.1", 0), _Handler)
        self.moto = BotocoreStubber()
        self.swallowed: list[float] = []
        """When a message was handed to a long poll whose caller was gone. SQS notices no more than moto does: the
        message comes back after its visibility timeout."""
        threading.Thread(target=self.serve_forever, name="endpoint", daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed, or a link that was cut, is no fault."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Endpoint
    wbufsize = -1

    def setup(self) -> None:
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().setup()

    def log_message(self, format: str, *arguments: object) -> None:
        return

    def handle_expect_100(self) -> bool:
        self.send_response_only(100)
        self.end_headers()
        self.wfile.flush()
        return True

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        found = SERVICE.search(self.headers.get("Authorization", ""))
        service = found.group(1) if found else "s3"
        if service == "states":
            status, headers, answer = self._states(json.loads(body))
        elif service == "lambda":
            status, headers, answer = self._function(json.loads(body))
        else:
            status, headers, answer = self._moto(service, body)
        body = answer.encode() if isinstance(answer, str) else answer
        if service == "sqs" and b"ReceiptHandle" in body and self._is_caller_gone():
            self.server.swallowed.append(time.time())
        self._answer(status, headers, body)

    def _is_caller_gone(self) -> bool:
        readable, _, _ = select.select([self.connection], [], [], 0)
        try:
            return bool(readable) and self.connection.recv(1, socket.MSG_PEEK) == b""
        except OSError:
            return True

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _serve  # noqa: N815

    def _moto(self, service: str, body: bytes) -> tuple[int, dict[str, str], Any]:
        from botocore.awsrequest import AWSPreparedRequest
        from botocore.compat import HTTPHeaders

        headers = HTTPHeaders()
        for name, value in self.headers.items():
            if name.lower() != "host":
                headers[name] = value
        host = f"{service}.{REGION}.amazonaws.com"
        headers["Host"] = host
        request = AWSPreparedRequest(self.command, f"https://{host}{self.path}", headers, body, False)
        found = self.server.moto.process_request(request)
        return found if found is not None else (404, {}, "no such service")

    def _states(self, wanted: dict[str, Any]) -> tuple[int, dict[str, str], str]:
        action, control = self.headers["X-Amz-Target"].split(".")[1], self.server.control
        headers = {"Content-Type": "application/x-amz-json-1.0"}
        try:
            if action == "SendTaskHeartbeat":
                control.heartbeat(wanted["taskToken"])
            elif action == "SendTaskSuccess":
                control.end(wanted["taskToken"], "succeeded", json.loads(wanted["output"]))
            else:
                failure = {"Error": wanted["error"], "Cause": wanted["cause"]}
                control.end(wanted["taskToken"], "failed", failure)
        except Conflict as error:
            return 400, headers, json.dumps({"__type": "TaskTimedOut", "message": str(error)})
        return 200, headers, "{}"

    def _function(self, payload: dict[str, Any]) -> tuple[int, dict[str, str], str]:
        try:
            return 200, {}, json.dumps(self.server.control.invoke(payload))
        except IsthmusError as error:
            answer = {"errorType": type(error).__name__, "errorMessage": str(error)}
            return 200, {"X-Amz-Function-Error": "Unhandled"}, json.dumps(answer)

    def _answer(self, status: int, headers: Any, body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in ("content-length", "connection", "transfer-encoding", "date", "server"):
                self.send_header(name, str(value))
        length = headers.get("content-length", headers.get("Content-Length"))
        shown = length if self.command == "HEAD" and length is not None else len(body)
        self.send_header("Content-Length", str(shown))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
