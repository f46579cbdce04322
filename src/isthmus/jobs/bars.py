"""How a job that is waited for is shown: a bar where tqdm is installed (in Jupyter a widget), else nothing."""

from __future__ import annotations

import importlib.util
import warnings
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from isthmus.frameworks.notebook import PROGRESS

SHOWN_METRICS = 4


@dataclass(frozen=True)
class Look:
    """A job at a moment: where it is, and its newest metrics."""

    step: str
    metrics: dict[str, float] = field(default_factory=dict)


class Silent:
    """Shows nothing."""

    def __enter__(self) -> Silent:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def tell(self, look: Look) -> None:
        """Show how it is now."""

    def close(self) -> None:
        """Leave what is shown as it is."""


class Bar(Silent):
    """Shows a bar: of a notebook, how much of it has run."""

    def __init__(self, label: str) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # tqdm says that there is no widget, and takes text
            from tqdm.auto import tqdm
        self._label = label
        self._bar: Any = tqdm(total=100, desc=label, unit="%", bar_format="{l_bar}{bar}| {elapsed}{postfix}")

    def tell(self, look: Look) -> None:
        percent = round(100 * look.metrics.get(PROGRESS, 0.0))
        self._bar.update(max(0, percent - self._bar.n))
        self._bar.set_description_str(f"{self._label} {look.step}", refresh=False)
        others = {name: f"{value:g}" for name, value in look.metrics.items() if name != PROGRESS}
        self._bar.set_postfix(dict(list(others.items())[:SHOWN_METRICS]))

    def close(self) -> None:
        self._bar.close()


def bar(label: str) -> Silent:
    """Return what shows a job; without a label, or without tqdm, nothing does."""
    return Bar(label) if label and importlib.util.find_spec("tqdm") is not None else Silent()
