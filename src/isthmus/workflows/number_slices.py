"""Numbers of slices that are published: the same bundles keep theirs, and all others get new ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from isthmus import documents
from isthmus.inference.bundle import seal_bundle
from isthmus.ports import Signer
from isthmus.workflows.seal_slices import DIGEST_SHOWN, Sealed

UNPUBLISHED_RELEASE = 1
"""In the manifest of a slice that no stack has numbered."""


@dataclass(frozen=True)
class Reservation:
    """``releases``: each slice's number, by name; ``created_at``: of the first slicing of this model with this plan
    (``job_key``) that made these bundles (``contents``), so that they are the same bytes each time. ``fencing``:
    rises with each slicing of ``name``."""

    name: str
    job_key: str
    contents: str
    releases: Mapping[str, int]
    created_at: str
    fencing: int


def contents_of(sealed: Sequence[Sealed]) -> str:
    """Return the digest (SHA-256, hex) of all that is in the bundles but their numbers and when they were made.

    What the model and the plan do not tell is in it: a bundle's processing, sizes of dimensions, and what another
    version of onnxruntime makes of the same operators.
    """
    bare = [
        msgspec.structs.replace(entry.manifest, release=UNPUBLISHED_RELEASE, created_at="")
        for entry in sealed
    ]
    return documents.sha256(b"".join(documents.encode(manifest) for manifest in bare))


def number_slices(
    sealed: Sequence[Sealed], folders: Sequence[Path], reserved: Reservation, signer: Signer
) -> tuple[Sealed, ...]:
    """Seal the bundles in ``folders`` anew with the numbers, and the time, that are reserved for them.

    Raises:
        SignatureInvalid: the signer's signature does not fit its own public key.
    """
    found = []
    for entry, folder in zip(sealed, folders, strict=True):
        name = entry.manifest.model
        manifest = msgspec.structs.replace(
            entry.manifest, release=reserved.releases[name], created_at=reserved.created_at
        )
        bundle = seal_bundle(folder, manifest, signer)
        found.append(Sealed(bundle.manifest, bundle.sha256, f"{name}-{bundle.sha256[:DIGEST_SHOWN]}"))
    return tuple(found)
