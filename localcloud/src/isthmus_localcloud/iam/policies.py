"""Policies, and what they decide together.

Source: IAM user guide, "Policy evaluation logic": an explicit Deny anywhere wins; within one account the
resource's policy or the identity's may allow; permissions boundaries and session policies limit what the
identity's policies allow, and what a resource's policy allows to the ARN of a role. What a resource's
policy allows to a user's ARN, or to that of a role's session, they do not limit.
"""

import enum
import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .conditions import Context, as_list, filled_in, hold
from .wildcards import arn_matches, matches

Document = Mapping[str, Any]


@dataclass(frozen=True)
class Principal:
    """Who calls. ``arn``: the user's or the session's own; ``role_arn``: that of the session's role."""

    account: str
    arn: str | None = None
    role_arn: str | None = None
    service: str | None = None


@dataclass(frozen=True)
class Question:
    """May the action be done on the resource, in this context?"""

    action: str
    resource: str
    context: Context = field(default_factory=dict)


class Decision(enum.Enum):
    """The value is what the record says."""

    ALLOWED = "allowed"
    ALLOWED_BY_RESOURCE = "allowed by the resource's policy"
    NOT_ALLOWED = "not allowed"
    DENIED = "denied"

    @property
    def allows(self) -> bool:
        return self in (Decision.ALLOWED, Decision.ALLOWED_BY_RESOURCE)


class Naming(enum.Enum):
    """How a resource policy's statement names somebody."""

    NO = enum.auto()
    ITSELF = enum.auto()
    ITS_ROLE = enum.auto()
    ITS_ACCOUNT = enum.auto()


@dataclass(frozen=True)
class Statement:
    """One statement of a policy document."""

    allows: bool
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    conditions: Mapping[str, Mapping[str, Any]]
    principals: Any = None
    all_but_actions: bool = False
    all_but_resources: bool = False
    all_but_principals: bool = False

    def applies(self, question: Question) -> bool:
        return (
            self._covers_action(question.action)
            and self._covers_resource(question)
            and hold(self.conditions, question.context)
        )

    def _covers_action(self, action: str) -> bool:
        return any(matches(pattern, action.lower()) for pattern in self.actions) != self.all_but_actions

    def _covers_resource(self, question: Question) -> bool:
        filled = (filled_in(pattern, question.context) for pattern in self.resources)
        found = any(pattern is not None and arn_matches(pattern, question.resource) for pattern in filled)
        return found != self.all_but_resources

    def names(self, who: Principal) -> Naming:
        found = named(self.principals, who)
        if not self.all_but_principals:
            return found
        return Naming.NO if found is not Naming.NO else Naming.ITSELF


def named(principals: Any, who: Principal) -> Naming:
    """Whether a ``Principal`` element names somebody.

    The account, or its root, stands for the decision of the account's own policies, not for everybody in
    it: "It does not by itself give any IAM users or roles access to the KMS key, but it enables you to use
    IAM policies to do so" (KMS developer guide, "Default key policy").
    """
    if principals == "*":
        return Naming.ITSELF
    if not isinstance(principals, Mapping):
        return Naming.NO
    if who.service is not None:
        return Naming.ITSELF if who.service in as_list(principals.get("Service", [])) else Naming.NO
    listed = as_list(principals.get("AWS", []))
    if "*" in listed or (who.arn is not None and who.arn in listed):
        return Naming.ITSELF
    if who.role_arn is not None and who.role_arn in listed:
        return Naming.ITS_ROLE
    if who.account in listed or f"arn:aws:iam::{who.account}:root" in listed:
        return Naming.ITS_ACCOUNT
    return Naming.NO


def parse(document: Document) -> tuple[Statement, ...]:
    return tuple(_statement(entry) for entry in as_list(document.get("Statement", [])))


@functools.lru_cache(maxsize=1024)
def parse_text(document: str) -> tuple[Statement, ...]:
    """Parsed once for each text: a changed policy is another text, so nothing has to be forgotten."""
    return parse(json.loads(document))


def _statement(entry: Document) -> Statement:
    return Statement(
        allows=entry.get("Effect") == "Allow",
        actions=tuple(name.lower() for name in as_list(entry.get("Action", entry.get("NotAction", [])))),
        # A resource's policy may leave it out where the resource is the only one, as Lambda's do not.
        resources=tuple(as_list(entry.get("Resource", entry.get("NotResource", "*")))),
        conditions=entry.get("Condition", {}),
        principals=entry.get("Principal", entry.get("NotPrincipal")),
        all_but_actions="NotAction" in entry,
        all_but_resources="NotResource" in entry,
        all_but_principals="NotPrincipal" in entry,
    )


@dataclass(frozen=True)
class Policies:
    """Everything that is asked about one call.

    ``limits``: a permissions boundary and session policies, each of which has to allow too.
    ``needs_consent``: identity policies count only if the resource's policy hands the decision to the
    account; so with KMS keys and with roles that are assumed.
    """

    identity: Sequence[Statement] = ()
    resource: Sequence[Statement] = ()
    limits: Sequence[Sequence[Statement]] = ()
    needs_consent: bool = False

    def decide(self, who: Principal, question: Question) -> Decision:
        applying = [(s, s.names(who)) for s in self.resource if s.applies(question)]
        concerning = [(s, naming) for s, naming in applying if naming is not Naming.NO]
        if any(not s.allows for s, _ in concerning) or self._denied(question):
            return Decision.DENIED
        namings = {naming for _, naming in concerning}
        if Naming.ITSELF in namings:
            return Decision.ALLOWED_BY_RESOURCE
        if (self.needs_consent and not namings) or not all(_allow(limit, question) for limit in self.limits):
            return Decision.NOT_ALLOWED
        if Naming.ITS_ROLE in namings:
            return Decision.ALLOWED_BY_RESOURCE
        return Decision.ALLOWED if _allow(self.identity, question) else Decision.NOT_ALLOWED

    def _denied(self, question: Question) -> bool:
        return any(
            not statement.allows and statement.applies(question)
            for statements in (self.identity, *self.limits)
            for statement in statements
        )


def _allow(statements: Iterable[Statement], question: Question) -> bool:
    return any(statement.allows and statement.applies(question) for statement in statements)


def without(document: Document, action: str) -> dict[str, Any]:
    """The document without one action; a statement that named nothing else is gone."""
    kept = []
    for entry in as_list(document.get("Statement", [])):
        if "Action" not in entry:
            kept.append(entry)
            continue
        rest = [name for name in as_list(entry["Action"]) if name.lower() != action.lower()]
        if rest:
            kept.append({**entry, "Action": rest})
    return {**document, "Statement": kept}
