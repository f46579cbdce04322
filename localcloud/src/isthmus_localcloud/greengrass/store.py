"""What the cloud side of Greengrass remembers."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from localemu.aws.api import CommonServiceException, RequestContext

# AWS makes a component version after it has answered: it reads the artifacts meanwhile.
MAKING = timedelta(seconds=0.3)
LOCK = threading.RLock()
Document = dict[str, Any]


def now() -> datetime:
    return datetime.now(UTC)


def not_found(kind: str, name: str) -> CommonServiceException:
    return CommonServiceException(
        "ResourceNotFoundException", f"The {kind} {name} does not exist.", status_code=404
    )


def invalid(message: str) -> CommonServiceException:
    return CommonServiceException("ValidationException", message, status_code=400, sender_fault=True)


def conflict(message: str) -> CommonServiceException:
    return CommonServiceException("ConflictException", message, status_code=409, sender_fault=True)


@dataclass
class Component:
    """One immutable version. ``function`` is set for a component that was imported from Lambda."""

    arn: str
    recipe: Document
    tags: dict[str, str]
    function: Document | None = None
    created: datetime = field(default_factory=now)

    @property
    def name(self) -> str:
        return str(self.recipe["ComponentName"])

    @property
    def version(self) -> str:
        return str(self.recipe["ComponentVersion"])

    @property
    def state(self) -> str:
        """A CloudComponentState: what cannot be made is refused at once here, so there is no FAILED."""
        return "DEPLOYABLE" if now() - self.created >= MAKING else "REQUESTED"

    @property
    def family_arn(self) -> str:
        return self.arn.rpartition(":versions:")[0]


@dataclass
class Deployment:
    """One revision of what a target shall run."""

    id: str
    target: str
    request: Document
    revision: int
    status: str = "ACTIVE"
    latest: bool = True
    created: datetime = field(default_factory=now)

    @property
    def components(self) -> Document:
        return dict(self.request.get("components", {}))


@dataclass
class Core:
    """What a core device said last."""

    name: str
    status: str = "HEALTHY"
    reported: datetime = field(default_factory=now)
    installed: list[Document] = field(default_factory=list)
    effective: dict[str, Document] = field(default_factory=dict)


@dataclass
class Region:
    components: dict[str, Component] = field(default_factory=dict)
    deployments: dict[str, Deployment] = field(default_factory=dict)
    tokens: dict[str, Document] = field(default_factory=dict)
    cores: dict[str, Core] = field(default_factory=dict)

    def for_target(self, target: str) -> Iterator[Deployment]:
        return (d for d in self.deployments.values() if d.target == target)

    def latest_for(self, target: str) -> Deployment | None:
        return next((d for d in self.for_target(target) if d.latest and d.status != "CANCELED"), None)


REGIONS: dict[tuple[str, str], Region] = {}


def region_of(account: str, region: str) -> Region:
    with LOCK:
        return REGIONS.setdefault((account, region), Region())


def here(context: RequestContext) -> Region:
    return region_of(context.account_id, context.region)
