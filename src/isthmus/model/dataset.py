"""A dataset version: files with their digests, named by a manifest that is written last."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from isthmus.model.blob import BlobRef, Name, Sha256, SizeBytes

Path = Annotated[
    str, msgspec.Meta(pattern=r"^(?!.*(^|/)\.\.?(/|$))[^/\\\x00-\x1f][^\\\x00-\x1f]*(?!\n)$", max_length=512)
]
"""A relative path with forward slashes; its first folder is the channel (``train``, ``test``)."""


class DatasetFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One file of a dataset.

    ``key`` is where its bytes lie below ``datasets/<name>/``; without it they lie at
    ``blobs/<sha256>``, where ``isthmus dataset push`` puts them.
    """

    path: Path
    sha256: Sha256
    size_bytes: SizeBytes
    key: Path | None = None

    @property
    def channel(self) -> str:
        """The SageMaker input channel: the path's first folder, ``training`` if it has none."""
        head, _, rest = self.path.partition("/")
        return head if rest else "training"


class InPlace(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where the files of a dataset lie that is never uploaded, but read where it is.

    They lie in ``zone``, on every rig of it that has the data root ``root``. That is a name: which folder it is
    on a rig, only the rig's own settings say. ``folder`` leads from there to the dataset; None: it is the root.
    """

    zone: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
    root: Name
    folder: Path | None = None

    def __str__(self) -> str:
        return f"{self.root}/{self.folder}" if self.folder else self.root


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A dataset version and the job that its arrival starts; the commit point of an upload.

    ``in_place``: its files are not in the bucket, but here; not given, it is not written, so that digests stay
    what they were. ``signature`` is reserved for manifests that their uploader signs.
    """

    schema: Literal["isthmus/dataset/1"] = "isthmus/dataset/1"
    dataset: Name
    files: tuple[DatasetFile, ...]
    job: BlobRef
    in_place: InPlace | msgspec.UnsetType = msgspec.UNSET
    signature: str | None = None
