"""``isthmus edge keys`` as it is typed.

KMS is answered here: moto hashes a digest that it is to sign once more. The local cloud's are verified end to end.
"""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse

from isthmus import bootstrap
from isthmus.adapters.aws.session import client
from isthmus.adapters.local.signer import MemorySigner
from isthmus.cli.main import main
from isthmus.inference.signed import key_id
from isthmus.workflows.edge_papers import key_chain
from tests.contract.formation import Formation, outputs_of

pytestmark = pytest.mark.usefixtures("aws")


@pytest.fixture
def keys(aws: None) -> list[str]:
    """The names of three signing keys, in an account that has the stack."""
    client("dynamodb").create_table(
        TableName=outputs_of("shop")["Table"],
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk")],
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
    )
    outputs = {"shop": {**outputs_of("shop"), "SigningKey": "first"}}
    Formation({"shop": []}, outputs=outputs).install()
    there = {name: MemorySigner() for name in ("first", "second", "third")}

    def sign(model: Any, params: Any, **_: Any) -> tuple[AWSResponse, dict[str, Any]]:
        asked = json.loads(params["body"])
        signature = there[asked["KeyId"]].sign(base64.b64decode(asked["Message"]))
        return AWSResponse("", 200, {}, None), {"Signature": signature}

    def public(model: Any, params: Any, **_: Any) -> tuple[AWSResponse, dict[str, Any]]:
        found = there[json.loads(params["body"])["KeyId"]].public_key()
        return AWSResponse("", 200, {}, None), {"PublicKey": found}

    events = client("kms").meta.events
    events.register("before-call.kms.Sign", sign)
    events.register("before-call.kms.GetPublicKey", public)
    return list(there)


def ids(*keys: str) -> list[str]:
    return [key_id(bootstrap.signer(key).public_key()) for key in keys]


def typed(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    assert main(["edge", "keys", "--stack", "shop", *words]) == code
    said = capsys.readouterr()
    return said.err if code else said.out


def test_a_key_is_introduced_and_the_one_before_revoked(
    keys: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, third = keys
    assert "no key document: devices trust the key that they met first" in typed(capsys)
    assert "devices get it with the next deployment" in typed(capsys, "--trust", first, second)
    found = json.loads(typed(capsys, "--trust", second, third, "--sign", second, "--json"))
    assert found == [
        {"version": 1, "keys": ids(first, second)},
        {"version": 2, "keys": ids(second, third)},
    ]
    assert json.loads(typed(capsys, "--json")) == found
    assert len(json.loads(key_chain(bootstrap.records(outputs_of("shop")["Table"])))) == 2


def test_what_devices_would_not_follow_is_refused_and_changes_nothing(
    keys: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, third = keys
    said = typed(capsys, "--trust", second, code=2)
    assert "sign with one of the keys of the last document too" in said, "devices have pinned the stack's"
    typed(capsys, "--trust", first)
    before = typed(capsys, "--json")
    said = typed(capsys, "--trust", second, third, code=2)
    assert "sign with one of the keys of the last document too" in said
    said = typed(capsys, "--trust", second, "--sign", first, code=2)
    assert "one of the new keys must sign too" in said
    assert "--sign needs --trust KEY" in typed(capsys, "--sign", first, code=2)
    assert typed(capsys, "--json") == before
