"""The rules of IAM as such, one table each: patterns, conditions, and policies together."""

from typing import Any

import pytest

from isthmus_localcloud.iam.calls import Check
from isthmus_localcloud.iam.conditions import hold
from isthmus_localcloud.iam.decisions import needs_consent
from isthmus_localcloud.iam.policies import Decision, Policies, Principal, Question, parse, without
from isthmus_localcloud.iam.wildcards import arn_matches, matches

ROLE = "arn:aws:iam::000000000000:role/worker"
SESSION = "arn:aws:sts::000000000000:assumed-role/worker/s"
USER = "arn:aws:iam::000000000000:user/ann"
WORKER = Principal("000000000000", SESSION, ROLE)
EVENTS = Principal("000000000000", service="events.amazonaws.com")
KEY = "arn:aws:kms:eu-west-1:000000000000:key/1"
ROOT = {"AWS": "arn:aws:iam::000000000000:root"}


@pytest.mark.parametrize(
    ("pattern", "text", "fits"),
    [
        ("*", "anything", True),
        ("jobs/*", "jobs/1/a", True),
        ("jobs/?", "jobs/12", False),
        ("a[bc]", "ab", False),
        ("a[bc]", "a[bc]", True),
    ],
)
def test_only_star_and_question_mark_are_wildcards(pattern: str, text: str, fits: bool) -> None:
    assert matches(pattern, text) is fits


def test_a_wildcard_stays_within_its_part_of_an_arn() -> None:
    arn = "arn:aws:sqs:eu-west-1:000000000000:stack-rig-a"
    assert arn_matches("arn:aws:sqs:*:000000000000:stack-rig-*", arn)
    assert not arn_matches("arn:aws:sqs:*:stack-rig-*", arn)
    assert arn_matches("arn:aws:lambda:*:*:function:f:*", "arn:aws:lambda:e:0:function:f:live")


CONDITIONS: list[tuple[dict[str, Any], dict[str, Any], bool]] = [
    # ForAllValues holds when every value of the request matches, and for a key that is not there.
    ({"ForAllValues:StringLike": {"k": ["JOB#*", "RIGS"]}}, {"k": ["JOB#1", "RIGS"]}, True),
    ({"ForAllValues:StringLike": {"k": ["JOB#*"]}}, {"k": ["JOB#1", "MODELS"]}, False),
    ({"ForAllValues:StringLike": {"k": ["JOB#*"]}}, {}, True),
    ({"ForAnyValue:StringEquals": {"k": "b"}}, {"k": ["a", "b"]}, True),
    ({"ForAnyValue:StringEquals": {"k": "b"}}, {}, False),
    # A negated operator holds only if no value matches, and for a key that is not there.
    ({"StringNotEquals": {"k": ["a", "b"]}}, {"k": "a"}, False),
    ({"StringNotEquals": {"k": ["a", "b"]}}, {"k": "c"}, True),
    ({"StringNotEquals": {"k": "a"}}, {}, True),
    ({"StringEquals": {"k": "a"}}, {}, False),
    ({"StringEqualsIfExists": {"k": "a"}}, {}, True),
    ({"StringEqualsIfExists": {"k": "a"}}, {"k": "b"}, False),
    ({"Null": {"k": "true"}}, {}, True),
    ({"Null": {"k": True}}, {"k": "a"}, False),
    ({"Bool": {"aws:SecureTransport": False}}, {"aws:securetransport": "true"}, False),
    ({"NumericLessThan": {"k": "10"}}, {"k": "9"}, True),
    ({"DateLessThan": {"k": "2026-01-02T00:00:00Z"}}, {"k": "2026-01-01T00:00:00Z"}, True),
    ({"IpAddress": {"k": "127.0.0.0/8"}}, {"k": "127.0.0.1"}, True),
    ({"ArnEquals": {"k": "arn:aws:sns:*:*:topic"}}, {"k": "arn:aws:sns:e:0:topic"}, True),
    ({"StringEquals": {"k": "${aws:username}"}}, {"k": "ann", "aws:username": "ann"}, True),
    ({"StringEquals": {"k": "${aws:username}"}}, {"k": ""}, False),
    ({"StringEquals": {"k": "a"}, "StringLike": {"l": "x*"}}, {"k": "a", "l": "y"}, False),
    ({"StringIsNice": {"k": "a"}}, {"k": "a"}, False),
]


@pytest.mark.parametrize(("block", "context", "holds"), CONDITIONS)
def test_conditions_hold_as_iam_says(block: dict[str, Any], context: dict[str, Any], holds: bool) -> None:
    assert hold(block, context) is holds


def statement(effect: str, action: str, resource: str = "*", **more: Any) -> dict[str, Any]:
    return {"Effect": effect, "Action": action, "Resource": resource, **more}


def decide(who: Principal = WORKER, **policies: Any) -> Decision:
    """Whether ``who`` may decrypt with the key."""
    consent = policies.pop("needs_consent", False)
    limits = [parse({"Statement": entry}) for entry in policies.pop("limits", [])]
    parsed = {name: parse({"Statement": value}) for name, value in policies.items()}
    return Policies(**parsed, limits=limits, needs_consent=consent).decide(who, Question("kms:Decrypt", KEY))


def test_an_explicit_deny_wins_over_every_allow() -> None:
    allow = statement("Allow", "kms:*")
    assert decide(identity=[allow]) is Decision.ALLOWED
    assert decide(identity=[allow, statement("Deny", "kms:Decrypt")]) is Decision.DENIED
    everybody = statement("Deny", "kms:*", Principal="*")
    assert decide(identity=[allow], resource=[everybody]) is Decision.DENIED
    assert decide(identity=[allow], limits=[[allow], [statement("Deny", "*")]]) is Decision.DENIED


def test_what_nobody_allows_is_not_allowed() -> None:
    assert decide() is Decision.NOT_ALLOWED
    assert decide(identity=[statement("Allow", "kms:Encrypt")]) is Decision.NOT_ALLOWED
    others = statement("Allow", "kms:*", KEY + "2")
    assert decide(identity=[others]) is Decision.NOT_ALLOWED


def test_the_account_in_a_resource_policy_hands_the_decision_over_and_grants_nothing() -> None:
    account = statement("Allow", "kms:*", Principal=ROOT)
    assert decide(resource=[account]) is Decision.NOT_ALLOWED
    allowed = [statement("Allow", "kms:Decrypt")]
    assert decide(identity=allowed, resource=[account], needs_consent=True) is Decision.ALLOWED
    assert decide(identity=allowed, resource=[], needs_consent=True) is Decision.NOT_ALLOWED
    itself = statement("Allow", "kms:*", Principal={"AWS": [ROLE]})
    assert decide(resource=[itself]) is Decision.ALLOWED_BY_RESOURCE


def test_a_service_is_allowed_by_its_name_alone() -> None:
    events = statement("Allow", "kms:Decrypt", Principal={"Service": "events.amazonaws.com"})
    assert decide(EVENTS, resource=[events]) is Decision.ALLOWED_BY_RESOURCE
    assert decide(WORKER, resource=[events]) is Decision.NOT_ALLOWED
    assert decide(EVENTS, resource=[statement("Allow", "kms:*", Principal=ROOT)]) is Decision.NOT_ALLOWED


def test_boundaries_and_session_policies_have_to_allow_too() -> None:
    allow = [statement("Allow", "kms:*")]
    assert decide(identity=allow, limits=[allow]) is Decision.ALLOWED
    assert decide(identity=allow, limits=[[statement("Allow", "s3:*")]]) is Decision.NOT_ALLOWED


@pytest.mark.parametrize(
    ("who", "named", "decision"),
    [
        (WORKER, ROLE, Decision.NOT_ALLOWED),
        (WORKER, SESSION, Decision.ALLOWED_BY_RESOURCE),
        (Principal("000000000000", USER), USER, Decision.ALLOWED_BY_RESOURCE),
    ],
)
def test_limits_hold_for_what_is_allowed_to_a_role_but_not_to_its_session_or_a_user(
    who: Principal, named: str, decision: Decision
) -> None:
    resource = [statement("Allow", "kms:*", Principal={"AWS": named})]
    assert decide(who, resource=resource, limits=[[statement("Allow", "s3:*")]]) is decision
    assert decide(who, resource=resource, limits=[[statement("Allow", "kms:*")]]).allows


@pytest.mark.parametrize(
    ("action", "resource", "needed"),
    [
        ("kms:Decrypt", KEY, True),
        ("kms:ListKeys", "*", False),
        ("kms:ListAliases", "*", False),
        ("kms:CreateKey", "*", False),
        ("sts:AssumeRole", ROLE, True),
        ("iam:PassRole", ROLE, False),
        ("sqs:SendMessage", "arn:aws:sqs:eu-west-1:000000000000:q", False),
    ],
)
def test_keys_and_roles_that_are_assumed_have_to_consent(action: str, resource: str, needed: bool) -> None:
    assert needs_consent(Check(action, resource)) is needed


def test_not_action_and_not_resource_mean_all_but_these() -> None:
    spared = {"Effect": "Allow", "NotAction": "kms:Decrypt", "Resource": "*"}
    assert decide(identity=[spared]) is Decision.NOT_ALLOWED
    assert decide(identity=[{**spared, "NotAction": "s3:*"}]) is Decision.ALLOWED
    assert decide(identity=[{"Effect": "Allow", "Action": "*", "NotResource": KEY}]) is Decision.NOT_ALLOWED


def test_taking_one_action_away_leaves_the_others() -> None:
    document = {
        "Statement": [statement("Allow", "a:X"), {**statement("Allow", ""), "Action": ["a:X", "a:Y"]}]
    }
    left = without(document, "A:x")["Statement"]
    assert [entry["Action"] for entry in left] == [["a:Y"]]
