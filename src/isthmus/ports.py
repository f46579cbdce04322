"""What workflows need of the world, as protocols. ``adapters/aws`` and ``adapters/local`` provide them.

Every port has one fake that ships (``adapters/local``), and one contract test that runs on the
fake and on the real adapter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from isthmus.model.calls import Minute
from isthmus.model.core_device import CoreDevice, CorePlace
from isthmus.model.device import DeviceDescriptor
from isthmus.model.execution import Ending
from isthmus.model.inventory import Thing
from isthmus.model.messages import Work
from isthmus.model.rig_identity import Certificate

Item = dict[str, Any]
GoOn = Callable[[], None]
"""Asked now and then by what takes long; what it raises ends that."""


def always() -> None:
    """Go on whatever happens."""


@dataclass(frozen=True)
class BlobInfo:
    """Size of an object and, where the store verified one at upload, its full SHA-256 (hex).

    ``version`` stands for the object's bytes: other bytes, another version (S3's entity tag). Listings
    leave it empty.
    """

    key: str
    size_bytes: int
    sha256: str | None = None
    version: str = ""


class BlobStore(Protocol):
    """Objects by key. Writes are idempotent: the same key gets the same bytes."""

    def info(self, key: str) -> BlobInfo | None: ...
    def get(self, key: str, *, max_bytes: int) -> bytes:
        """Raises MissingFile; LimitExceeded when larger than ``max_bytes``, before reading."""

    def put(self, key: str, data: bytes, *, sha256: str | None = None) -> None: ...
    def create(self, key: str, data: bytes) -> bool:
        """Write unless there is an object of that key; return whether it was written."""

    def upload(self, key: str, path: Path, *, sha256: str) -> None: ...
    def download(self, key: str, path: Path) -> str:
        """Write to ``path`` (atomically) and return the SHA-256 (hex). Raises MissingFile."""

    def pieces(
        self, key: str, *, start: int = 0, stop: int | None = None, version: str = ""
    ) -> Iterator[bytes]:
        """Yield the bytes ``[start, stop)``, piece by piece as they come; ``stop`` is at most the size.

        ``version``: of these bytes alone. Raises MissingFile; Conflict when there are others by now.
        Raised when the first piece is asked for.
        """

    def save(
        self,
        key: str,
        path: Path,
        *,
        start: int = 0,
        stop: int | None = None,
        version: str = "",
        go_on: GoOn = always,
    ) -> None:
        """Write the bytes ``[start, stop)`` to their own places in a file that exists. As ``pieces`` otherwise;
        raises OSError when the file cannot be written, and what ``go_on`` raises, which is asked between pieces."""

    def compose(self, key: str, pieces: Iterator[bytes], *, sha256: str) -> None:
        """Write an object of any size, piece by piece. Raises DigestMismatch, and then nothing is written."""

    def sha256(self, key: str) -> str:
        """Stream the object and return its SHA-256 (hex). Raises MissingFile."""

    def keys(self, prefix: str) -> Iterator[BlobInfo]: ...
    def delete(self, key: str) -> None: ...


@dataclass(frozen=True)
class Grant:
    """An address that takes one object for a while, with exactly these headers."""

    url: str
    headers: Mapping[str, str]


class Presigner(Protocol):
    """Addresses at which somebody without credentials may move one object."""

    def to_put(self, key: str, *, size_bytes: int, sha256: str, seconds: int) -> Grant:
        """The store refuses other bytes than those of this size and SHA-256 (hex)."""

    def to_put_any(self, key: str, *, seconds: int) -> str:
        """For a program of the stack, which knows what it puts only then."""

    def to_get(self, key: str, *, seconds: int) -> str: ...


class Records(Protocol):
    """Items of one table by ``pk`` and ``sk``."""

    def get(self, pk: str, sk: str) -> Item | None: ...
    def query(self, pk: str, *, prefix: str = "") -> list[Item]: ...
    def put(self, item: Item) -> None: ...
    def create(self, item: Item) -> bool:
        """Write unless an item of that key exists; return whether it was written."""

    def update(
        self,
        pk: str,
        sk: str,
        values: Mapping[str, Any],
        *,
        expect: Mapping[str, Any] | None = None,
        below: Mapping[str, int] | None = None,
    ) -> None:
        """Set ``values``. ``expect``: attributes that must equal (None: must not exist).
        ``below``: numeric attributes that must be smaller than given, or absent. Raises Conflict."""

    def delete(self, pk: str, sk: str, *, expect: Mapping[str, Any] | None = None) -> None:
        """Remove an item; there need be none. ``expect``: as in ``update``. Raises Conflict."""

    def next_number(self, pk: str, sk: str) -> int:
        """Return 1, 2, 3, …: atomic, never the same number twice."""


@dataclass(frozen=True)
class Message:
    """A message of a rig's queue; ``work`` is None when it cannot be read, and ``problem`` says why."""

    receipt: str
    work: Work | None
    problem: str = ""


class JobQueue(Protocol):
    """A rig's own queue of work."""

    def receive(self, *, wait_seconds: int) -> list[Message]:
        """Return up to ten messages, in no particular order; none after the wait."""

    def delete(self, receipt: str) -> None: ...


class Tasks(Protocol):
    """Task tokens of Step Functions. Each raises Conflict when the task is no longer waiting."""

    def succeed(self, token: str, output: Mapping[str, Any]) -> None: ...
    def fail(self, token: str, error: str, cause: str) -> None: ...
    def heartbeat(self, token: str) -> None: ...


class Reporter(Protocol):
    """Tells the control plane that an attempt's outcome was committed; idempotent."""

    def finished(self, job_key: str, fencing: int) -> None: ...


class Signer(Protocol):
    """Signs a SHA-256 digest: ECDSA P-256, DER, the algorithm ECDSA_SHA_256 of AWS KMS."""

    def sign(self, digest: bytes) -> bytes: ...
    def public_key(self) -> bytes:
        """DER SubjectPublicKeyInfo."""


@dataclass(frozen=True)
class TrainingRun:
    """What a trainer left: exit code, last lines, metrics that it printed, and its output folder.

    ``withheld``: where on this machine lies what may not leave it, if anything may not.
    """

    exit_code: int
    tail: str
    metrics: dict[str, float]
    output: Path
    seconds: float
    stopped: bool = False
    withheld: str = ""


class Clock(Protocol):
    """Time as UTC seconds since the epoch, and waiting; pure code is given ``now`` instead."""

    def now(self) -> float: ...
    def sleep(self, seconds: float) -> None: ...


class Flag(Protocol):
    """What threads tell each other, as ``threading.Event`` has it."""

    def set(self) -> None: ...
    def clear(self) -> None: ...
    def is_set(self) -> bool: ...
    def wait(self, timeout: float | None = None) -> bool: ...


class Threads(Protocol):
    """Concurrency. Whatever blocks, waits on a flag, on ``Clock`` or on a service's port, nowhere else."""

    def flag(self) -> Flag: ...
    def start(self, name: str, run: Callable[[], None]) -> Callable[[], None]:
        """Run it beside the caller; return what waits for its end."""


class Devices(Protocol):
    """The registered devices."""

    def register(self, device: DeviceDescriptor) -> None: ...
    def get(self, name: str) -> DeviceDescriptor | None: ...
    def list(self) -> list[DeviceDescriptor]: ...


class Engine(Protocol):
    """A loaded model: named arrays in, named arrays out (numpy, batch first)."""

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]: ...


@dataclass(frozen=True)
class FunctionCode:
    """The stack's serving function as a pattern for each model's own: code, layers and set-up.

    ``stack``: whose function is staged after it.
    """

    zip_url: str
    sha256: str
    layers: tuple[str, ...]
    settings: Mapping[str, Any]
    stack: str = ""


@dataclass(frozen=True)
class Invocation:
    """The answer of one synchronous call. ``error`` is the function's errorType, or empty."""

    payload: bytes
    version: str
    error: str = ""


@dataclass(frozen=True)
class Alias:
    """Where an alias points: ``version``, and ``next_version`` for ``next_weight`` (0..1) of calls."""

    version: str
    next_version: str = ""
    next_weight: float = 0.0


class Functions(Protocol):
    """Lambda, as far as models in service need it. Every write is idempotent."""

    def pattern(self, function: str) -> FunctionCode: ...
    def publish_layer(self, name: str, zip_key: str, marker: str) -> str:
        """Return the ARN of the layer version that carries ``marker``; publish it if there is none."""

    def stage(self, function: str, pattern: FunctionCode, layers: tuple[str, ...], marker: str) -> str:
        """Make ``function`` run the pattern with ``layers`` and return the published version."""

    def invoke(self, function: str, qualifier: str, event: Mapping[str, Any]) -> Invocation:
        """Raises UnknownModel when there is no such function or qualifier; Throttled when it takes no more."""

    def send(self, function: str, event: Mapping[str, Any]) -> None:
        """Have the function called later, once, and do not wait. Raises LimitExceeded for a large event."""

    def alias(self, function: str) -> Alias | None: ...
    def point(self, function: str, alias: Alias) -> None: ...
    def unroute(self, function: str) -> None:
        """Remove the alias: the function is not in service."""

    def name_release(self, function: str, release: int, version: str) -> None:
        """Let ``layout.release_alias(release)`` be a qualifier of this version, whatever is in service."""

    def publish_version(self, function: str) -> str:
        """Publish the current code, if it changed since the last version; return the version's ARN."""


class CallFigures(Protocol):
    """What Lambda counts of calls by a function's alias, by the version that ran."""

    def minutes(self, function: str, version: str, since: int, until: int) -> tuple[Minute, ...]:
        """Return the minutes of [since, until) (UTC seconds, whole minutes) that have figures, in their order.

        Minutes that are not long over have a part of their figures, or none yet.

        Raises:
            Unavailable: the figures cannot be had at present.
        """


class Concurrency(Protocol):
    """How many calls of a function may run at once: what is over that is refused at once, and costs nothing."""

    def limit(self, function: str) -> int | None:
        """Return the limit; None when it is the account's. Raises UnknownModel."""

    def set_limit(self, function: str, calls: int | None) -> None:
        """Raises UnknownModel; LimitExceeded when the account cannot spare so many."""


class Registry(Protocol):
    """The model registry: one package per release."""

    def register(
        self, model: str, release: int, source: str, metadata: Mapping[str, str], *, approved: bool = True
    ) -> str:
        """Return the package's id; the same release registers once, ``approved`` or waiting for approval."""

    def judge(
        self,
        package: str,
        status: Literal["Approved", "Rejected", "PendingManualApproval"],
        description: str,
    ) -> None:
        """Say of a package whether it is approved, and why: one line of at most 1,024 characters."""


@dataclass(frozen=True)
class EdgeComponent:
    """A component version, and what of it the device runs."""

    name: str
    version: str


@dataclass(frozen=True)
class EdgeStatus:
    """What a core device says of a deployment: its state and the cause, if it failed."""

    device: str
    state: str
    cause: str = ""


class EdgeFleet(Protocol):
    """Greengrass V2: components and deployments to one thing group."""

    def publish_recipe(self, recipe: Mapping[str, Any]) -> None: ...
    def import_function(
        self,
        component: EdgeComponent,
        version_arn: str,
        environment: Mapping[str, str],
        dependencies: Mapping[str, str],
    ) -> None: ...
    def deploy(self, target: str, components: tuple[EdgeComponent, ...], token: str) -> str:
        """Merge ``components`` into the target's latest deployment; return the deployment's id."""

    def status(self, target: str, deployment: str) -> list[EdgeStatus]: ...


class Events(Protocol):
    """The event bus that tells others what became of a job."""

    def publish(self, kind: str, detail: Mapping[str, Any]) -> None: ...


class Metrics(Protocol):
    """Figures over time, for graphs and alarms."""

    def send(self, values: Mapping[str, float], dimensions: Mapping[str, str]) -> None:
        """Send the values of now. Raises Unavailable; what was not sent is lost, and nothing else is."""


class Executions(Protocol):
    """State machines."""

    def start(self, machine: str, name: str, payload: Mapping[str, Any]) -> bool:
        """Return False when an execution of that name is known to have run already.

        While one runs, AWS answers the same start as if it had made it: True says no more than that
        there is exactly one.
        """


@dataclass(frozen=True)
class TrainingJobStatus:
    """A training job of SageMaker's. ``status``: InProgress, Stopping, Completed, Failed or Stopped; ``passed``: the
    secondary statuses that it went through; ``seconds``: how long it trained, once it has ended; ``billed_seconds``: of
    spot capacity a part of them; ``artifacts``: the URI of its model archive."""

    status: str
    secondary: str = ""
    passed: tuple[str, ...] = ()
    reason: str = ""
    seconds: float = 0.0
    billed_seconds: float = 0.0
    artifacts: str = ""

    @property
    def ended(self) -> bool:
        """Whether nothing more becomes of it."""
        return self.status in ("Completed", "Failed", "Stopped")


class TrainingJobs(Protocol):
    """SageMaker's training jobs. They are made by the state machine, which waits for them."""

    def describe(self, name: str) -> TrainingJobStatus | None:
        """Return how a job is; None: there is none of that name."""

    def stop(self, name: str) -> None:
        """End a job; one that has ended already is as it shall be."""


class Histories(Protocol):
    """What executions of state machines went through."""

    def ending(self, execution: str) -> Ending:
        """Return where the execution of this ARN broke off."""


class Certificates(Protocol):
    """Certificates by which a stack's rigs prove who they are; a rig's thing has its name."""

    def endpoint(self) -> str:
        """Return the host, or host and port, where credentials are given for them."""

    def issue(self, rig: str, request: str) -> tuple[Certificate, str]:
        """Return an active certificate of a rig for a request (PEM), and its PEM; the thing is made if need be."""

    def of(self, rig: str) -> list[Certificate]:
        """Return a rig's certificates for this stack, in order of their ids; a thing may have others too."""

    def deactivate(self, certificate: Certificate) -> None: ...
    def remove(self, certificate: Certificate, rig: str) -> None:
        """Deactivate it and take it from the registry; what is gone already is removed."""


class CoreRegistry(Protocol):
    """The core devices of one stack. A device's thing has its name."""

    def place(self) -> CorePlace: ...
    def grant(self, device: str, policy: str) -> None:
        """Let the device's certificates do what an IoT policy (JSON) says, and nothing that an earlier one did."""

    def certificates(self, device: str) -> Certificates:
        """Return the registry of certificates that have the device's policy; it is granted before one is issued."""

    def admit(self, device: str, *, canary: bool | None = None) -> None:
        """Put the device's thing into one of the stack's groups, whose deployments it gets from then on.

        ``canary``: which one, and no longer into the other; None leaves it where it is, or makes it no canary.
        """

    def members(self) -> dict[str, bool]:
        """Return the things of both groups, in order, and whether each is a canary."""

    def expel(self, device: str) -> None:
        """Remove what the registry has of a device that has no certificates any more; what is gone is removed."""


class FleetView(Protocol):
    """What Greengrass knows of a stack's core devices."""

    def devices(self) -> list[CoreDevice]:
        """Return those that have reported at least once, without components and deployments, in order."""

    def device(self, name: str) -> CoreDevice | None:
        """Return one with all that is known of it; None when it has never reported."""

    def wanted(self, *, canary: bool) -> dict[str, str]:
        """Return the versions by component that the latest deployment asks of a group; none before the first."""


class Belongings(Protocol):
    """One kind of thing that a stack has in an account.

    What is found belongs to this stack and to no other, by an exact name or by the tag
    ``isthmus:stack``: never by a prefix alone. Nothing here needs the stack to exist still, so that
    a removal that was cut off can be run again.
    """

    kind: str

    def find(self) -> list[Thing]: ...
    def remove(self, thing: Thing, report: Callable[[str], None]) -> None:
        """Remove it; what is gone already is removed. ``report`` hears of long work's progress."""
