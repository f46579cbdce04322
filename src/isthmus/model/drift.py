"""What a model's inputs looked like where it was judged: figures, and no sample."""

from __future__ import annotations

import msgspec


class Baseline(msgspec.Struct, frozen=True):
    """Of inputs as the model gets them. ``edges`` part the bins (n - 1 of them), ``shares`` (n) are how much of
    all elements lay in each; ``means`` and ``deviations`` are of each channel, or one of all."""

    edges: tuple[float, ...]
    shares: tuple[float, ...]
    means: tuple[float, ...]
    deviations: tuple[float, ...]
