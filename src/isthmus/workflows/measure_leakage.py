"""Measure how well raw inputs can be rebuilt from a network's tensors, for ``isthmus plan --leakage``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from isthmus import documents
from isthmus.errors import EnvironmentProblem, InvalidCase, InvalidDocument, InvalidInput
from isthmus.frameworks.onnx import leakage, profile
from isthmus.model.leakage import Leakage, LeakageReport
from isthmus.model.units import format_bytes
from isthmus.planning.slicing.leakage import cuts as cuts_of
from isthmus.workflows.plan_slices import LIBRARIES
from isthmus.workflows.read_samples import from_file

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from isthmus.frameworks.onnx.leakage import Cast


def measure_leakage(
    model: Path,
    samples: Path | NDArray[np.float32],
    cuts: Sequence[tuple[str, ...]] = (),
    *,
    fit: int = 1000,
    seed: int = 0,
    cast: Cast = "",
    dimensions: Mapping[str, int] | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> LeakageReport:
    """Return the figures of each cut; without cuts, of what ``planning.slicing.leakage.cuts`` names.

    ``samples``: numbers, ``[N, ...]``, as the network takes them, or a file of them. See
    ``frameworks.onnx.leakage.measure`` for the rest, and what it raises.

    Raises:
        InvalidInput: ``samples`` cannot be read as an array of numbers.
        EnvironmentProblem: a library of ``isthmus[planner]`` is missing.
    """
    try:
        array = from_file(samples) if isinstance(samples, Path) else samples
        wanted = list(cuts) or list(cuts_of(profile.profile(model, dimensions)))
        if not wanted:
            raise InvalidInput(f"{model} has no tensor that could cross: its operators read raw inputs alone")
        return leakage.measure(
            model, array, wanted, fit=fit, seed=seed, cast=cast, dimensions=dimensions, report=report
        )
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if library not in LIBRARIES:
            raise
        raise EnvironmentProblem(f"measuring needs {library}; install `isthmus[planner]`") from error


def read_report(path: Path) -> LeakageReport:
    """Read figures that were written before.

    Raises:
        InvalidInput: the file cannot be read, is larger than any document, is no such document, or
            contradicts itself.
    """
    try:
        if path.stat().st_size > documents.MAX_DOCUMENT_BYTES:
            raise InvalidDocument(f"{path} is larger than {format_bytes(documents.MAX_DOCUMENT_BYTES)}")
        raw = path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"the leakage {path} cannot be read: {error.strerror}") from error
    report = documents.decode(LeakageReport, raw, f"the leakage {path}")
    for cut in report.cuts:
        best = max(cut.tried.values(), default=None)
        if not cut.tensors or cut.r2 > 1 or not cut.r2 == best == cut.tried.get(cut.decoder):
            raise InvalidDocument(
                f"the leakage {path} cannot be used: of {' and '.join(cut.tensors) or 'a cut without tensors'} "
                f"the figure {cut.r2:g} is not that of its best decoder, at most 1"
            )
    return report


def merged(reports: Sequence[LeakageReport]) -> LeakageReport:
    """Return the figures of all reports as one; of a cut that several measured, the largest.

    Raises:
        InvalidCase: they are of different models.
    """
    first = reports[0]
    if other := next((entry for entry in reports if entry.model_digest != first.model_digest), None):
        raise InvalidCase(
            f"needs the leakage of one model; there are {first.model} ({first.model_digest[:12]}) and "
            f"{other.model} ({other.model_digest[:12]})"
        )
    found: dict[tuple[frozenset[str], str], Leakage] = {}
    for cut in (cut for entry in reports for cut in entry.cuts):
        key = frozenset(cut.tensors), cut.cast
        if key not in found or found[key].r2 < cut.r2:
            found[key] = cut
    return msgspec.structs.replace(
        first,
        cuts=tuple(found.values()),
        fit_samples=min(entry.fit_samples for entry in reports),
        held_out_samples=min(entry.held_out_samples for entry in reports),
    )
