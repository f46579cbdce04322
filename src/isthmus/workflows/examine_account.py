"""Look at what isthmus needs of this machine and of the account, before anything is deployed or after."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

import msgspec

from isthmus.errors import IsthmusError
from isthmus.model.finding import BAD_SKEW_SECONDS, SKEW_SECONDS, Finding, Level
from isthmus.model.units import GIB, format_bytes
from isthmus.workflows.stack_states import NEXT_STEPS, UNCLEAR

OLDEST_PYTHON, TOO_NEW_PYTHON = (3, 11), (3, 14)
PACKAGES = ("boto3", "msgspec", "pyyaml")
COMMANDS = {
    "sam": ("missing", "`sam build && sam deploy`", "pip install aws-sam-cli"),
    "make": ("missing", "the layers, which `sam build` builds by make", "sudo apt install make"),
    "aws": ("warn", "no command of isthmus, but the commands that mend things", "pip install awscli"),
}
LIBRARIES = {"libgomp.so.1": "libgomp1", "libquadmath.so.0": "libquadmath0"}
"""What MXNet loads on a rig, by the Debian package that has it."""
DISK_BYTES, LITTLE_DISK_BYTES = 2 * GIB, 10 * GIB
"""A build takes about 1 GiB, a training environment as much again."""
CONCURRENCY = 50
"""Fewer concurrent executions than that throttle a pipeline beside a few requests. New accounts start
at 10 or 50, and with functions of at most 3,008 MB, which no API tells (Lambda developer guide, quotas)."""
FULL, NEARLY_FULL = 0.95, 0.8


class Caller(msgspec.Struct, frozen=True):
    """Whose credentials these are; ``skew_seconds``: how far this machine's clock is from AWS's."""

    account: str
    arn: str
    skew_seconds: float


class LambdaLimits(msgspec.Struct, frozen=True):
    """What Lambda grants the account in this region, and what is used."""

    concurrency: int
    used_bytes: int
    limit_bytes: int


class Machine(Protocol):
    """The machine that the command runs on. Each text is empty when there is no such thing."""

    def python(self) -> tuple[int, int, int]: ...
    def package(self, name: str) -> str:
        """Return an installed package's version."""

    def command(self, name: str) -> str:
        """Return the first line of what ``name --version`` prints."""

    def library(self, name: str) -> bool: ...
    def disk_free_bytes(self) -> int: ...


class Account(Protocol):
    """The account and region. Every question raises an IsthmusError when it cannot be answered."""

    def region(self) -> str:
        """Return the region that the environment or the configuration names, or nothing."""

    def absent_services(self, region: str) -> list[str]: ...
    def caller(self) -> Caller: ...
    def lambda_limits(self) -> LambdaLimits: ...
    def training_quotas(self) -> Mapping[str, float]:
        """Return how many training instances of each type may run at once, by type."""

    def refused_actions(self, caller: Caller, stack: str) -> list[str]: ...
    def stack_status(self, stack: str) -> str:
        """Return CloudFormation's status, or nothing when there is no such stack."""


def examine(stack: str, machine: Machine, account: Account) -> list[Finding]:
    """Make every check; one that fails to be made is a finding too."""
    return [*machine_findings(machine), *account_findings(stack, account)]


def machine_findings(machine: Machine) -> Iterator[Finding]:
    """Check Python, packages, commands, disk and libraries."""
    yield _python(machine.python())
    absent = [name for name in PACKAGES if not machine.package(name)]
    found = ", ".join(f"{name} {machine.package(name)}" for name in PACKAGES if name not in absent)
    yield (
        Finding(
            "packages", "missing", f"not installed: {', '.join(absent)}", f"pip install {' '.join(absent)}"
        )
        if absent
        else Finding("packages", "ok", found)
    )
    for name, (level, needed_by, mend) in COMMANDS.items():
        said = machine.command(name)
        lacking = Finding(name, _level(level), f"not found, or it does not run; it is for {needed_by}", mend)
        yield Finding(name, "ok", said) if said else lacking
    yield _disk(machine.disk_free_bytes())
    lacking_libraries = [package for name, package in LIBRARIES.items() if not machine.library(name)]
    yield (
        Finding(
            "libraries of a rig",
            "warn",
            f"training with MXNet on this machine needs {' and '.join(lacking_libraries)}",
            f"sudo apt install {' '.join(lacking_libraries)}",
        )
        if lacking_libraries
        else Finding("libraries of a rig", "ok", ", ".join(LIBRARIES.values()))
    )


def account_findings(stack: str, account: Account) -> list[Finding]:
    """Check credentials, region, clock, quotas, permissions and the stack's state."""
    region = account.region()
    findings = [_region(region, account)]
    try:
        caller = account.caller()
    except IsthmusError as error:
        lacking = Finding("credentials", "missing", str(error), "aws configure")
        return [*findings, lacking, *_not_checked("without credentials" if region else "without a region")]
    return [
        *findings,
        Finding("credentials", "ok", f"{caller.arn} in the account {caller.account}"),
        _clock(caller.skew_seconds),
        _made("Lambda's concurrency", lambda: _concurrency(account.lambda_limits())),
        _made("Lambda's storage", lambda: _storage(account.lambda_limits())),
        _made("SageMaker training", lambda: _training(account.training_quotas())),
        _made("permissions", lambda: _permissions(account.refused_actions(caller, stack), caller)),
        _made("stack", lambda: stack_finding(stack, account.stack_status(stack))),
    ]


def _not_checked(why: str) -> list[Finding]:
    checks = (
        "clock",
        "Lambda's concurrency",
        "Lambda's storage",
        "SageMaker training",
        "permissions",
        "stack",
    )
    return [Finding(check, "unknown", f"cannot be checked {why}") for check in checks]


def _made(check: str, make: Callable[[], Finding]) -> Finding:
    try:
        return make()
    except IsthmusError as error:
        return Finding(check, "unknown", f"cannot be checked: {error}")


def _level(text: str) -> Level:
    return "missing" if text == "missing" else "warn"


def _python(version: tuple[int, int, int]) -> Finding:
    text = ".".join(map(str, version))
    if OLDEST_PYTHON <= version[:2] < TOO_NEW_PYTHON:
        return Finding("Python", "ok", text)
    return Finding("Python", "missing", f"{text}; it takes 3.11 to 3.13", "uv python install 3.13")


def _disk(free_bytes: int) -> Finding:
    said = f"{format_bytes(free_bytes)} free in this folder"
    if free_bytes >= LITTLE_DISK_BYTES:
        return Finding("disk", "ok", said)
    level: Level = "missing" if free_bytes < DISK_BYTES else "warn"
    wanted = f"{said}; a build takes {format_bytes(DISK_BYTES)}, a rig more"
    return Finding("disk", level, wanted, "du -xhd1 ~ | sort -h | tail")


def _region(region: str, account: Account) -> Finding:
    if not region:
        mend = "export AWS_DEFAULT_REGION=eu-west-1"
        return Finding(
            "region", "missing", "no region is set, neither by the environment nor a profile", mend
        )
    absent = account.absent_services(region)
    if not absent:
        return Finding("region", "ok", f"{region} has every service that is used")
    # A region that is newer than boto3's list looks empty; it is no proof.
    said = f"{region} lacks {', '.join(absent)}, as far as this boto3 knows"
    return Finding("region", "missing", said, "pip install --upgrade boto3, or export AWS_DEFAULT_REGION=…")


def _clock(skew_seconds: float) -> Finding:
    said = f"{abs(skew_seconds):.0f} s {'ahead of' if skew_seconds > 0 else 'behind'} AWS's"
    if abs(skew_seconds) <= SKEW_SECONDS:
        return Finding("clock", "ok", said)
    level: Level = "missing" if abs(skew_seconds) > BAD_SKEW_SECONDS else "warn"
    return Finding("clock", level, f"{said}; AWS refuses more than 5 min", "sudo timedatectl set-ntp true")


def _concurrency(limits: LambdaLimits) -> Finding:
    said = f"{limits.concurrency} functions at once"
    if limits.concurrency >= CONCURRENCY:
        return Finding("Lambda's concurrency", "ok", said)
    mend = (
        "aws service-quotas request-service-quota-increase --service-code lambda "
        "--quota-code L-B99A9384 --desired-value 1000"
    )
    more = f"{said}, as new accounts have: a pipeline beside a few requests is throttled, and retried"
    return Finding("Lambda's concurrency", "warn", more, mend)


def _storage(limits: LambdaLimits) -> Finding:
    share = limits.used_bytes / limits.limit_bytes
    said = f"{format_bytes(limits.used_bytes)} of {format_bytes(limits.limit_bytes)} are used ({share:.0%})"
    if share < NEARLY_FULL:
        return Finding("Lambda's storage", "ok", said)
    return Finding("Lambda's storage", "missing" if share >= FULL else "warn", said, "isthmus collect")


def _training(quotas: Mapping[str, float]) -> Finding:
    granted = {name: value for name, value in quotas.items() if value > 0}
    gpus = sorted(name for name in granted if name.startswith(("ml.g", "ml.p")))
    said = f"{len(granted)} instance types" + (
        f", with GPU: {', '.join(gpus[:6])}" if gpus else ", none with GPU"
    )
    if gpus:
        return Finding("SageMaker training", "ok", said)
    mend = (
        "aws service-quotas list-service-quotas --service-code sagemaker "
        "--query \"Quotas[?contains(QuotaName,'training job usage')].[QuotaName,QuotaCode]\" --output text"
    )
    more = f"{said}; rigs train without it, for SageMaker request an increase of a quota that this lists"
    return Finding("SageMaker training", "warn", more, mend)


def _permissions(refused: Sequence[str], caller: Caller) -> Finding:
    if not refused:
        return Finding("permissions", "ok", "all that `sam deploy` and these commands call")
    return Finding(
        "permissions",
        "missing",
        f"not allowed for {caller.arn}: {', '.join(refused)}",
        f"aws iam attach-{_attachment(caller.arn)} --policy-arn POLICY_WITH_THESE_ACTIONS",
    )


def _attachment(arn: str) -> str:
    """Return how a policy is attached to a user, or to the role of a session."""
    kind, _, name = arn.split(":")[-1].partition("/")
    if kind == "user":
        return f"user-policy --user-name {name.rsplit('/', 1)[-1]}"
    return f"role-policy --role-name {name.split('/')[0]}"


def stack_finding(stack: str, status: str) -> Finding:
    """Say what a stack's status means, and what to do about it."""
    if status in ("", "DELETE_COMPLETE"):
        return Finding("stack", "ok", f"{stack} is not deployed yet", "sam build && sam deploy")
    said = f"{stack} is {status}"
    if status.endswith("_IN_PROGRESS") and status != "REVIEW_IN_PROGRESS":
        return Finding("stack", "warn", f"{said}; wait for it", f"isthmus doctor --stack {stack}")
    why, mend = NEXT_STEPS.get(status, UNCLEAR)
    level: Level = "missing" if mend else "ok"
    return Finding("stack", level, f"{said}; {why}" if why else said, mend.format(stack=stack))
