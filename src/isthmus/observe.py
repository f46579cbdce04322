"""What a function tells about itself, through Powertools: log lines, spans and metrics.

- *Log lines* are JSON, and say whom they are about (``KEYS``, and a ``correlation_id`` that all the
  functions of one pipeline share). An event is never logged: it may hold a payload or a task token.
- *Spans* are recorded only in calls that Lambda sampled. The X-Ray SDK, which loads botocore, stays
  out of every other call, and out of import.
- *Metrics* are lines in the embedded metric format (EMF): CloudWatch reads them out of the log, so a
  function needs no right and no request for them, and none is paid for while nothing happens.

``docs/adr/0015`` says what each costs.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from isthmus.errors import DEPLOYMENT_FAULTS, IsthmusError

if TYPE_CHECKING:
    from aws_lambda_powertools import Logger, Tracer

    logger: Logger

Handler = Callable[[dict[str, Any], Any], Any]

KEYS = ("job_key", "fencing", "model", "release", "rollout", "action")
"""Fields of an event that say whom a call is about, and nothing more."""
NAMESPACE_VARIABLE = "POWERTOOLS_METRICS_NAMESPACE"
TALKATIVE = ("botocore", "aws_xray_sdk")
"""Libraries that tell at level INFO, in every cold start, what nobody asked for."""
TRACE_VARIABLE = "_X_AMZN_TRACE_ID"

METRICS: dict[str, tuple[str, tuple[str, ...]]] = {
    "PipelineEnded": ("Count", ("state",)),
    "TrainingSeconds": ("Seconds", ()),
    "AttemptLost": ("Count", ()),
    "RolloutReverted": ("Count", ()),
    # How many requests there were is the sample count of either.
    "RequestLatency": ("Milliseconds", ("model",)),
    "RequestFailed": ("Count", ("model",)),
    # Of a part of what a model is asked, against what it was judged on.
    "InputDrift": ("None", ("model",)),
    "InputShift": ("None", ("model",)),
    # Of what a device's model answers, against what it answered where it was judged.
    "AnswerDrift": ("None", ("model",)),
    "ConfidenceDrift": ("None", ("model",)),
    # Of a candidate that answers copies of a model's requests.
    "ShadowLatency": ("Milliseconds", ("model",)),
    "ShadowFailed": ("Count", ("model",)),
    "ShadowDifference": ("None", ("model",)),
}
"""Each metric's unit and dimensions. Every value of a dimension is a metric of its own to CloudWatch,
and costs while it is sent: a dimension has few values, and never one that a caller makes up."""


def __getattr__(name: str) -> Any:
    """Make ``logger`` when it is first asked for: Powertools is a fifth of what a serving function would import."""
    if name == "logger":
        return _logger()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@functools.cache
def _logger() -> Logger:
    from aws_lambda_powertools import Logger

    return Logger()


def observed(handler: Handler, *, spans: bool = True) -> Handler:
    """Wrap a Lambda handler: its calls are logged, traced, and their failures named.

    ``spans=False``: of a function that starts while somebody waits. It loads no botocore, and no Powertools either
    for a request that is answered: there is nothing to say about it.
    """
    return _observed(handler, spans=True) if spans else _quietly(handler)


def _quietly(handler: Handler) -> Handler:
    @functools.wraps(handler)
    def run(event: dict[str, Any], context: Any) -> Any:
        if "httpMethod" not in event:
            return _observed(handler, spans=False)(event, context)
        try:
            return handler(event, context)
        except Exception as error:
            return _observed(functools.partial(_raise, error), spans=False)(event, context)

    return run


def _raise(error: Exception, event: dict[str, Any], context: Any) -> Any:
    raise error


def _observed(handler: Handler, *, spans: bool) -> Handler:
    import logging

    logger = _logger()
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)

    @functools.wraps(handler)
    def run(event: dict[str, Any], context: Any) -> Any:
        about = {name: event[name] for name in KEYS if name in event}
        logger.append_keys(**about, correlation_id=correlation_id(event))
        inner = _traced(handler, about) if spans and sampled() else handler
        return _logged(inner, event, context)

    return logger.inject_lambda_context(run, clear_state=True)


def correlation_id(event: Mapping[str, Any]) -> str:
    """Return what ties a call to the others of its story, or an empty text.

    That is a pipeline's job key, an execution's name, an API request's id, or the id of the event.
    """
    detail, request = event.get("detail") or {}, event.get("requestContext") or {}
    candidates = (
        event.get("job_key"),
        event.get("rollout"),
        request.get("requestId"),
        detail.get("name"),  # of an execution, in its status change
        event.get("RequestId"),  # of CloudFormation
        event.get("id"),  # of EventBridge
    )
    return str(next(filter(None, candidates), ""))


def emit(values: Mapping[str, float], *, facts: Mapping[str, Any] | None = None, **dimensions: str) -> None:
    """Write metrics of ``METRICS`` that share their dimensions, as one line.

    ``facts`` go into the line as fields that can be searched, and become no dimension.

    Raises:
        KeyError: a metric that ``METRICS`` does not know.
        ValueError: dimensions that are not the metric's.
    """
    from aws_lambda_powertools.metrics import EphemeralMetrics

    metrics = EphemeralMetrics(namespace=os.environ.get(NAMESPACE_VARIABLE, "isthmus"))
    for dimension, text in dimensions.items():
        metrics.add_dimension(dimension, text)
    for name, value in values.items():
        unit, wanted = METRICS[name]
        if set(wanted) != set(dimensions):
            raise ValueError(f"{name} has the dimensions {wanted}, not {tuple(dimensions)}")
        metrics.add_metric(name, unit, value)
    for fact, content in (facts or {}).items():
        metrics.add_metadata(fact, content)
    metrics.flush_metrics()


def sampled() -> bool:
    """Return whether Lambda traces this call (its tracing header says ``Sampled=1``)."""
    return "Sampled=1" in os.environ.get(TRACE_VARIABLE, "")


def _logged(handler: Handler, event: dict[str, Any], context: Any) -> Any:
    logger = _logger()
    started = time.perf_counter()
    try:
        result = handler(event, context)
    except IsthmusError as error:
        # Named, and answered for: by the state machine, or by a dead letter. No alarm of its own, unless
        # every further call will meet it.
        say = logger.error if isinstance(error, DEPLOYMENT_FAULTS) else logger.warning
        say("failed", extra={"error": type(error).__name__, "cause": str(error)})
        raise
    except Exception:
        logger.exception("failed unexpectedly")
        raise
    # A line per request would cost more than the request's functions do.
    say = logger.debug if "httpMethod" in event else logger.info
    say("done", extra={"milliseconds": round((time.perf_counter() - started) * 1000, 1)})
    return result


def _traced(handler: Handler, about: Mapping[str, Any]) -> Handler:
    tracer = _tracer()

    @functools.wraps(handler)
    def annotated(event: dict[str, Any], context: Any) -> Any:
        for name, value in about.items():
            tracer.put_annotation(name, str(value))
        return handler(event, context)

    # The span is called after the verb: plan_training.app → plan_training.
    annotated.__name__ = handler.__module__.split(".")[0]
    # A response may be a payload, and an error's metadata hold its arguments.
    traced: Handler = tracer.capture_lambda_handler(annotated, capture_response=False, capture_error=False)
    return traced


@functools.cache
def _tracer() -> Tracer:
    from aws_lambda_powertools import Tracer

    return Tracer(patch_modules=("botocore",))
