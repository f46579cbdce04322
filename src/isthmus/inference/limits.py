"""AWS's limit on what a function may weigh, checked before anything is uploaded."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import msgspec

from isthmus.errors import InvalidInput, LimitExceeded
from isthmus.model.units import MIB

UNZIPPED_LIMIT_BYTES = 262_144_000
"""Function and layers together, unzipped: 250 MiB (Lambda quotas, "Deployment package size")."""


def check_unzipped(parts: Mapping[str, int]) -> int:
    """Return the sum of the parts (name to unzipped bytes).

    Raises:
        LimitExceeded: over the limit; states the sum, the limit and the three largest parts.
    """
    total = sum(parts.values())
    if total > UNZIPPED_LIMIT_BYTES:
        largest = sorted(parts.items(), key=lambda part: -part[1])[:3]
        listed = ", ".join(f"{name} {size:,}" for name, size in largest)
        raise LimitExceeded(
            f"function and layers are {total:,} bytes unzipped; AWS Lambda allows {UNZIPPED_LIMIT_BYTES:,}. "
            f"The largest parts: {listed}"
        )
    return total


BASE_MEMORY_MB = 512
MEMORY_PER_WEIGHT = 2
"""onnxruntime held 1.3 times a model of 320 MiB while it loaded it; the rest is for a request."""
MAX_MEMORY_MB = 10_240
SPARE_DISK_MB = 256


class Serving(msgspec.Struct, frozen=True):
    """How a function gets its bundle: in a ``layer``, or as ``weights`` from the bucket; ``why`` says so to
    a person. ``memory_mb`` and ``disk_mb`` are what a function with weights needs at least."""

    by: str
    why: str
    memory_mb: int = 0
    disk_mb: int = 0


def choose_serving(installed: Mapping[str, int], bundle_bytes: int) -> Serving:
    """Choose how a bundle of that size is served beside what is installed (name to unzipped bytes).

    Raises:
        LimitExceeded: in no way; states what was needed, and why the other ways are none.
    """
    base = check_unzipped(installed)
    total = base + bundle_bytes
    if total <= UNZIPPED_LIMIT_BYTES:
        return Serving("layer", f"function and layers are {total:,} of {UNZIPPED_LIMIT_BYTES:,} bytes")
    size_mb = -(-bundle_bytes // MIB)
    memory = BASE_MEMORY_MB + MEMORY_PER_WEIGHT * size_mb
    if memory > MAX_MEMORY_MB:
        raise LimitExceeded(
            f"a bundle of {bundle_bytes:,} bytes needs about {memory:,} MB of memory; a Lambda function has at most "
            f"{MAX_MEMORY_MB:,}, in a container image and behind SageMaker Serverless (6,144) no more: quantise it, "
            "or serve it from an endpoint of your own"
        )
    why = (
        f"function and layers would be {total:,} bytes unzipped, and Lambda allows {UNZIPPED_LIMIT_BYTES:,}: "
        "the function fetches the bundle from the bucket when it starts"
    )
    return Serving("weights", why, memory, size_mb + SPARE_DISK_MB)


def unzipped_bytes(path: Path) -> int:
    """Return what a zip archive, or a folder, weighs unzipped.

    Raises:
        InvalidInput: neither a folder nor a zip archive.
    """
    if path.is_dir():
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    try:
        with zipfile.ZipFile(path) as archive:
            return sum(entry.file_size for entry in archive.infolist())
    except (OSError, zipfile.BadZipFile) as error:
        raise InvalidInput(f"{path.name} is neither a folder nor a zip archive: {error}") from error
