"""``examine_account.Machine`` and ``Account`` in memory: all is well until a test says otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from isthmus.errors import NotChecked
from isthmus.workflows.examine_account import Caller, LambdaLimits


@dataclass
class MemoryMachine:
    """A machine that has everything but what ``lacks`` names."""

    version: tuple[int, int, int] = (3, 13, 1)
    lacks: set[str] = field(default_factory=set)
    free_bytes: int = 100 << 30

    def python(self) -> tuple[int, int, int]:
        return self.version

    def package(self, name: str) -> str:
        return "" if name in self.lacks else "1.0"

    def command(self, name: str) -> str:
        return "" if name in self.lacks else f"{name} 1.0"

    def library(self, name: str) -> bool:
        return name not in self.lacks

    def disk_free_bytes(self) -> int:
        return self.free_bytes


@dataclass
class MemoryAccount:
    """``fails``: questions that cannot be answered, and why."""

    region_name: str = "eu-west-1"
    absent: list[str] = field(default_factory=list)
    skew_seconds: float = 0.5
    limits: LambdaLimits = field(default_factory=lambda: LambdaLimits(1000, 1 << 30, 75 << 30))
    quotas: dict[str, float] = field(default_factory=lambda: {"ml.g5.xlarge": 1.0})
    refused: list[str] = field(default_factory=list)
    status: str = ""
    fails: dict[str, str] = field(default_factory=dict)

    def region(self) -> str:
        return self.region_name

    def absent_services(self, region: str) -> list[str]:
        return self.absent

    def caller(self) -> Caller:
        self._answer("caller")
        return Caller("123456789012", "arn:aws:iam::123456789012:user/ada", self.skew_seconds)

    def lambda_limits(self) -> LambdaLimits:
        self._answer("lambda_limits")
        return self.limits

    def training_quotas(self) -> Mapping[str, float]:
        self._answer("training_quotas")
        return self.quotas

    def refused_actions(self, caller: Caller, stack: str) -> list[str]:
        self._answer("refused_actions")
        return self.refused

    def stack_status(self, stack: str) -> str:
        self._answer("stack_status")
        return self.status

    def _answer(self, question: str) -> None:
        if question in self.fails:
            raise NotChecked(self.fails[question])
