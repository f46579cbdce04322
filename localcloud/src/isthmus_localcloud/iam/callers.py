"""Those whose calls are decided on: a user, a role, an AWS service, or somebody who did not sign."""

from dataclasses import dataclass

from .identities import Identity
from .policies import Policies, Principal, Statement


@dataclass(frozen=True)
class Service:
    """An AWS service that delivers something, for example EventBridge to a function or a queue."""

    name: str
    source_arn: str
    account: str

    @property
    def arn(self) -> str:
        return self.name

    @property
    def kind(self) -> str:
        return "service"

    @property
    def principal(self) -> Principal:
        return Principal(self.account, service=self.name)

    @property
    def keys(self) -> dict[str, str]:
        """IAM user guide, "The confused deputy problem": for whom the service acts."""
        found = {"aws:SourceAccount": self.account, "aws:PrincipalServiceName": self.name}
        return {**found, "aws:SourceArn": self.source_arn} if self.source_arn else found

    def policies(self, resource: tuple[Statement, ...], needs_consent: bool) -> Policies:
        return Policies(resource=resource, needs_consent=needs_consent)


@dataclass(frozen=True)
class Anonymous:
    """An unsigned request: only a resource's policy for everybody lets it pass."""

    name: str = "anonymous"
    arn: str = "anonymous"
    kind: str = "anonymous"

    @property
    def principal(self) -> Principal:
        return Principal(account="")

    def policies(self, resource: tuple[Statement, ...], needs_consent: bool) -> Policies:
        return Policies(resource=resource, needs_consent=needs_consent)


Caller = Identity | Service | Anonymous
