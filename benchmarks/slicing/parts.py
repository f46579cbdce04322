"""What workers of a simulated training in slices are made of, and what came of a world."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from isthmus.transport.session import Incoming
from isthmus.workflows.slice_checkpoints import SliceCheckpoints
from isthmus.workflows.slice_meeting import Meeting
from isthmus.workflows.train_slices import SliceTrainer

if TYPE_CHECKING:
    from benchmarks.slicing.simulated import World


class Watched(SliceCheckpoints):
    """Checkpoints that tell the world what is committed, and what is read."""

    world: World

    def commit(self, step: int, files: Mapping[str, str]) -> None:
        self.world.commits(step, files)
        super().commit(step, files)

    def read(self, number: int, step: int, sha256: str) -> dict[str, Any]:
        self.world.reads(number, step)
        return super().read(number, step, sha256)


@dataclass(frozen=True)
class Parts:
    """What workers are made of; another part to see whether the checks find its fault."""

    trainer: type[SliceTrainer] = SliceTrainer
    checkpoints: type[Watched] = Watched
    meeting: type[Meeting] = Meeting
    incoming: Callable[[], Incoming] = Incoming


@dataclass
class Result:
    """What came of a world."""

    seed: int
    violations: list[str]
    kills: int = 0
    breaks: int = 0
    turns: int = 0
    seconds: float = 0.0
    trace: list[str] = field(default_factory=list)
