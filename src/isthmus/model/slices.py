"""How a job's network is trained in slices (docs/slices-that-learn.md)."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

import msgspec

Positive = Annotated[int, msgspec.Meta(ge=1)]
MOST_SLICES = 16


class Slices(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Cut the network that the job's script writes at ``cuts`` (positions of operators), and train the slices.

    ``samples``: of a step, in ``microbatches``; ``steps``: in all, with a checkpoint after ``every`` of them and after
    the last. ``optimizer`` and ``options``: the framework's own. ``seed``: of the samples' order and of dropout.
    ``shape``: ``u`` gives the last slice, where the labels are, to the worker of the first.
    ``gradients``: as they are, or in eight bits with error feedback (docs/adr/0052).
    """

    cuts: Annotated[tuple[Positive, ...], msgspec.Meta(min_length=1, max_length=MOST_SLICES - 1)]
    samples: Positive
    steps: Positive
    every: Positive
    microbatches: Positive = 1
    optimizer: Annotated[str, msgspec.Meta(pattern=r"^[a-z]{1,20}(?!\n)$")] = "sgd"
    options: dict[str, float | bool | str] = {}
    seed: Annotated[int, msgspec.Meta(ge=0, le=2**53)] = 0
    shape: Literal["straight", "u"] = "straight"
    gradients: Literal["whole", "int8"] = "whole"

    def __post_init__(self) -> None:
        if any(after <= before for before, after in pairwise(self.cuts)):
            raise ValueError(f"cuts need to grow, and are {', '.join(map(str, self.cuts))}")
        if self.samples % self.microbatches:
            raise ValueError(
                f"a step needs as many samples in each micro-batch, and has {self.samples} in {self.microbatches}"
            )
        if self.shape == "u" and len(self.cuts) < 2:
            raise ValueError("the shape u needs three slices or more, so two cuts; there is one")

    @property
    def workers(self) -> int:
        """How many processes train them."""
        return len(self.cuts) if self.shape == "u" else len(self.cuts) + 1
