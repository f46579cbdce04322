"""``Signer`` with a P-256 key in memory."""

from __future__ import annotations

from isthmus.adapters.own_key import OwnKeySigner


class MemorySigner(OwnKeySigner):
    """In the place of KMS: the signatures are real, and the key lives as long as the process."""
