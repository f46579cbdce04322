"""Bring a model's artifact to a device that no Greengrass brings it to, and keep it for when the device is offline."""

from __future__ import annotations

from pathlib import Path

import msgspec

from isthmus.durable import sync_file, write_durably
from isthmus.errors import UnknownModel
from isthmus.model import layout
from isthmus.ports import BlobStore, Records

ARTIFACT = "model.zip"
FETCHED_FILE = "fetched.json"


class Fetched(msgspec.Struct, frozen=True):
    """Which bundle lies in a folder as ``model.zip``."""

    model: str
    release: int
    bundle: str


def fetch_model(model: str, folder: Path, *, records: Records, blobs: BlobStore) -> Fetched:
    """Put the bundle of the release in service into ``folder`` as ``model.zip``, unless it lies there.

    It is not trusted for that: who serves it verifies its signature first (``edge.model_store``).

    Raises:
        UnknownModel: no release of it is in service.
        MissingFile, Unavailable: the bucket has it no more, or did not answer.
    """
    champion = records.get(layout.CHAMPIONS, model)
    if champion is None:
        raise UnknownModel(f"no release of {model!r} is in service; `isthmus model list` shows which are")
    wanted = Fetched(model, int(champion["release"]), champion["bundle"])
    if last_fetched(folder) == wanted:
        return wanted
    folder.mkdir(parents=True, exist_ok=True)
    key = layout.bundle_folder(model, wanted.bundle) + "bundle.zip"
    # It appears whole or not at all. Ended before it is named, it is fetched again; the older name does no harm, since
    # who serves the artifact goes by what is in it.
    blobs.download(key, folder / ARTIFACT)
    # A loss of power must not leave the note of an artifact that is not there.
    sync_file(folder / ARTIFACT)
    write_durably(folder / FETCHED_FILE, msgspec.json.encode(wanted))
    return wanted


def last_fetched(folder: Path) -> Fetched | None:
    """Return which bundle lies in the folder; None: none, or one that did not arrive whole."""
    try:
        return msgspec.json.decode((folder / FETCHED_FILE).read_bytes(), type=Fetched)
    except (OSError, msgspec.DecodeError):
        return None
