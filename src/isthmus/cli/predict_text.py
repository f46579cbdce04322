"""A prediction as a person reads it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from isthmus.client.answer import Answer, Trip

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHOWN_SAMPLES = 10
RANKED = ("class", "score", "label")


def title(model: str, version: str, trip: Trip) -> str:
    """Return who answered, and how soon."""
    tries = f", request {trip.attempts}" if trip.attempts > 1 else ""
    return f"{model} release {version}, from the {trip.place} in {1000 * trip.seconds:.0f} ms{tries}"


def ranks(rows: Sequence[tuple[str, float]]) -> Iterator[str]:
    """Yield names with their scores, aligned."""
    width = max((len(name) for name, _ in rows), default=0)
    for place, (name, score) in enumerate(rows, 1):
        yield f"{place:3}  {name.ljust(width)}  {score:.4f}"


def answer(found: Answer, top: int) -> str:
    """Return an answer: labelled classes where there are some, else the outputs, shortened."""
    lines = [title(found.model, found.version, found)]
    ranked = _ranked(found)
    if ranked is not None:
        names, scores = ranked
        for sample in range(min(len(names), SHOWN_SAMPLES)):
            if len(names) > 1:
                lines.append(f"sample {sample}")
            lines += ranks(
                [(str(n), float(s)) for n, s in zip(names[sample], scores[sample], strict=True)][:top]
            )
        if len(names) > SHOWN_SAMPLES:
            lines.append(f"and {len(names) - SHOWN_SAMPLES} samples more; --json shows all")
        return "\n".join(lines)
    return "\n".join([*lines, *(_line(name, array) for name, array in found.outputs.items())])


def _ranked(found: Answer) -> tuple[NDArray[Any], NDArray[Any]] | None:
    """Return names and scores, each ``[N, k]``, where the bundle's post-processing gave them."""
    if not {"class", "score"} <= set(found.outputs) or found["class"].ndim != 2:
        return None
    if found["class"].shape != found["score"].shape:
        return None
    named = found.outputs.get("label")
    if named is not None and named.shape == found["class"].shape:
        return named, found["score"]
    return found["class"].astype(object), found["score"]


def _line(name: str, array: NDArray[Any]) -> str:
    import numpy as np

    with np.printoptions(threshold=20, edgeitems=5, precision=5, suppress=True, linewidth=100):
        return f"{name} {array.dtype if array.dtype.kind != 'O' else 'text'} {list(array.shape)}: {array}"
