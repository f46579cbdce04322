"""Usage plans of REST APIs: LocalEmu takes and refuses API keys as AWS does, but no key is ever too busy.

A plan's rate and burst are a token bucket, and its quota a count, of each key over all stages of the plan.
What is over either gets 429: "Too Many Requests" (THROTTLED), "Limit Exceeded" (QUOTA_EXCEEDED).
Source: API Gateway developer guide, "Usage plans and API keys for REST APIs" (what a limit is of), "Throttle
requests to your REST APIs" (the bucket: rate and capacity) and "Gateway response types"; the words of both
answers: repost.aws/knowledge-center/api-gateway-429-limit. AWS applies them on a best-effort basis, here they
are exact. AWS does not say whether a throttled request counts towards the quota: here it does not. Limits of
single methods, a quota's offset and the use that ``GetUsage`` tells are left out.
"""

from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import Any

from localemu.services.apigateway.next_gen.execute_api.gateway_response import (
    QuotaExceededError,
    ThrottledError,
)
from localemu.services.apigateway.next_gen.execute_api.handlers.api_key_validation import (
    ApiKeyValidationHandler,
)
from localemu.services.apigateway.next_gen.execute_api.handlers.throttle import TokenBucket
from localemu.services.apigateway.next_gen.execute_api.moto_helpers import (
    get_usage_plan_keys,
    get_usage_plans,
)

Key = tuple[str, str, str, str]
"""Account, region, usage plan, API key."""


def apply() -> None:
    original, meter = ApiKeyValidationHandler.__call__, Meter()

    def call(self: Any, chain: Any, context: Any, response: Any) -> None:
        original(self, chain, context, response)
        if context.resource_method.get("apiKeyRequired"):
            key = context.context_variables["identity"]["apiKeyId"]
            plan = plan_of(context, key)
            meter.admit((context.account_id, context.region, plan["id"], key), plan, datetime.now(UTC))

    ApiKeyValidationHandler.__call__ = call


def plan_of(context: Any, key: str) -> dict[str, Any]:
    """The plan by which a key that was taken may call this stage: AWS allows one."""
    account, region = context.account_id, context.region
    plans: list[dict[str, Any]] = get_usage_plans(account_id=account, region_name=region)
    return next(
        plan
        for plan in plans
        if any(s["apiId"] == context.api_id and s["stage"] == context.stage for s in plan["apiStages"])
        and any(held["id"] == key for held in get_usage_plan_keys(plan["id"], account, region))
    )


class Meter:
    """What each key has used. For threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._buckets: dict[Key, tuple[dict[str, Any], TokenBucket]] = {}
        self._used: dict[Key, tuple[str, int]] = {}

    def admit(self, key: Key, plan: dict[str, Any], now: datetime) -> None:
        """Count one request of a key.

        Raises:
            ThrottledError: there is no token left in the bucket.
            QuotaExceededError: the period's requests are used up.
        """
        with self._lock:
            if (throttle := plan.get("throttle")) and not self._bucket(key, throttle).consume():
                raise ThrottledError("Too Many Requests")
            if quota := plan.get("quota"):
                self._count(key, quota, now)

    def _bucket(self, key: Key, throttle: dict[str, Any]) -> TokenBucket:
        """A plan that was changed starts with a full one."""
        settings, bucket = self._buckets.get(key, ({}, None))
        if bucket is None or settings != throttle:
            bucket = TokenBucket(float(throttle["rateLimit"]), int(throttle["burstLimit"]))
            self._buckets[key] = (dict(throttle), bucket)
        return bucket

    def _count(self, key: Key, quota: dict[str, Any], now: datetime) -> None:
        current = period(quota["period"], now)
        since, used = self._used.get(key, (current, 0))
        used = used if since == current else 0
        if used >= int(quota["limit"]):
            raise QuotaExceededError("Limit Exceeded")
        self._used[key] = (current, used + 1)


def period(kind: str, now: datetime) -> str:
    """A name of the DAY, WEEK (from Sunday on) or MONTH that ``now`` lies in, in UTC."""
    day = now.astimezone(UTC).date()
    if kind == "MONTH":
        return f"{day:%Y-%m}"
    if kind == "WEEK":
        day -= timedelta(days=day.isoweekday() % 7)
    return day.isoformat()
