"""Tokens as an issuer makes them, and as those make them who are none. Keys are real."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from isthmus import bootstrap_serving
from isthmus.adapters.https import MAX_DOCUMENT_BYTES, fetch
from isthmus.config import AuthorizeRequestSettings
from isthmus.errors import EnvironmentProblem, Unauthorized, Unavailable
from isthmus.workflows.authorize_request import (
    ASK_AGAIN_SECONDS,
    FRESH_SECONDS,
    LEEWAY_SECONDS,
    STALE_SECONDS,
    TRY_AGAIN_SECONDS,
    Tokens,
    authorize_request,
)

ISSUER, AUDIENCE = "https://issuer.example/pool", "isthmus"
ARN = "arn:aws:execute-api:eu-west-1:123456789012:abc123/v/POST/v2/models/digits/infer"
RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
ALGORITHMS: dict[str, Any] = {
    "RS256": jwt.algorithms.RSAAlgorithm,
    "PS256": jwt.algorithms.RSAAlgorithm,
    "ES256": jwt.algorithms.ECAlgorithm,
    "EdDSA": jwt.algorithms.OKPAlgorithm,
}
PRIVATE = {"RS256": RSA, "PS256": RSA, "ES256": EC, "EdDSA": ED}


def jwk(algorithm: str, kid: str, **changes: Any) -> dict[str, Any]:
    public: dict[str, Any] = ALGORITHMS[algorithm].to_jwk(PRIVATE[algorithm].public_key(), as_dict=True)
    return {**public, "kid": kid, "alg": algorithm, "use": "sig", **changes}


KEYS = [jwk(algorithm, algorithm.lower()) for algorithm in ALGORITHMS]


class Time:
    seconds = 1_800_000_000.0

    def now(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


class Issuer:
    """Its key set, and how often it was asked for."""

    def __init__(self, keys: list[dict[str, Any]] | None = None) -> None:
        self.keys, self.asked, self.away = KEYS if keys is None else keys, 0, False
        self.clock = Time()

    def fetch(self) -> bytes:
        self.asked += 1
        if self.away:
            raise Unavailable("the issuer did not answer")
        return json.dumps({"keys": self.keys}).encode()

    def tokens(self, scope: str = "") -> Tokens:
        return Tokens(ISSUER, AUDIENCE, self.fetch, self.clock, scope=scope)


def claims(**changes: Any) -> dict[str, Any]:
    import time

    given = {"iss": ISSUER, "aud": AUDIENCE, "sub": "somebody", "exp": int(time.time()) + 600} | changes
    return {name: value for name, value in given.items() if value is not None}


def token(algorithm: str = "RS256", kid: str | None = None, key: Any = None, **changes: Any) -> str:
    headers = {"kid": algorithm.lower() if kid is None else kid}
    return jwt.encode(claims(**changes), key or PRIVATE[algorithm], algorithm=algorithm, headers=headers)


def ask(tokens: Tokens, text: str) -> dict[str, Any]:
    event = {"type": "TOKEN", "authorizationToken": text, "methodArn": ARN}
    return authorize_request(event, tokens)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_good_token_lets_its_bearer_call_the_whole_api(algorithm: str) -> None:
    answer = ask(Issuer().tokens(), f"Bearer {token(algorithm)}")
    assert answer["principalId"] == "somebody"
    (statement,) = answer["policyDocument"]["Statement"]
    assert statement["Effect"] == "Allow"
    assert statement["Resource"] == "arn:aws:execute-api:eu-west-1:123456789012:abc123/v/*"


def now() -> int:
    import time

    return int(time.time())


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": None},
        {"exp": 1},
        {"exp": "soon"},
        {"exp": now() - LEEWAY_SECONDS - 5},
        {"nbf": now() + LEEWAY_SECONDS + 3600},
        {"iss": None},
        {"iss": "https://issuer.example/other"},
        {"iss": ISSUER + "/"},
        {"aud": None},
        {"aud": "another"},
        {"aud": ["another", "third"]},
        {"aud": []},
        {"aud": "another", "client_id": AUDIENCE},
        {"aud": None, "client_id": "another"},
        {"aud": {AUDIENCE: 1}},
    ],
    ids="-".join,  # not by its values, which hold the time: each worker must name a test alike
)
def test_a_token_that_says_something_else_lets_nobody_in(changes: dict[str, Any]) -> None:
    with pytest.raises(Unauthorized):
        ask(Issuer().tokens(), f"Bearer {token(**changes)}")


@pytest.mark.parametrize("changes", [{"aud": ["x", AUDIENCE]}, {"aud": None, "client_id": AUDIENCE}], ids=str)
def test_the_audience_may_be_one_of_several_or_cognitos_client(changes: dict[str, Any]) -> None:
    assert ask(Issuer().tokens(), f"bearer {token(**changes)}")


def test_a_scope_that_is_asked_for_must_be_there() -> None:
    tokens = Issuer().tokens(scope="infer")
    for good in ({"scope": "read infer"}, {"scp": ["infer"]}):
        assert ask(tokens, f"Bearer {token(**good)}")
    for bad in ({}, {"scope": "inference"}, {"scp": ["read"]}):
        with pytest.raises(Unauthorized):
            ask(tokens, f"Bearer {token(**bad)}")


def part(value: Any) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def forged(header: dict[str, Any], secret: bytes) -> str:
    """A token with an HMAC, put together by hand: PyJWT refuses to make one of a public key."""
    signed = f"{part(header)}.{part(claims())}"
    return f"{signed}.{part(hmac.new(secret, signed.encode(), hashlib.sha256).digest())}"


def test_a_public_key_is_no_secret() -> None:
    """The classic confusion: the issuer's public key, which everybody has, used as the key of an HMAC."""
    public = RSA.public_key()
    for secret in (
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        json.dumps(KEYS[0]).encode(),
    ):
        with pytest.raises(Unauthorized):
            ask(Issuer().tokens(), f"Bearer {forged({'alg': 'HS256', 'kid': 'rs256'}, secret)}")


def test_a_symmetric_key_of_the_issuer_is_passed_over() -> None:
    secret = b"s" * 32
    issuer = Issuer([{"kty": "oct", "kid": "hs", "alg": "HS256", "k": part(secret)}, *KEYS])
    with pytest.raises(Unauthorized):
        ask(issuer.tokens(), f"Bearer {forged({'alg': 'HS256', 'kid': 'hs'}, secret)}")


@pytest.mark.parametrize("algorithm", ["none", "None", "nOnE", "", "HS512"])
def test_a_token_without_a_signature_lets_nobody_in(algorithm: str) -> None:
    for signature in ("", "AAAA"):
        text = f"{part({'alg': algorithm, 'kid': 'rs256'})}.{part(claims())}.{signature}"
        with pytest.raises(Unauthorized):
            ask(Issuer().tokens(), f"Bearer {text}")


def test_a_key_takes_the_algorithm_that_it_is_made_for() -> None:
    with pytest.raises(Unauthorized):
        ask(Issuer().tokens(), f"Bearer {token('PS256', kid='rs256')}")
    issuer = Issuer([{name: value for name, value in KEYS[0].items() if name != "alg"}])
    assert ask(issuer.tokens(), f"Bearer {token()}"), "RS256 where the key says nothing (RFC 7518, 3.1)"


def test_another_key_under_the_same_name_lets_nobody_in() -> None:
    with pytest.raises(Unauthorized):
        ask(Issuer().tokens(), f"Bearer {token(key=rsa.generate_private_key(65537, 2048))}")


def test_a_key_that_came_with_the_token_is_not_looked_at() -> None:
    own = rsa.generate_private_key(65537, 2048)
    public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(own.public_key()))
    for extra in ({"jwk": public}, {"jku": "https://evil.example/keys"}, {"x5u": "https://evil.example"}):
        text = jwt.encode(claims(), own, algorithm="RS256", headers={"kid": "mine", **extra})
        with pytest.raises(Unauthorized):
            ask(Issuer().tokens(), f"Bearer {text}")


def test_a_key_for_encryption_signs_nothing() -> None:
    with pytest.raises(Unauthorized):
        ask(Issuer([jwk("RS256", "rs256", use="enc")]).tokens(), f"Bearer {token()}")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer a.b.c",
        "Basic dTpw",
        "Bearer " + "a" * 9000,
        "Bearer ..",
        "Bearer é.é.é",
    ],
)
def test_what_is_no_token_lets_nobody_in(text: str) -> None:
    issuer = Issuer()
    with pytest.raises(Unauthorized) as error:
        ask(issuer.tokens(), text)
    assert str(error.value) == "Unauthorized", "the text that API Gateway answers 401 to"


def test_keys_are_asked_for_once_and_again_when_they_may_have_changed() -> None:
    issuer = Issuer()
    tokens = issuer.tokens()
    for _ in range(5):
        ask(tokens, f"Bearer {token()}")
    assert issuer.asked == 1
    issuer.clock.seconds += FRESH_SECONDS + 1
    ask(tokens, f"Bearer {token()}")
    assert issuer.asked == 2


def test_a_new_key_is_found_and_unknown_ones_make_nobody_ask_often() -> None:
    issuer = Issuer([KEYS[0]])
    tokens = issuer.tokens()
    ask(tokens, f"Bearer {token()}")
    issuer.keys = KEYS
    for _ in range(20):
        with pytest.raises(Unauthorized):
            ask(tokens, f"Bearer {token('ES256')}")
    assert issuer.asked == 1, "just asked"
    issuer.clock.seconds += ASK_AGAIN_SECONDS
    assert ask(tokens, f"Bearer {token('ES256')}")
    assert issuer.asked == 2


def test_a_key_that_the_issuer_took_back_lets_nobody_in() -> None:
    issuer = Issuer()
    tokens = issuer.tokens()
    ask(tokens, f"Bearer {token()}")
    issuer.keys = [jwk("ES256", "es256")]
    issuer.clock.seconds += FRESH_SECONDS + 1
    with pytest.raises(Unauthorized):
        ask(tokens, f"Bearer {token()}")


def test_known_keys_serve_for_a_day_while_the_issuer_is_away() -> None:
    issuer = Issuer()
    tokens = issuer.tokens()
    ask(tokens, f"Bearer {token()}")
    issuer.away = True
    issuer.clock.seconds += STALE_SECONDS - 1
    assert ask(tokens, f"Bearer {token()}")
    issuer.clock.seconds += ASK_AGAIN_SECONDS
    with pytest.raises(Unavailable):
        ask(tokens, f"Bearer {token()}")


def test_an_issuer_that_never_answered_is_no_refusal() -> None:
    issuer = Issuer()
    issuer.away = True
    with pytest.raises(Unavailable):
        ask(issuer.tokens(), f"Bearer {token()}")


def test_one_lost_answer_refuses_nobody_for_long() -> None:
    issuer = Issuer()
    issuer.away = True
    tokens = issuer.tokens()
    for _ in range(2):
        with pytest.raises(Unavailable):
            ask(tokens, f"Bearer {token()}")
    assert issuer.asked == 1, "just asked"
    issuer.away = False
    issuer.clock.seconds += TRY_AGAIN_SECONDS
    assert ask(tokens, f"Bearer {token()}")
    assert issuer.asked == 2


def test_an_issuer_without_a_key_is_asked_again_soon() -> None:
    issuer = Issuer([])
    tokens = issuer.tokens()
    with pytest.raises(Unauthorized):
        ask(tokens, f"Bearer {token()}")
    issuer.keys = KEYS
    issuer.clock.seconds += TRY_AGAIN_SECONDS
    assert ask(tokens, f"Bearer {token()}")


def test_while_known_keys_serve_on_an_issuer_that_is_away_is_seldom_waited_for() -> None:
    issuer = Issuer([KEYS[0]])
    tokens = issuer.tokens()
    ask(tokens, f"Bearer {token()}")
    issuer.keys, issuer.away = KEYS, True
    issuer.clock.seconds += FRESH_SECONDS + 1
    for _ in range(3):
        assert ask(tokens, f"Bearer {token()}")
        issuer.clock.seconds += TRY_AGAIN_SECONDS
    assert issuer.asked == 2
    issuer.away = False
    assert ask(tokens, f"Bearer {token('ES256')}"), "a new key, and the last look-up failed"


@pytest.mark.parametrize(
    "keys", [[{}], [{"kty": "RSA"}], [{"kty": "RSA", "n": "?", "e": "AQAB", "kid": "rs256"}]]
)
def test_a_key_that_cannot_be_read_spoils_no_other(keys: list[dict[str, Any]]) -> None:
    assert ask(Issuer([*keys, *KEYS]).tokens(), f"Bearer {token()}")


def packed(value: Any) -> str:
    return base64.b64encode(json.dumps(value).encode()).decode()


def settings(**changes: str) -> AuthorizeRequestSettings:
    values = {"jwt_issuer": ISSUER, "jwt_audience": AUDIENCE, "jwt_keys": packed({"keys": []})} | changes
    return AuthorizeRequestSettings(**values)


@pytest.mark.parametrize(
    "changes",
    [
        {"jwt_issuer": ""},
        {"jwt_audience": ""},
        *({"jwt_keys": keys} for keys in ("", "http://plain.example", "e30", "bm9uZQ==", '{"keys": []}')),
    ],
)
def test_without_its_settings_nobody_is_let_in(changes: dict[str, str]) -> None:
    with pytest.raises(EnvironmentProblem, match="tokens need"):
        bootstrap_serving.tokens(settings(**changes))


def test_the_key_set_itself_may_be_given() -> None:
    tokens = bootstrap_serving.tokens(settings(jwt_keys=packed({"keys": KEYS})))
    assert ask(tokens, f"Bearer {token()}")


@pytest.fixture
def server() -> Iterator[str]:
    """Answers ``/keys``, ``/moved``, ``/gone`` and ``/large``."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status = {"/moved": 302, "/gone": 404}.get(self.path, 200)
            body = b"x" * (MAX_DOCUMENT_BYTES + 1) if self.path == "/large" else b'{"keys": []}'
            self.send_response(status)
            self.send_header("Location", "/keys")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_key_set_is_fetched_from_where_it_is_and_no_further(server: str) -> None:
    assert fetch(f"{server}/keys") == b'{"keys": []}'
    for path in ("/moved", "/gone", "/large"):
        with pytest.raises(Unavailable):
            fetch(server + path)
    with pytest.raises(Unavailable):
        fetch("http://127.0.0.1:9/keys")
