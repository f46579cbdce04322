"""Commands of ``python -m isthmus_localcloud``. Exit codes: 0 done, 1 refused or failed, 2 wrong usage."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .edge import commands as edge_commands
from .errors import LocalcloudError
from .lifecycle import Wish, down, follow_log, log_file, status, up
from .state import StateFolder


def parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--state", type=Path, default=Path(".isthmus/local"), help="folder for everything it writes"
    )
    common.add_argument("--json", action="store_true", help="print one JSON object")
    root = argparse.ArgumentParser(prog="isthmus-localcloud", description=__doc__)
    commands = root.add_subparsers(dest="command", required=True)
    start = commands.add_parser("up", parents=[common], help="start, or say that it runs")
    start.add_argument("--port", type=int, default=4566, help="0 takes any free port")
    start.add_argument("--region", default="eu-west-1")
    start.add_argument("--foreground", action="store_true", help="stay attached until Ctrl-C")
    start.add_argument(
        "--image", action="append", default=[], metavar="NAME=COMMAND", help="runs a training image"
    )
    start.add_argument(
        "--runtime", action="append", default=[], metavar="NAME=PYTHON", help="runs a Lambda runtime"
    )
    commands.add_parser("down", parents=[common], help="end everything")
    commands.add_parser("status", parents=[common], help="what runs")
    logs = commands.add_parser("logs", parents=[common], help="its own log, a function's or a training job's")
    logs.add_argument("name", nargs="?")
    logs.add_argument("--follow", action="store_true")
    spot = commands.add_parser("interrupt", parents=[common], help="take a spot training job's capacity back")
    spot.add_argument("name")
    spot.add_argument("--seconds", type=float, default=60, help="until there is capacity again (default: 60)")
    edge_commands.add_to(commands.add_parser("edge", help="stand-in Greengrass core devices"), common)
    return root


def pairs(options: Sequence[str], flag: str) -> dict[str, str]:
    """``NAME=VALUE`` options. Raises LocalcloudError for one without a value."""
    found = {}
    for option in options:
        name, equals, value = option.partition("=")
        if not (name and equals and value):
            raise LocalcloudError(f"{flag} needs NAME=VALUE, but got {option!r}")
        found[name] = value
    return found


def run(arguments: argparse.Namespace) -> dict[str, Any] | None:
    state = StateFolder(arguments.state.absolute())
    match arguments.command:
        case "up":
            wish = Wish(
                port=arguments.port,
                region=arguments.region,
                images=pairs(arguments.image, "--image"),
                runtimes=pairs(arguments.runtime, "--runtime"),
                foreground=arguments.foreground,
            )
            return up(state, wish, quiet=arguments.json)
        case "down":
            return down(state)
        case "status":
            return status(state)
        case "logs":
            return show_log(state, arguments)
        case "interrupt":
            return interrupt(state, arguments.name, arguments.seconds)
        case _:
            return edge_commands.run(state, arguments)


def interrupt(state: StateFolder, name: str, seconds: float) -> dict[str, Any]:
    """Raises LocalcloudError when no job of that name runs."""
    folder = state.jobs_dir / name
    if not folder.is_dir():
        raise LocalcloudError(f"no training job {name} runs here")
    (folder / "interrupt.new").write_text(f"{seconds:g}")
    (folder / "interrupt.new").rename(folder / "interrupt")
    return {"name": name, "seconds": seconds}


def show_log(state: StateFolder, arguments: argparse.Namespace) -> dict[str, Any] | None:
    file = log_file(state, arguments.name)
    if arguments.json:
        return {"file": str(file), "text": file.read_text(errors="replace")}
    for piece in follow_log(file, arguments.follow):
        sys.stdout.write(piece)
        sys.stdout.flush()
    return None


def render(result: dict[str, Any]) -> str:
    """Lines of ``name: value`` for people."""
    plain = (dict, list)
    return "\n".join(f"{k}: {json.dumps(v) if isinstance(v, plain) else v}" for k, v in result.items())


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    try:
        result = run(arguments)
    except LocalcloudError as error:
        if arguments.json:
            print(json.dumps({"error": str(error)}))
        print(f"isthmus-localcloud: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    if result is not None:
        print(json.dumps(result) if arguments.json else render(result))
    return int(result.get("exit_code", 0)) if result else 0
