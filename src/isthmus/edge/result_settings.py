"""What a core device is told of its results; without it none is kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast

from isthmus import documents
from isthmus.edge.outbox import Drop
from isthmus.errors import EnvironmentProblem
from isthmus.model.policy import DataPolicy
from isthmus.model.results import Name
from isthmus.model.units import MIB

DEFAULT_LIMIT_MIB = 256
DEFAULT_GATHER_SECONDS = 10


@dataclass(frozen=True)
class ResultSettings:
    """``folder``: of the outbox. ``policy``: what may leave; ``nothing``: no result is kept either. ``api``: the
    address that results are sent to; empty: they wait. ``api_key``: of its usage plan, where it has one.
    ``gather_seconds``: what comes within them is sent together.
    """

    folder: Path
    device: str
    policy: DataPolicy
    api: str = ""
    limit_bytes: int = DEFAULT_LIMIT_MIB * MIB
    drop: Drop = "oldest"
    gather_seconds: float = DEFAULT_GATHER_SECONDS
    api_key: str = field(default="", repr=False)

    @classmethod
    def from_env(cls, environment: Mapping[str, str]) -> ResultSettings | None:
        """Read ``ISTHMUS_EDGE_OUTBOX`` (the folder; without it None is returned) and, with it, ``ISTHMUS_EDGE_POLICY``
        (a data policy as JSON), ``ISTHMUS_EDGE_DEVICE`` (default: Greengrass' ``AWS_IOT_THING_NAME``),
        ``ISTHMUS_EDGE_RESULTS_API``, ``ISTHMUS_EDGE_RESULTS_KEY``, ``ISTHMUS_EDGE_OUTBOX_MIB``,
        ``ISTHMUS_EDGE_OUTBOX_DROP`` (``oldest``, or ``priority``) and ``ISTHMUS_EDGE_RESULTS_SECONDS``.

        Raises:
            EnvironmentProblem: one is missing, or cannot be read.
            InvalidDocument: the policy is none, or the device's name cannot be one.
        """
        folder = environment.get("ISTHMUS_EDGE_OUTBOX", "")
        if not folder:
            return None
        said = environment.get("ISTHMUS_EDGE_POLICY", "")
        if not said:
            raise EnvironmentProblem(
                "ISTHMUS_EDGE_POLICY must say what may leave this device, since ISTHMUS_EDGE_OUTBOX keeps results: "
                'for example {"may_leave":"results"}'
            )
        device = environment.get("ISTHMUS_EDGE_DEVICE") or environment.get("AWS_IOT_THING_NAME", "")
        drop = environment.get("ISTHMUS_EDGE_OUTBOX_DROP") or "oldest"
        if drop not in ("oldest", "priority"):
            raise EnvironmentProblem(f"ISTHMUS_EDGE_OUTBOX_DROP must be oldest or priority, not {drop!r}")
        return cls(
            folder=Path(folder),
            device=documents.convert(Name, device, "ISTHMUS_EDGE_DEVICE"),
            policy=documents.decode(DataPolicy, said, "ISTHMUS_EDGE_POLICY"),
            api=environment.get("ISTHMUS_EDGE_RESULTS_API", ""),
            api_key=environment.get("ISTHMUS_EDGE_RESULTS_KEY", ""),
            limit_bytes=_whole(environment, "ISTHMUS_EDGE_OUTBOX_MIB", DEFAULT_LIMIT_MIB) * MIB,
            drop=cast(Literal["oldest", "priority"], drop),
            gather_seconds=_whole(environment, "ISTHMUS_EDGE_RESULTS_SECONDS", DEFAULT_GATHER_SECONDS),
        )


def _whole(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name) or str(default)
    if not (text.isascii() and text.isdecimal() and len(text) < 8 and int(text) > 0):
        raise EnvironmentProblem(f"{name} must be a whole number from 1 to 9999999, not {text[:50]!r}")
    return int(text)
