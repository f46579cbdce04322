"""A job's documents, asked for while its lease is still being taken: what is read so changes nothing."""

from __future__ import annotations

import contextlib
from functools import partial

from isthmus import documents
from isthmus.errors import IsthmusError
from isthmus.model.messages import Work
from isthmus.ports import BlobStore, Threads


class Prefetch:
    """Fetches a job and its manifest, side by side.

    What fails is left to whoever asks again: he knows whether the attempt is still his, and for how long to try.
    """

    def __init__(self, work: Work, blobs: BlobStore, threads: Threads) -> None:
        self._blobs = blobs
        self._found: dict[str, bytes] = {}
        self._joins = [
            threads.start(f"document-{work.job_key[:8]}", partial(self._try, key))
            for key in (work.job, work.manifest)
        ]

    def get(self, key: str) -> bytes:
        """Return a document that was asked for, or ask for it now.

        Raises:
            what ``BlobStore.get`` raises.
        """
        for join in self._joins:
            join()
        return self._found.get(key) or self._get(key)

    def _get(self, key: str) -> bytes:
        self._found[key] = self._blobs.get(key, max_bytes=documents.MAX_DOCUMENT_BYTES)
        return self._found[key]

    def _try(self, key: str) -> None:
        with contextlib.suppress(IsthmusError):
            self._get(key)
