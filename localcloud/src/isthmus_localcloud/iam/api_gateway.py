"""REST APIs with AWS_IAM authorization: LocalEmu lets every request pass.

Source: "How do I troubleshoot signature mismatch errors when making SigV4 signed requests with IAM
authentication to API Gateway?" (AWS re:Post), which quotes the answers; API Gateway developer guide,
"Control access to a REST API with IAM permissions".
"""

from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from localemu.services.apigateway.next_gen.execute_api import handlers
from localemu.services.apigateway.next_gen.execute_api.gateway_response import (
    AccessDeniedError,
    InvalidSignatureError,
    MissingAuthTokenError,
)

from . import refusals, signatures
from .calls import Check
from .decisions import Decider
from .identities import OPERATOR_KEYS, Identity, identify

MISMATCH = (
    "The request signature we calculated does not match the signature you provided. Check your AWS Secret "
    "Access Key and signing method. Consult the service documentation for details."
)


def install(decider: Decider) -> None:
    """After routing, which knows the method's authorization, and before LocalEmu's own authorizers."""
    handlers.preprocess_request.handlers.insert(0, Authorizer(decider))


class Authorizer:
    def __init__(self, decider: Decider) -> None:
        self._decider = decider

    def __call__(self, chain: Any, context: Any, response: Any) -> None:
        """Raises one of LocalEmu's gateway errors, which become 403 answers."""
        if (context.resource_method or {}).get("authorizationType") != "AWS_IAM":
            return
        header = context.request.headers.get("Authorization", "")
        if not header:
            raise MissingAuthTokenError("Missing Authentication Token")
        identity = signer(context, header)
        if identity is None:
            return
        check = Check("execute-api:Invoke", method_arn(context))
        decision = self._decider.decide(
            identity, check, context.account_id, context.region, "execute-api:Invoke"
        )
        if not decision.allows:
            raise AccessDeniedError(refusals.sentence(identity.arn, check, decision))


def signer(context: Any, header: str) -> Identity | None:
    """Who signed; None for the operator. Raises for a signature that AWS would not take."""
    signature = signatures.parse(header)
    if signature is None:
        raise InvalidSignatureError(MISMATCH)
    if said := signatures.out_of_scope(signature, "execute-api", context.region):
        raise InvalidSignatureError(said)
    identity = holder(context, signature.access_key)
    verify(context, signature, identity.secret if identity else signature.access_key)
    return identity


def holder(context: Any, access_key: str) -> Identity | None:
    """Whose key it is; None for the operator's.

    A session's key counts only with its token. The token need not be signed: kndt84/aws-api-gateway-client#31
    shows a request that AWS took, whose token is not among its SignedHeaders.
    """
    if access_key in OPERATOR_KEYS:
        return None
    identity = identify(access_key, context.account_id)
    token = context.request.headers.get("X-Amz-Security-Token", "")
    if identity is None or (identity.token and token != identity.token):
        raise AccessDeniedError("The security token included in the request is invalid.")
    return identity


def verify(context: Any, signature: signatures.Signature, secret: str) -> None:
    """Raises unless the secret made the signature of this very request, within the last minutes."""
    request = context.request
    path = urlsplit(request.environ.get("RAW_URI") or request.full_path)
    url = f"https://{request.headers.get('Host', '')}{path.path}" + (f"?{path.query}" if path.query else "")
    body = context.invocation_request["body"]
    if not signatures.is_right(signature, secret, request.method, url, request.headers, body):
        raise InvalidSignatureError(MISMATCH)
    stamp = request.headers.get("X-Amz-Date", "")
    if not signatures.is_fresh(stamp, datetime.now(UTC)):
        raise InvalidSignatureError(f"Signature expired: {stamp} is not within five minutes of the present.")


def method_arn(context: Any) -> str:
    """With the path that was asked for, not the resource's own pattern."""
    place = f"{context.api_id}/{context.stage}/{context.request.method}"
    path = context.invocation_request["path"].lstrip("/")
    return f"arn:aws:execute-api:{context.region}:{context.account_id}:{place}/{path}"
