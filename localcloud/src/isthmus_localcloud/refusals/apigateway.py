"""API Gateway (REST): payloads and the time an integration may take.

The two 413 answers and their wordings: github.com/koki-develop/lgtm-generator/issues/10. The stage's own
gateway responses apply to the second and to the timeout, not to the first, which is no JSON.
"""

import contextvars
import json
from concurrent.futures import Future
from threading import Thread
from typing import Any

from localemu.http import Response
from localemu.services.apigateway.next_gen.execute_api.gateway_response import (
    IntegrationTimeoutError,
    RequestTooLargeError,
)
from localemu.services.apigateway.next_gen.execute_api.handlers.integration import IntegrationHandler
from localemu.services.apigateway.next_gen.execute_api.integrations.aws import RestApiAwsProxyIntegration
from localemu.services.apigateway.next_gen.execute_api.router import ApiGatewayEndpoint

from . import limits


def refuse_large_requests() -> None:
    """Before anything else of the API is looked at."""
    original = ApiGatewayEndpoint.__call__

    def call(self: Any, request: Any, **route: Any) -> Any:
        if (request.content_length or 0) > limits.API_PAYLOAD.value:
            text = f"HTTP content length exceeded {limits.API_PAYLOAD.value} bytes."
            return Response(text, status=413, headers={"Content-Type": "text; charset=utf-8"})
        return original(self, request, **route)

    ApiGatewayEndpoint.__call__ = call


def refuse_large_events() -> None:
    """A request that fits API Gateway may not fit Lambda once it is an event: JSON, and base64 for binary."""
    original = RestApiAwsProxyIntegration.create_lambda_input_event

    def create_lambda_input_event(self: Any, context: Any) -> Any:
        event = original(self, context)
        if len(json.dumps(event).encode()) > limits.LAMBDA_SYNCHRONOUS_REQUEST.value:
            raise RequestTooLargeError("Request Too Long")
        return event

    RestApiAwsProxyIntegration.create_lambda_input_event = create_lambda_input_event


def limit_integration_time() -> None:
    """Answers 504 at the integration's timeout. What was called runs on, as on AWS."""
    original = IntegrationHandler.__call__

    def call(self: Any, chain: Any, context: Any, response: Any) -> None:
        wanted = context.integration.get("timeoutInMillis") or limits.API_INTEGRATION_TIMEOUT.value
        done: Future[None] = Future()

        def work() -> None:
            try:
                done.set_result(original(self, chain, context, response))
            except BaseException as error:
                done.set_exception(error)

        Thread(target=contextvars.copy_context().run, args=(work,), daemon=True).start()
        try:
            done.result(int(wanted) / 1000)
        except TimeoutError as error:
            if done.done():  # the integration's own
                raise
            raise IntegrationTimeoutError("Endpoint request timed out") from error

    IntegrationHandler.__call__ = call


def apply() -> None:
    refuse_large_requests()
    refuse_large_events()
    limit_integration_time()
