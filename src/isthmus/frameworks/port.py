"""What a training framework must offer; one subpackage each, and nothing else knows their names."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import isthmus.frameworks
from isthmus.errors import InvalidJob

Arrays = Mapping[str, Any]
"""Input name to numpy array, the batch on the first axis."""


@dataclass(frozen=True)
class Input:
    """A network input: its name and its shape with the batch size that the script saved (often 1)."""

    name: str
    shape: tuple[int, ...]


class Reference(Protocol):
    """A trained model, computed by its own framework: what an export is compared with."""

    @property
    def inputs(self) -> tuple[Input, ...]: ...

    def run(self, arrays: Arrays) -> list[Any]:
        """Return the outputs in the model's order, as numpy arrays."""


class TrainingFramework(Protocol):
    """One framework."""

    module: str
    """What a script imports."""
    launchers: tuple[str, ...]
    """Its own ways to run one script as several processes, by the names that SageMaker's estimators give them."""
    launch_variables: Mapping[str, str]
    """What the processes of a launcher find in their environment."""

    def prepare(self) -> None:
        """Make this interpreter fit for the framework; called just before its first import."""

    def launch(self, launcher: str, python: str, processes: int) -> list[str]:
        """Return the words that go before a program and its arguments to run it as so many processes."""

    def is_saved(self, model_dir: Path) -> bool:
        """Whether the script left a model of this framework there."""

    def load(self, model_dir: Path) -> Reference:
        """Raises InvalidModel."""

    def export(self, model_dir: Path, target: Path) -> None:
        """Write the saved model as ONNX. Raises InvalidModel."""

    def how_to_save(self) -> str:
        """Return the sentence that a script's author needs when no model was found."""


def known() -> tuple[str, ...]:
    """Return the names of the frameworks that have a subpackage here; ``onnx`` only reads models."""
    packages = [info.name for info in pkgutil.iter_modules(isthmus.frameworks.__path__) if info.ispkg]
    return tuple(name for name in packages if hasattr(_package(name), "FRAMEWORK"))


def _package(name: str) -> ModuleType:
    return importlib.import_module(f"isthmus.frameworks.{name}")


def framework(name: str) -> TrainingFramework:
    """Return a framework by its name; the framework itself is not imported yet.

    Raises:
        InvalidJob: no such framework; the message names those that there are.
    """
    if name not in known():
        raise InvalidJob(f"no framework {name!r} can be trained here; there are: {', '.join(known())}")
    chosen: TrainingFramework = _package(name).FRAMEWORK
    return chosen
