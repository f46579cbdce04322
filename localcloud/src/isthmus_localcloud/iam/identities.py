"""Who makes a call, and which policies speak for them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from . import attached
from .policies import Policies, Principal, Statement, parse, parse_text

OPERATOR_KEYS = frozenset({"local", "test", "000000000000"})
"""Access keys of whoever runs the local cloud: they may do everything, as an account's root may.

The last is what LocalEmu's own parts use for the account 000000000000.
"""


@dataclass(frozen=True)
class Identity:
    """A user, a role's session, or a role of which AWS asks what it may do (``arn`` is then the role's).

    ``arn`` is what AWS's messages call it by; ``token``: the session's, which its requests have to bring.
    """

    kind: str
    name: str
    arn: str
    account: str
    role_arn: str = ""
    access_key: str = ""
    secret: str = ""
    token: str = ""

    @property
    def principal(self) -> Principal:
        own = self.arn if self.arn != self.role_arn else None
        return Principal(self.account, own, self.role_arn or None)

    def policy_texts(self) -> Iterator[tuple[str, str]]:
        """Name and text of each of its policies, as they are now."""
        if self.kind == "role":
            return attached.role_policies(self.account, self.role_arn)
        return attached.user_policies(self.account, self.name)

    def policies(self, resource: tuple[Statement, ...], needs_consent: bool) -> Policies:
        statements = [s for _, text in self.policy_texts() for s in parse_text(text)]
        return Policies(statements, resource, self._limits(), needs_consent)

    def _limits(self) -> list[tuple[Statement, ...]]:
        holder = (
            attached.role_of(self.account, self.role_arn)
            if self.kind == "role"
            else attached.user_of(self.account, self.name)
        )
        bound = attached.boundary(self.account, holder)
        return [*([bound] if bound is not None else []), *session_policies(self.account, self.access_key)]


def identify(access_key: str, account: str) -> Identity | None:
    """None for a key that nobody holds, or that is not active."""
    return _user(access_key, account) or _session(access_key, account)


def _user(access_key: str, account: str) -> Identity | None:
    for user in attached.users(account):
        for key in user.access_keys:
            if key.access_key_id == access_key and key.status == "Active":
                secret = str(key.secret_access_key)
                return Identity("user", user.name, user.arn, account, access_key=access_key, secret=secret)
    return None


_sessions: dict[str, Identity] = {}
"""Sessions by access key. A session keeps its role for good, so it is looked for only once; that it ends
after an hour is not emulated: a function's environment may live longer here."""


def _session(access_key: str, account: str) -> Identity | None:
    if access_key not in _sessions:
        from moto.sts.models import sts_backends

        for session in reversed(sts_backends[account]["aws"].assumed_roles):
            _sessions.setdefault(session.access_key_id, _of_session(session, account))
            if session.access_key_id == access_key:
                break
    return _sessions.get(access_key)


def _of_session(session: Any, account: str) -> Identity:
    name = session.role_arn.rpartition("/")[2]
    return Identity(
        kind="role",
        name=name,
        arn=f"arn:aws:sts::{account}:assumed-role/{name}/{session.session_name}",
        account=account,
        role_arn=session.role_arn,
        access_key=session.access_key_id,
        secret=session.secret_access_key,
        token=session.session_token,
    )


def tell(account: str, access_key: str, keys: dict[str, str]) -> None:
    """Let a session's requests have context keys, as the service that gave it out says."""
    from localemu.services.sts.models import sts_stores

    sts_stores[account]["us-east-1"].sessions[access_key]["iam_context"].update(keys)


def session_keys(account: str, access_key: str) -> dict[str, str]:
    """The context keys that ``tell`` gave."""
    from localemu.services.sts.models import sts_stores

    session = sts_stores[account]["us-east-1"].sessions.get(access_key)
    return dict((session or {}).get("iam_context") or {})


def session_policies(account: str, access_key: str) -> list[tuple[Statement, ...]]:
    """The policies that AssumeRole was given for this session alone."""
    from localemu.services.sts.models import sts_stores

    session = sts_stores[account]["us-east-1"].sessions.get(access_key)
    return [parse(document) for document in (session or {}).get("session_policies") or []]
