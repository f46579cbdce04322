"""What a model's inputs and answers looked like where it was judged, and how far others are from that: figures, and no
sample.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

LEAST_SHARE = 1e-4
"""For a bin with nothing in it: the index would be infinite."""
LARGE_INDEX = 0.25
"""Siddiqi's limit of a large change."""
CONFIDENCE_BINS = 10
MAX_CLASSES = 31
"""Those that were most frequent have bins of their own; all others share one."""


class Baseline(msgspec.Struct, frozen=True):
    """Of inputs as the model gets them. ``edges`` part the bins (n - 1 of them), ``shares`` (n) are how much of
    all elements lay in each; ``means`` and ``deviations`` are of each channel, or one of all."""

    edges: tuple[float, ...]
    shares: tuple[float, ...]
    means: tuple[float, ...]
    deviations: tuple[float, ...]


class AnswerBaseline(msgspec.Struct, frozen=True):
    """Of a classifier's answers to held-out inputs, ``samples`` of them. ``shares[i]``: how many were ``classes[i]``;
    the last share is all others'. ``confidence``: how many lay in each of ``CONFIDENCE_BINS`` even bins of 0..1; empty
    where the bundle makes no probabilities of scores."""

    samples: int
    classes: tuple[int, ...]
    shares: tuple[float, ...]
    confidence: tuple[float, ...] = ()


def stability_index(shares: Sequence[float], expected: Sequence[float]) -> float:
    """Return the population stability index, ``sum((a - e) * ln(a / e))`` over the bins' shares (Siddiqi, Credit Risk
    Scorecards, 2006, chapter 9: below 0.1 no change, above 0.25 a large one)."""
    found = 0.0
    for share, before in zip(shares, expected, strict=True):
        here, there = max(share, LEAST_SHARE), max(before, LEAST_SHARE)
        found += (here - there) * math.log(here / there)
    return found


def confidence_bin(confidence: float) -> int:
    """Return the bin in which a confidence lies; one beyond 0..1 in the nearest."""
    return min(CONFIDENCE_BINS - 1, int(min(1.0, max(0.0, confidence)) * CONFIDENCE_BINS))


def describe_answers(indexes: Sequence[int], confidences: Sequence[float]) -> AnswerBaseline | None:
    """Return the baseline of a classifier's answers; None without any. ``confidences``: one an answer, or none."""
    if not indexes:
        return None
    counts: dict[int, int] = {}
    for index in indexes:
        counts[index] = counts.get(index, 0) + 1
    classes = sorted(sorted(counts), key=lambda index: -counts[index])[:MAX_CLASSES]
    own = [counts[index] for index in classes]
    bins = [0] * CONFIDENCE_BINS
    for confidence in confidences:
        bins[confidence_bin(confidence)] += 1
    return AnswerBaseline(
        len(indexes),
        tuple(classes),
        _shares([*own, len(indexes) - sum(own)]),
        _shares(bins) if confidences else (),
    )


def _shares(counts: Sequence[int]) -> tuple[float, ...]:
    total = max(1, sum(counts))
    return tuple(float(f"{count / total:.6g}") for count in counts)
