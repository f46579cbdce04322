"""``python -m isthmus_localcloud edge ...``"""

import argparse
import json
from pathlib import Path
from typing import Any

from .. import control
from ..errors import LocalcloudError
from ..state import StateFolder

ABOUT = {
    "start": "register the thing and run the device",
    "stop": "end the device and its components",
    "cut": "close its link to the cloud",
    "mend": "open the link again",
    "status": "what it runs",
    "invoke": "give a Lambda component one event",
    "publish": "publish to a local topic",
}


def add_to(parser: argparse.ArgumentParser, common: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True)
    for name, about in ABOUT.items():
        action = actions.add_parser(name, parents=[common], help=about)
        action.add_argument("name", metavar="NAME", help="the device's thing name")
        if name == "start":
            action.add_argument("--group", help="thing group to join")
            action.add_argument("--role", metavar="ARN", help="token exchange role: what the device may do")
            action.add_argument(
                "--config", metavar="FILE", help="of a nucleus: the device is what its certificate says"
            )
        if name == "invoke":
            action.add_argument("component")
        if name == "publish":
            action.add_argument("topic")
        if name in ("invoke", "publish"):
            action.add_argument("--payload", default="{}", help="JSON")


def run(state: StateFolder, arguments: argparse.Namespace) -> dict[str, Any]:
    """Raises LocalcloudError; an invocation that failed inside the function gives exit code 1."""
    request: dict[str, Any] = {"op": "edge", "action": arguments.action, "name": arguments.name}
    for name in ("group", "role", "config", "component", "topic"):
        if (value := getattr(arguments, name, None)) is not None:
            request[name] = value
    if "config" in request:
        request["config"] = str(Path(request["config"]).resolve())
    if hasattr(arguments, "payload"):
        try:
            request["payload"] = json.loads(arguments.payload)
        except ValueError as error:
            raise LocalcloudError(f"--payload needs JSON, but this is none: {arguments.payload!r}") from error
    answer = control.ask(state.control_socket, request)
    if answer.get("is_error"):
        answer["exit_code"] = 1
    return answer
