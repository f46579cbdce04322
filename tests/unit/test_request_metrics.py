"""Of which requests the router makes metrics: a caller can make up names, and each would be a metric that costs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

FUNCTIONS = Path(__file__).parents[2] / "functions"
RUN = """
import json, sys
sys.path.insert(0, sys.argv[1])
class Context:
    function_name = "shop-route"; function_version = "1"; memory_limit_in_mb = 512
    invoked_function_arn = "arn:aws:lambda:eu-west-1:1:function:shop-route"; aws_request_id = "r-1"
import route_inference.app as app
for event in json.loads(sys.argv[2]):
    print(json.dumps({"status": app.handler(event, Context())["statusCode"]}))
"""


class Aws(BaseHTTPRequestHandler):
    """Lambda with one model's function, ``digits``; and a DynamoDB whose table is empty."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        if "dynamodb" in self.headers.get("X-Amz-Target", "").lower():
            return self.give(200, {"Items": []})
        if "shop-model-digits/" in self.path:
            return self.give(200, {"statusCode": 200, "headers": {}, "body": "{}"})
        return self.give(404, {"Message": "not found"})

    def give(self, status: int, body: Any) -> None:
        raw = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(raw)))
        if status == 404:
            self.send_header("x-amzn-ErrorType", "ResourceNotFoundException")
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.fixture
def aws() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Aws)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def ask(aws: str, *events: dict[str, Any]) -> list[dict[str, Any]]:
    """Return every line that the router printed."""
    env = {
        "PATH": os.environ["PATH"],
        "AWS_ENDPOINT_URL": aws,
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "ISTHMUS_STACK": "shop",
        "ISTHMUS_BUCKET": "bucket",
        "ISTHMUS_TABLE": "table",
        "ISTHMUS_SHADOW_FUNCTION": "comparer",
        "POWERTOOLS_SERVICE_NAME": "isthmus",
    }
    command = [sys.executable, "-c", RUN, str(FUNCTIONS), json.dumps(events)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def request(method: str, path: str, **headers: str) -> dict[str, Any]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return {"httpMethod": method, "path": path, "headers": named, "body": ""}


def test_only_a_model_whose_function_was_reached_has_metrics(aws: str) -> None:
    lines = ask(
        aws,
        request("GET", "/v2/models/made-up-1/handover"),
        request("POST", "/v2/models/made-up-2/infer", Isthmus_Handover="x"),
        request("POST", "/v2/models/made-up-3/infer"),
        request("POST", "/v2/models/digits/infer"),
    )
    assert [line["status"] for line in lines if "_aws" not in line] == [405, 400, 404, 200]
    (metrics,) = [line for line in lines if "_aws" in line]
    assert (metrics["model"], metrics["RequestFailed"]) == ("digits", [0])
