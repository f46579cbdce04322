"""Plans written by hand, for slicing small networks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from isthmus import documents
from isthmus.inference.files import sha256_file
from isthmus.model.slicing import Prediction, Replica, Slice, SlicePlan, Transfer
from isthmus.workflows.slice_model import Order

Ranges = Sequence[tuple[int, int]]


def plan_of(model: Path, *slices: Ranges, transfers: Sequence[Transfer] = (), **changes: Any) -> SlicePlan:
    """A plan of a model with these ranges of operators in each slice; slice k on device ``d<k>``."""
    values: dict[str, Any] = {
        "network": model.stem,
        "network_digest": sha256_file(model),
        "objective": "latency",
        "unit": "s",
        "value": 0.5,
        "bound": 0.5,
        "gap": 0.0,
        "exact": True,
        "method": "hand",
        "slices": tuple(
            Slice(ranges=tuple(ranges), replicas=(Replica(device=f"d{k}"),), compute_seconds=0.25)
            for k, ranges in enumerate(slices)
        ),
        "transfers": tuple(transfers),
        "reasons": (),
        "prediction": Prediction(latency_seconds=0.5, samples_per_second=2.0),
    }
    return SlicePlan(**(values | changes))


def order_of(model: Path, plan: SlicePlan, **changes: Any) -> Order:
    """Slice it as planned."""
    return Order(model, documents.encode(plan), **changes)


def changed(value: Any, **changes: Any) -> Any:
    """A document with other fields."""
    return msgspec.structs.replace(value, **changes)
