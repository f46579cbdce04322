"""``isthmus edge results [MODEL]``: what devices sent, and how far their answers are from their model's own; and the
options of ``edge serve`` that make this machine one of them."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isthmus import bootstrap_results
from isthmus.cli import planfiles
from isthmus.cli.context import Stack
from isthmus.cli.output import Output, table
from isthmus.cli.predict_input import read_token
from isthmus.errors import InvalidInput
from isthmus.workflows.show_results import DeviceShown, ModelShown, show_results

if TYPE_CHECKING:
    from isthmus.edge.results import Results

API_FILE = "api_url"
OUTBOX = "outbox"
COLUMNS = ("device", "seen", "results", "dropped", "model", "release", "answers", "drift", "confidence")


def register(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verb."""
    results = verbs.add_parser(
        "results", parents=[common], help="per device: results that came, and drift of its answers"
    )
    results.add_argument("model", nargs="?", default="", metavar="MODEL", help="this one alone")
    results.set_defaults(run=_results)


def add_options(serve: argparse.ArgumentParser) -> None:
    """Add what ``edge serve`` is told of results."""
    serve.add_argument(
        "--results",
        type=Path,
        metavar="FOLDER",
        help="keep each answer's result and send it to the stack, as the device whose certificate is in FOLDER "
        "(`isthmus edge join`)",
    )
    serve.add_argument(
        "--results-seconds",
        type=float,
        default=10.0,
        metavar="N",
        help="results of so many seconds are sent together (default: 10)",
    )
    serve.add_argument(
        "--api-key-file",
        metavar="FILE",
        help="a key of the API's usage plan, for results, where it wants one",
    )


def check(options: argparse.Namespace) -> None:
    """Refuse options that do not fit together."""
    if options.results is not None and options.policy is None:
        raise InvalidInput("--results needs --policy FILE, which says what may leave this machine")
    if not 0 < options.results_seconds <= 86400:
        raise InvalidInput(f"--results-seconds needs a number up to 86400, not {options.results_seconds:g}")


def kept(
    options: argparse.Namespace,
    folder: Path,
    address: Callable[[], str],
    unreachable: tuple[type[Exception], ...],
    output: Output,
) -> Results | None:
    """Return what keeps and sends results, if they are wanted. The API's address is remembered in ``folder``: a device
    may start where nobody tells it."""
    from isthmus.edge.result_settings import ResultSettings

    if options.results is None:
        return None
    known = folder / API_FILE
    try:
        api = address()
        with contextlib.suppress(OSError):  # on a full disk the next start asks again
            known.write_text(api)
    except unreachable as error:
        api = known.read_text() if known.is_file() else ""
        if not api:
            output.progress(f"results wait: the API's address is not known ({error})")
    settings = ResultSettings(
        folder=folder / OUTBOX,
        device=bootstrap_results.device_name(options.results),
        policy=planfiles.read_policy(options.policy),
        api=api,
        gather_seconds=options.results_seconds,
        api_key=read_token(options.api_key_file, "an API key") if options.api_key_file else "",
    )
    return bootstrap_results.device_results(settings, options.results)


def said(told: dict[str, Any]) -> str:
    """Return what the status tells of results, as the end of a sentence."""
    results = told.get("results")
    return "" if results is None else f"; {results.get('held', 0)} results wait to be sent"


def _results(options: argparse.Namespace, output: Output) -> None:
    found = show_results(Stack(options.stack).records, options.model)
    rows = [_row(entry, model) for entry in found for model in entry.models or (None,)]
    output.result(found, table(rows, COLUMNS) if rows else "no device has sent results yet")


def _row(entry: DeviceShown, model: ModelShown | None) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(COLUMNS, "-")
    row |= {
        "device": entry.device,
        "seen": entry.last_seen[:19],
        "results": entry.results,
        "dropped": entry.dropped,
    }
    if model is None:
        return row
    row |= {"model": model.model, "release": model.release, "answers": model.answers}
    if model.drift is not None:
        sure = model.drift.confidence
        row |= {"drift": f"{model.drift.classes:.2f}{'!' if model.drifted else ''}"}
        row |= {"confidence": "-" if sure is None else f"{sure:.2f}"}
    return row
