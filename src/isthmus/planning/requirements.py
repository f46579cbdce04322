"""The ``requirements.txt`` of a job's code, as a rig takes it: each line a version with its digests.

Format: pip's requirements file, in hash-checking mode (https://pip.pypa.io/en/stable/topics/secure-installs).
"""

from __future__ import annotations

import re

from isthmus.errors import InvalidJob
from isthmus.model.units import MIB, format_bytes

FILE = "requirements.txt"
MAX_BYTES = MIB
LINE = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)(\[[^\]]*\])?==(?P<version>[^\s;]+)(\s*;[^#]*?)?"
    r"(\s+--hash=sha256:[0-9a-f]{64})+"
)
HOW = "write it with `uv pip compile --generate-hashes`"


def versions_of(raw: bytes) -> dict[str, set[str]]:
    """Return the versions that a file asks for, by the packages' normal names.

    Raises:
        InvalidJob: it is larger than ``MAX_BYTES``, or a line has no version or no digest.
    """
    if len(raw) > MAX_BYTES:
        raise InvalidJob(f"{FILE} is larger than {format_bytes(MAX_BYTES)}")
    wanted: dict[str, set[str]] = {}
    for line in _lines(raw):
        if (found := LINE.fullmatch(line)) is None:
            raise InvalidJob(
                f"each line of {FILE} needs a version and its digests, as in name==1.0 --hash=sha256:…; one is "
                f"{line[:80]!r}: {HOW}"
            )
        wanted.setdefault(normal(found["name"]), set()).add(found["version"])
    return wanted


def normal(name: str) -> str:
    """Return a package's name as names are compared (PyPA specification "Names and normalization")."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _lines(raw: bytes) -> list[str]:
    """Return the requirements: without comments, each on one line."""
    joined = re.sub(r"\\\r?\n", " ", raw.decode("utf-8", "replace"))
    return [line for text in joined.splitlines() if (line := re.sub(r"(^|\s)#.*$", "", text).strip())]
