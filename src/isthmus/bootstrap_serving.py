"""The composition root of what serves: a model's function, the router, and who compares for it.

Of its own, so that a model's function loads no more than it needs: boto3 only where a bundle or a body
comes through the bucket.
"""

from __future__ import annotations

import base64
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from isthmus.config import AuthorizeRequestSettings
    from isthmus.inference.service import ModelService
    from isthmus.workflows.authorize_request import Tokens
    from isthmus.workflows.hand_over import HandOver
    from isthmus.workflows.serving_settings import ServingSettings
    from isthmus.workflows.shadows import Shadows

BUNDLE_VARIABLE = "ISTHMUS_BUNDLE"
"""``<model>/<digest>`` of a bundle that no layer brings; set when its function is staged."""
BASELINE_VARIABLE = "ISTHMUS_BASELINE"
"""What the model's inputs looked like where it was judged, as JSON; set when its function is staged."""
WEIGHTS_FOLDER = Path("/tmp/isthmus")


def model_service(
    environment: Mapping[str, str], report: Callable[[str, float, float], None] | None = None
) -> ModelService:
    """Open the bundle that a layer brought, or that the bucket has, and serve it.

    ``report`` hears of the model's name, drift index and shift, where the environment has a baseline.
    """
    if environment.get(BUNDLE_VARIABLE):
        service = _from_bucket(environment)
    else:
        from isthmus.inference.lambda_handler import service_from_env

        service = service_from_env(environment)
    baseline = environment.get(BASELINE_VARIABLE)
    return _watched(service, baseline, report) if baseline and report else service


def _watched(
    service: ModelService, baseline: str, report: Callable[[str, float, float], None]
) -> ModelService:
    import msgspec

    from isthmus.inference.drift import WatchedEngine
    from isthmus.inference.service import ModelService
    from isthmus.model.drift import Baseline

    (model,) = service.models.values()
    known = msgspec.json.decode(baseline, type=Baseline)
    engine = WatchedEngine(model.engine, known, lambda drift: report(model.name, drift.index, drift.shift))
    return ModelService([msgspec.structs.replace(model, engine=engine)])


def answer_handed_over(
    event: Mapping[str, Any], service: ModelService, environment: Mapping[str, str]
) -> dict[str, Any]:
    """Answer a request whose body, or whose answer, goes through the bucket."""
    from isthmus.adapters.https import Objects
    from isthmus.inference.handover import answer_handed_over
    from isthmus.model.units import MIB

    # The body, its arrays and the model share the function's memory.
    most = min(64, int(environment["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"]) // 16) * MIB
    return answer_handed_over(event, service, Objects(), max_bytes=most)


def _from_bucket(environment: Mapping[str, str]) -> ModelService:
    from isthmus.adapters.aws.blobs import S3BlobStore
    from isthmus.inference.lambda_handler import ServeSettings
    from isthmus.inference.runtime import threads_for_memory
    from isthmus.inference.service import ModelService, served
    from isthmus.workflows.fetch_weights import fetch_weights

    settings = ServeSettings.from_env(environment)
    model, _, digest = environment[BUNDLE_VARIABLE].partition("/")
    blobs = S3BlobStore(environment["ISTHMUS_BUCKET"])
    bundle = fetch_weights(model, digest, settings.public_key_der, WEIGHTS_FOLDER / digest, blobs=blobs)
    return ModelService([served(bundle, threads=threads_for_memory(settings.memory_mb))])


def hand_over(bucket: str) -> HandOver:
    """The router's side of large bodies."""
    from isthmus.adapters.aws.presign import S3Presigner
    from isthmus.adapters.system import SystemClock
    from isthmus.workflows.hand_over import HandOver

    return HandOver(S3Presigner(bucket), SystemClock())


@functools.cache
def serving_settings(table: str) -> ServingSettings:
    """What the router is told of the models; kept for half a minute in each execution environment."""
    from isthmus.adapters.aws.records import DynamoRecords
    from isthmus.adapters.system import SystemClock
    from isthmus.workflows.serving_settings import ServingSettings

    return ServingSettings(DynamoRecords(table), SystemClock())


def shadows(bucket: str, comparer: str) -> Shadows:
    """The way to the function that compares a candidate with what is in service."""
    from isthmus.adapters.aws.functions import LambdaFunctions
    from isthmus.workflows.shadows import Shadows

    return Shadows(LambdaFunctions(bucket), comparer)


def tokens(settings: AuthorizeRequestSettings) -> Tokens:
    """What lets a bearer in, with the issuer's keys from where the stack says."""
    from isthmus.adapters.https import fetch
    from isthmus.adapters.system import SystemClock
    from isthmus.errors import EnvironmentProblem
    from isthmus.workflows.authorize_request import Tokens

    keys = settings.jwt_keys
    if keys.startswith("https://"):
        source = functools.partial(fetch, keys)
    else:
        try:
            known = base64.b64decode(keys, validate=True)
        except ValueError:
            known = b""
        if not known.startswith(b"{"):
            raise EnvironmentProblem(
                "tokens need JwtKeys: the https address of the issuer's key set, or the set as JSON in base64"
            )
        source = functools.partial(bytes, known)
    return Tokens(settings.jwt_issuer, settings.jwt_audience, source, SystemClock(), scope=settings.jwt_scope)
