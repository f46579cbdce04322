"""Whether a JSON Web Token lets its bearer call the API: the Lambda authorizer (RFC 7519, RFC 8725).

What is checked, and by whom: PyJWT verifies the signature, ``exp``, ``nbf``, ``iss`` and ``aud``. Which
algorithms are taken never depends on the token: they are listed here, none of them symmetric, and a key
takes the one that it is made for, so no public key can be passed off as a secret (RFC 8725, 3.1 and 3.2).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from isthmus.errors import EnvironmentProblem, InvalidDocument, Unauthorized, Unavailable

if TYPE_CHECKING:
    from jwt import PyJWK

    from isthmus.ports import Clock

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
KEY_TYPES = ("RSA", "EC", "OKP")
LEEWAY_SECONDS = 30
FRESH_SECONDS = 600
"""How long keys are taken as the issuer's without asking again."""
ASK_AGAIN_SECONDS = 60
"""A token with an unknown key makes us ask no more often: whoever sends such tokens asks nobody for us."""
TRY_AGAIN_SECONDS = 2
"""How soon the issuer is asked again when it failed to answer, or gave no key, and nothing known serves on."""
STALE_SECONDS = 24 * 3600
"""How long known keys serve while the issuer does not answer."""
MAX_TOKEN_CHARACTERS = 8192


class Tokens:
    """What tokens of one issuer must say. ``fetch`` gives its key set (JWKS, RFC 7517) as JSON.

    Raises:
        EnvironmentProblem: nobody said whose tokens are taken, or for whom they are meant.
    """

    def __init__(
        self, issuer: str, audience: str, fetch: Callable[[], bytes], clock: Clock, *, scope: str = ""
    ) -> None:
        if not issuer or not audience:
            raise EnvironmentProblem(
                "tokens need JwtIssuer and JwtAudience: set both with ApiAuthorizer=JwtAuthorizer"
            )
        self._issuer, self._audience, self._scope = issuer, audience, scope
        self._keys = _Keys(fetch, clock)

    def read(self, token: str) -> dict[str, Any]:
        """Return a token's claims, once all of it is verified.

        Raises:
            Unauthorized: it is not good here. Why is said in its cause, not in its text.
            Unavailable: the issuer's keys are not to be had.
        """
        import jwt

        try:
            key = self._keys.find(str(jwt.get_unverified_header(token).get("kid", "")))
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[key.algorithm_name],
                issuer=self._issuer,
                leeway=LEEWAY_SECONDS,
                options={"require": ["exp", "iss"], "verify_aud": False},
            )
            self._check_audience(claims)
            self._check_scope(claims)
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise Unauthorized from error
        return claims

    def _check_audience(self, claims: Mapping[str, Any]) -> None:
        # An access token of Amazon Cognito has no aud, but client_id: API Gateway developer guide, "Control
        # access to HTTP APIs with JWT authorizers", which matches either.
        named = claims["aud"] if "aud" in claims else claims.get("client_id")
        audiences = named if isinstance(named, list) else [named]
        if self._audience not in audiences:
            raise ValueError("the token is meant for somebody else")

    def _check_scope(self, claims: Mapping[str, Any]) -> None:
        said = claims.get("scope", claims.get("scp", ""))
        scopes = said if isinstance(said, list) else str(said).split()
        if self._scope and self._scope not in scopes:
            raise ValueError("the token lacks the scope")


class _Keys:
    def __init__(self, fetch: Callable[[], bytes], clock: Clock) -> None:
        self._fetch, self._clock = fetch, clock
        self._known: dict[str, PyJWK] = {}
        self._fetched_at = self._asked_at = -float("inf")
        self._failed = False

    def find(self, kid: str) -> PyJWK:
        """Return the key of that id. Raises ValueError when the issuer has none; Unavailable."""
        now = self._clock.now()
        if kid not in self._known or now - self._fetched_at > FRESH_SECONDS:
            self._look_up(kid, now)
        if now - self._fetched_at > STALE_SECONDS:
            raise Unavailable("the issuer's keys cannot be had")
        if kid not in self._known:
            raise ValueError("no key of the issuer has the token's kid")
        return self._known[kid]

    def _look_up(self, kid: str, now: float) -> None:
        serves_on = kid in self._known and now - self._fetched_at <= STALE_SECONDS
        urgent = not serves_on and (self._failed or not self._known)
        if now - self._asked_at < (TRY_AGAIN_SECONDS if urgent else ASK_AGAIN_SECONDS):
            return
        self._asked_at, self._failed = now, True
        try:
            self._known = _read_keys(self._fetch())
        except (Unavailable, InvalidDocument):
            return  # what is known serves on, for a while
        self._fetched_at, self._failed = now, False


def _read_keys(raw: bytes) -> dict[str, PyJWK]:
    """Return the keys that verify signatures, by id; what is of no use here is passed over.

    Raises:
        InvalidDocument: it is no key set.
    """
    import jwt
    import msgspec

    try:
        entries = msgspec.json.decode(raw, type=dict[str, Any])["keys"]
        wanted = [
            entry for entry in entries if entry.get("kty") in KEY_TYPES and entry.get("use", "sig") == "sig"
        ]
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError) as error:
        raise InvalidDocument("the issuer's answer is no key set") from error
    found = {}
    for entry in wanted:
        try:
            key = jwt.PyJWK(entry)
        except (jwt.PyJWTError, ValueError, TypeError, KeyError):
            continue
        if key.algorithm_name in ALGORITHMS:
            found[str(entry.get("kid", ""))] = key
    return found


def authorize_request(event: Mapping[str, Any], tokens: Tokens) -> dict[str, Any]:
    """Return the policy for a bearer of a good token.

    It allows the whole API, for API Gateway keeps it by the token, and asks for the next path no more
    (API Gateway developer guide, "Output from an API Gateway Lambda authorizer").

    Raises:
        Unauthorized: API Gateway answers 401 to exactly this text.
    """
    scheme, _, token = str(event.get("authorizationToken", "")).partition(" ")
    if scheme.lower() != "bearer" or len(token) > MAX_TOKEN_CHARACTERS:
        raise Unauthorized
    claims = tokens.read(token)
    api, stage = str(event["methodArn"]).split("/")[:2]
    statement = {"Effect": "Allow", "Action": "execute-api:Invoke", "Resource": f"{api}/{stage}/*"}
    return {
        "principalId": str(claims.get("sub") or claims.get("client_id") or "unnamed"),
        "policyDocument": {"Version": "2012-10-17", "Statement": [statement]},
    }
