"""``isthmus predict``: a picture, an array or a request, to the API or to a core device."""

from __future__ import annotations

import argparse
import importlib.util
from typing import Any

import msgspec

from isthmus.cli import predict_input, predict_text
from isthmus.cli.output import Output
from isthmus.client import Answer, Client, calls, wire
from isthmus.client.answer import Trip

DEADLINE_SECONDS = 35.0
TOP = 5


def register(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "predict",
        parents=[common],
        help="ask a model in service",
        description="Ask a model in service. INPUT is a picture (PNG, JPEG), an array (.npy), named arrays (.npz), "
        "or a request of the Open Inference Protocol v2 (JSON); - reads it from standard input.",
    )
    parser.add_argument("model")
    parser.add_argument("input", metavar="INPUT", help="file, or - for standard input")
    parser.add_argument(
        "--top", type=int, default=TOP, metavar="K", help=f"show the K best classes (default {TOP})"
    )
    add_where(parser)
    parser.set_defaults(run=_run)


def add_where(parser: argparse.ArgumentParser) -> None:
    """Add the options that say whom to ask, and for how long to wait."""
    parser.add_argument(
        "--edge", metavar="URL", help="ask the core device at this address; nothing goes to the API"
    )
    parser.add_argument(
        "--fallback", action="store_true", help="with --edge: ask the API when the device does not answer"
    )
    parser.add_argument("--api", metavar="URL", help="the API's address; looked up in the stack by default")
    parser.add_argument(
        "--token-file", metavar="FILE", help="a bearer token for the API, instead of AWS credentials"
    )
    parser.add_argument("--api-key-file", metavar="FILE", help="a key of the API's usage plan, beside either")
    parser.add_argument("--version-of-model", metavar="N", help="ask for this version of the model")
    parser.add_argument(
        "--deadline",
        type=float,
        default=DEADLINE_SECONDS,
        metavar="SECONDS",
        help=f"(default {DEADLINE_SECONDS:g})",
    )


def client_for(options: argparse.Namespace, *, attempts: int | None = None) -> Client:
    """Return a client of whom the options name.

    Raises:
        InvalidInput: they do not fit together.
    """
    read = predict_input.read_token
    token = read(options.token_file) if options.token_file else None
    api_key = read(options.api_key_file, "an API key") if options.api_key_file else None
    to_cloud = not options.edge or options.fallback or options.api
    stack = options.stack if to_cloud and not options.api else None
    limits: dict[str, Any] = {"deadline_seconds": options.deadline}
    if attempts is not None:
        limits["attempts"] = attempts
    return Client(edge=options.edge, api=options.api, stack=stack, token=token, api_key=api_key, **limits)


def _run(options: argparse.Namespace, output: Output) -> None:
    given = predict_input.read(options.input)
    with client_for(options) as client:
        output.progress(f"asking {options.edge or options.api or f'the API of the stack {options.stack}'}")
        match given:
            case predict_input.Picture():
                _picture(client, given, options, output)
            case predict_input.Arrays():
                _arrays(client, given, options, output)
            case predict_input.Request():
                _request(client, given, options, output)


def _picture(
    client: Client, given: predict_input.Picture, options: argparse.Namespace, output: Output
) -> None:
    found = client.classify(options.model, given.data, version=options.version_of_model, top_k=options.top)
    classes = [msgspec.to_builtins(guess) for guess in found.classes]
    said = {"model_name": found.model, "model_version": found.version, "classes": classes}
    rows = [(guess.label or f"class {guess.index}", guess.score) for guess in found.classes]
    title = predict_text.title(found.model, found.version, found)
    output.result({**said, **_trip(found)}, "\n".join([title, *predict_text.ranks(rows)]))


def _arrays(client: Client, given: predict_input.Arrays, options: argparse.Namespace, output: Output) -> None:
    about = client.metadata(options.model, version=options.version_of_model)
    arrays, raw = predict_input.matched(given, about)
    answer = client.infer(
        options.model, arrays, version=options.version_of_model, preprocess=raw, postprocess=True
    )
    output.result(_as_json(answer), predict_text.answer(answer, options.top))


def _request(
    client: Client, given: predict_input.Request, options: argparse.Namespace, output: Output
) -> None:
    response, trip = client.send("POST", path_of(options), given.data, {"content-type": "application/json"})
    if importlib.util.find_spec("numpy") is None:
        output.result({**msgspec.json.decode(response.body), **_trip(trip)}, response.body.decode())
        return
    answer = calls.answered(wire.read_answer(response, id=given.id), trip)
    # What came as JSON is shown as it came; parameters that others than we understand stay.
    said = _as_json(answer) if wire.is_binary(response) else msgspec.json.decode(response.body)
    output.result({**said, **_trip(trip)}, predict_text.answer(answer, options.top))


def path_of(options: argparse.Namespace) -> str:
    """Return the path of an inference by the model that the options name."""
    return calls.path(options.model, options.version_of_model, "/infer")


def _as_json(answer: Answer) -> dict[str, Any]:
    outputs = [wire.as_json(name, array) for name, array in answer.outputs.items()]
    return {"model_name": answer.model, "model_version": answer.version, "outputs": outputs, **_trip(answer)}


def _trip(trip: Trip) -> dict[str, Any]:
    return {"place": trip.place, "attempts": trip.attempts, "seconds": round(trip.seconds, 6)}
