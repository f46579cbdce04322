"""What an imported description of a REST API says and LocalEmu passes over: who may call, and how it refuses.

Source: API Gateway developer guide, "x-amazon-apigateway-authtype property" (``awsSigv4`` is AWS_IAM) and
"x-amazon-apigateway-gateway-responses object" (what is not named there keeps the gateway's own words).
"""

from typing import Any

from localemu.aws.api.apigateway import GatewayResponse
from localemu.services.apigateway import helpers
from localemu.services.apigateway.models import apigateway_stores
from localemu.services.apigateway.next_gen.execute_api import gateway_response

from .hooks import replace_everywhere

ANY = "x-amazon-apigateway-any-method"
AUTHTYPE = "x-amazon-apigateway-authtype"
RESPONSES = "x-amazon-apigateway-gateway-responses"


def apply() -> None:
    original = helpers.import_api_from_openapi_spec

    def import_api_from_openapi_spec(rest_api: Any, context: Any, open_api_spec: Any, mode: Any) -> Any:
        imported = original(rest_api, context, open_api_spec, mode)
        container = apigateway_stores[context.account_id][context.region].rest_apis[rest_api.id]
        container.gateway_responses.update(gateway_responses(open_api_spec))
        guarded = signed_methods(open_api_spec)
        for resource in rest_api.resources.values():
            for name, method in resource.resource_methods.items():
                if (resource.get_path(), name) in guarded:
                    method.authorization_type = "AWS_IAM"
        return imported

    replace_everywhere(helpers.__name__, "import_api_from_openapi_spec", import_api_from_openapi_spec)
    use_default_responses()


def use_default_responses() -> None:
    """An API's own DEFAULT_4XX and DEFAULT_5XX: LocalEmu makes a response of them and forgets whose it is."""
    original = gateway_response.get_gateway_response_or_default

    def get_gateway_response_or_default(kind: str, own: dict[str, GatewayResponse]) -> GatewayResponse:
        found = original(kind, own)
        is_own = any(
            found.get("responseTemplates") == entry.get("responseTemplates") for entry in own.values()
        )
        return GatewayResponse(**{**found, "defaultResponse": False}) if is_own else found

    replace_everywhere(
        gateway_response.__name__, "get_gateway_response_or_default", get_gateway_response_or_default
    )


def gateway_responses(spec: dict[str, Any]) -> dict[str, GatewayResponse]:
    """By type, as PutGatewayResponse would keep them."""
    return {
        kind: GatewayResponse(
            responseType=kind,
            responseParameters=said.get("responseParameters") or {},
            responseTemplates=said.get("responseTemplates") or {},
            defaultResponse=False,
            **({"statusCode": str(said["statusCode"])} if "statusCode" in said else {}),
        )
        for kind, said in (spec.get(RESPONSES) or {}).items()
    }


def signed_methods(spec: dict[str, Any]) -> set[tuple[str, str]]:
    """Path and method of each operation that a signature has to come with; its own security goes first."""
    schemes = spec.get("securityDefinitions") or (spec.get("components") or {}).get("securitySchemes") or {}
    signed = {name for name, scheme in schemes.items() if scheme.get(AUTHTYPE) == "awsSigv4"}
    return {
        (path, "ANY" if method == ANY else method.upper())
        for path, item in (spec.get("paths") or {}).items()
        for method, operation in item.items()
        if isinstance(operation, dict)
        for wanted in operation.get("security", spec.get("security")) or []
        if signed & set(wanted)
    }
