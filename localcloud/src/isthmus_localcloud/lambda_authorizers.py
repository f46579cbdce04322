"""Lambda authorizers of REST APIs: who calls the function, and what becomes of its answer.

LocalEmu calls it without saying which authorizer asks, so a function's policy that names one refuses the
call; it asks for every token, whatever the validation expression says; and it answers 401 to each failure.

Source: API Gateway developer guide, "Use API Gateway Lambda authorizers", "Input to an API Gateway Lambda
authorizer" (a token that does not match is refused with 401, without a call) and "Output from an API
Gateway Lambda authorizer"; "API Gateway response types" for AUTHORIZER_CONFIGURATION_ERROR (500, without a
message), UNAUTHORIZED and ACCESS_DENIED. Answers are not kept for a time, as AWS keeps them.
"""

import json
import re
from typing import Any

from localemu.aws.connect import connect_to
from localemu.services.apigateway.next_gen.execute_api.gateway_response import (
    AccessDeniedError,
    AuthorizerConfigurationError,
    UnauthorizedError,
)
from localemu.services.apigateway.next_gen.execute_api.handlers.authorizer import AuthorizerHandler
from localemu.utils.aws.client_types import ServicePrincipal
from localemu.utils.aws.policy import iter_policy_statements

EXPRESSION = "identityValidationExpression"


def apply() -> None:
    original = AuthorizerHandler._apply_authorizer_result

    def apply_result(self: Any, context: Any, result: dict[str, Any]) -> None:
        if not allows(result):
            raise AccessDeniedError("User is not authorized to access this resource with an explicit deny")
        original(self, context, result)

    AuthorizerHandler._invoke_authorizer_lambda = invoke
    AuthorizerHandler._apply_authorizer_result = apply_result


def allows(result: dict[str, Any]) -> bool:
    statements = list(iter_policy_statements(result.get("policyDocument") or {}))
    effects = {str(statement.get("Effect", "")).lower() for statement in statements}
    return "allow" in effects and "deny" not in effects


def invoke(self: Any, context: Any, authorizer: dict[str, Any], event: dict[str, Any]) -> dict[str, Any]:
    check_expression(authorizer, event)
    found = re.search(r"functions/(arn:[^/]+)/invocations", authorizer.get("authorizerUri", ""))
    if found is None:
        raise AuthorizerConfigurationError()
    api = f"arn:aws:execute-api:{context.region}:{context.account_id}:{context.api_id}"
    source = f"{api}/authorizers/{authorizer['id']}"
    client = connect_to(region_name=found[1].split(":")[3]).lambda_
    client = client.request_metadata(service_principal=ServicePrincipal.apigateway, source_arn=source)
    try:
        answer = client.invoke(FunctionName=found[1], Payload=json.dumps(event).encode())
        result = json.loads(answer["Payload"].read())
    except Exception as error:
        raise AuthorizerConfigurationError() from error
    if answer.get("FunctionError"):
        if isinstance(result, dict) and result.get("errorMessage") == "Unauthorized":
            raise UnauthorizedError("Unauthorized")
        raise AuthorizerConfigurationError()
    return result if isinstance(result, dict) else {}


def check_expression(authorizer: dict[str, Any], event: dict[str, Any]) -> None:
    """Raises UnauthorizedError for a token that the authorizer's expression does not match as a whole."""
    expression = authorizer.get(EXPRESSION)
    if (
        event.get("type") == "TOKEN"
        and expression
        and not re.fullmatch(expression, event["authorizationToken"])
    ):
        raise UnauthorizedError("Unauthorized")
