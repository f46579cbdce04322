"""``isthmus load``: ask a model again and again; the percentiles of its latency, and a picture of them."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from isthmus.cli import planfiles, predict, predict_input
from isthmus.cli.output import Output
from isthmus.client import Client, load_picture, wire
from isthmus.client.load import Load, Measured, measure, percentiles
from isthmus.errors import IsthmusError


def register(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "load",
        parents=[common],
        help="measure a model's latency under load",
        description="Ask a model in service again and again with one INPUT (as for predict). Each client asks again "
        "when it has its answer; with --rate requests are due at a rate instead, and a wait for a free client counts.",
    )
    parser.add_argument("model")
    parser.add_argument("input", metavar="INPUT", help="file, or - for standard input")
    parser.add_argument(
        "--clients", type=int, default=8, metavar="N", help="requests at once, at most (default 8)"
    )
    parser.add_argument(
        "--requests", type=int, metavar="N", help="end after so many (default 1000, without --seconds)"
    )
    parser.add_argument("--seconds", type=float, metavar="S", help="end after so long")
    parser.add_argument(
        "--rate", type=float, metavar="R", help="requests in a second, whatever becomes of them"
    )
    parser.add_argument(
        "--warm-up",
        type=int,
        metavar="N",
        help="requests before that are not counted (default: one for each client)",
    )
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw the percentiles")
    parser.add_argument("--png", type=Path, metavar="FILE", help="draw the percentiles")
    predict.add_where(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace, output: Output) -> int:
    planfiles.check_writable((options.svg, options.png))
    requests = options.requests if options.requests or options.seconds else 1000
    warm_up = options.clients if options.warm_up is None else options.warm_up
    load = Load(
        clients=options.clients,
        requests=requests,
        seconds=options.seconds,
        rate=options.rate,
        warm_up=warm_up,
    )
    given = predict_input.read(options.input)
    # Nothing is asked twice: what a retry would hide is what is measured.
    clients = [predict.client_for(options, attempts=1) for _ in range(load.clients)]
    try:
        ask = _asker(clients, given, options)
        output.progress(f"asking {options.model}: {_told(load)}")
        measured = measure(ask, load)
    finally:
        for client in clients:
            client.close()
    _draw(measured, options)
    output.result(_as_json(measured), _as_text(measured))
    return 1 if measured.errors else 0


def _asker(
    clients: list[Client], given: predict_input.Given, options: argparse.Namespace
) -> Callable[[int], str]:
    """Return what one client sends; its first answer shows that it can be answered at all."""
    model, version = options.model, options.version_of_model
    match given:
        case predict_input.Picture(data):

            def one(client: Client) -> object:
                return client.classify(model, data, version=version)

        case predict_input.Arrays():
            arrays, raw = predict_input.matched(given, clients[0].metadata(model, version=version))

            def one(client: Client) -> object:
                return client.infer(model, arrays, version=version, preprocess=raw)

        case predict_input.Request(data, identity):

            def one(client: Client) -> object:
                path, headers = predict.path_of(options), {"content-type": "application/json"}
                return wire.read_answer(client.send("POST", path, data, headers)[0], id=identity)

    one(clients[0])

    def ask(number: int) -> str:
        try:
            one(clients[number])
        except IsthmusError as error:
            return type(error).__name__
        return ""

    return ask


def _draw(measured: Measured, options: argparse.Namespace) -> None:
    title = f"{options.model} at {options.edge or options.api or f'the API of {options.stack}'}"
    for path in (options.svg, options.png):
        if path is not None:
            sheet = load_picture.draw(measured, title)
            planfiles.write(path, sheet.svg() if path is options.svg else sheet.png())


def _told(load: Load) -> str:
    loop = f"{load.rate:g} requests/s" if load.rate else "each again when it has its answer"
    ends = [f"{load.requests:,} requests"] if load.requests else []
    ends += [f"{load.seconds:g} s"] if load.seconds else []
    return f"{load.clients} clients, {loop}, for {' or '.join(ends)}"


def _milliseconds(values: list[float]) -> dict[str, float]:
    return {name: round(1000 * seconds, 3) for name, seconds in percentiles(values).items()}


def _as_json(measured: Measured) -> dict[str, Any]:
    load = measured.load
    return {
        "loop": "open" if load.rate else "closed",
        "clients": load.clients,
        "rate": load.rate,
        "requests": measured.requests,
        "errors": dict(measured.errors),
        "seconds": round(measured.seconds, 3),
        "answers_per_second": round(measured.per_second, 2),
        "latency_ms": _milliseconds(measured.latencies),
        "service_ms": _milliseconds(measured.services),
        "sent_late": measured.late,
        "warm_up": load.warm_up,
    }


def _as_text(measured: Measured) -> str:
    load = measured.load
    lines = [
        f"{measured.requests:,} requests in {measured.seconds:.1f} s: {measured.per_second:.1f} answers/s, "
        f"{sum(measured.errors.values())} errors"
    ]
    lines += [f"  {times:,} times {kind}" for kind, times in measured.errors.most_common()]
    lines.append(_row("latency", _milliseconds(measured.latencies)))
    if load.rate:
        lines.append(_row("from sending", _milliseconds(measured.services)))
        if measured.late:
            lines.append(
                f"{measured.late:,} were sent late: {load.clients} clients do not keep up with {load.rate:g}/s"
            )
    else:
        lines.append("closed loop: while the server stalls nobody asks; --rate counts such waits too")
    return "\n".join(lines)


def _row(name: str, told: dict[str, float]) -> str:
    return f"{name:13}" + "  ".join(f"{label} {value:.1f} ms" for label, value in told.items())
