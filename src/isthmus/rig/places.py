"""Where an attempt's commands run: in an environment that the rig built, or in a container of an image."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from isthmus.frameworks import launch
from isthmus.model.job import Training
from isthmus.rig import containers, warden
from isthmus.rig.containers import Engine
from isthmus.rig.contract import PASSED_ON, Layout, environment
from isthmus.rig.gpus import Share

if TYPE_CHECKING:
    from isthmus.rig.runner import TrainingRequest

IMAGES_OWN = {"PATH", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES"}
"""Of what a script may see of the agent's environment: what an image has of its own, and what a container hides."""


@dataclass(frozen=True)
class Place:
    """``wrap`` makes a program of this place a command of the machine; ``end`` ends what is left of the run.

    ``model`` is ``SM_MODEL_DIR`` as a program of this place sees it, ``source`` the folder that holds isthmus.
    """

    python: str
    source: str
    model: Path
    variables: dict[str, str]
    end: Callable[[], object]
    wrap: Callable[[Sequence[str]], list[str]] = field(default=list)


def in_environment(
    request: TrainingRequest, layout: Layout, python: Path, source: Path, share: Share
) -> Place:
    """Run in a virtual environment; ``source`` holds isthmus alone."""
    contract = environment(
        layout,
        request.training,
        request.channels,
        name=request.name,
        accelerators=len(share.ids),
        inherited=os.environ,
    )
    variables = contract | share.variables() | _launchers_own(request) | {"PYTHONPATH": str(source)}
    return Place(str(python), str(source), layout.model, variables, lambda: warden.kill_run(request.run_id))


def in_container(request: TrainingRequest, layout: Layout, engine: Engine, image: str, share: Share) -> Place:
    """Run in a container, whose variables name its own folders."""
    inside = environment(
        containers.INSIDE,
        request.training,
        request.channels,
        name=request.name,
        accelerators=len(share.ids),
        inherited={name: os.environ[name] for name in {*PASSED_ON} - IMAGES_OWN if name in os.environ},
    )
    inside |= _launchers_own(request) | {"PYTHONPATH": containers.SOURCE}

    def wrap(program: Sequence[str]) -> list[str]:
        return containers.run_command(
            engine,
            image,
            program,
            run_id=request.run_id,
            layout=layout,
            channels=request.channels,
            reads=request.reads,
            streams=request.training.streams,
            variables=inside,
            gpus=share.ids,
        )

    def end() -> None:
        engine.end(request.run_id)
        warden.kill_run(request.run_id)

    # The program of the engine has its own HOME; the container's is named on its command line.
    client = inside | engine.client() | {warden.RUN_END: json.dumps(engine.ending(request.run_id))}
    return Place(containers.PYTHON, containers.SOURCE, containers.INSIDE.model, client, end, wrap)


def _launchers_own(request: TrainingRequest) -> dict[str, str]:
    return launch.variables(request.training.framework.name, *request.training.launchers)


def image_of(training: Training) -> str:
    """Return the image that a job names, or an empty text."""
    return "" if training.image is msgspec.UNSET else training.image
