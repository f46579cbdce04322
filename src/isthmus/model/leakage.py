"""How well a network's raw input can be rebuilt from what crosses a cut, as measured."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec


class Leakage(msgspec.Struct, frozen=True, kw_only=True):
    """One cut: the tensors that cross together, and the best decoder of those tried.

    ``r2``: share of the variance of held-out inputs that the decoder explains, summed over the input's
    elements (1: rebuilt exactly; 0: no better than their mean; below 0: worse). ``tried``: each decoder's.
    ``elements``: of the tensors for one sample. ``cast``: what the tensors were turned into before.
    """

    tensors: tuple[str, ...]
    r2: float
    decoder: str
    tried: dict[str, float]
    elements: int
    cast: Literal["", "float16", "int8"] = ""


class LeakageReport(msgspec.Struct, frozen=True, kw_only=True):
    """``model_digest``, ``samples_digest``: SHA-256 (hex) of the model file, and of the samples' bytes as
    float32. Of the samples, ``fit_samples`` fitted the decoders, and ``held_out_samples`` judged them."""

    schema: Literal["isthmus/leakage/1"] = "isthmus/leakage/1"
    model: str
    model_digest: str
    samples_digest: str
    fit_samples: int
    held_out_samples: int
    seed: int
    cuts: tuple[Leakage, ...]

    def of(self, tensors: Iterable[str], cast: str = "") -> Leakage | None:
        """Return the figure of just these tensors together, in any order; None: not measured.

        Without one of the cast tensors, that of the tensors as they were: a cast adds nothing to them.
        """
        wanted = frozenset(tensors)
        found: dict[str, Leakage] = {
            entry.cast: entry for entry in self.cuts if frozenset(entry.tensors) == wanted
        }
        return found.get(cast) or found.get("")
