"""What a job's newest attempt left, brought here: the executed notebook, the log, the model."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import msgspec

from isthmus import documents
from isthmus.errors import DigestMismatch, InvalidDocument, MissingFile
from isthmus.model import layout
from isthmus.model.messages import Outcome
from isthmus.model.output import DATA, LOG_FILE, OUTPUT_FILE, Output
from isthmus.ports import BlobStore, Item, Records
from isthmus.sync import run_folder

OF_A_NOTEBOOK = (DATA, LOG_FILE)
"""What who runs a notebook wants to see: what it left, and its log."""


class Fetched(msgspec.Struct, frozen=True, kw_only=True):
    """``files`` lie in ``folder``. ``withheld``: where on ``rig`` the rest lies, which may not leave it."""

    folder: str
    files: tuple[str, ...] = ()
    rig: str = ""
    withheld: str = ""


def fetch_output(
    job_key: str, records: Records, blobs: BlobStore, folder: Path, prefixes: Iterable[str] = ("",)
) -> Fetched:
    """Download what an attempt left whose name begins with one of ``prefixes``; each file is verified.

    Raises:
        MissingFile: no attempt of the job has left anything yet.
        DigestMismatch: a file is not what the attempt's list says.
        InvalidDocument: what the attempt told leads to another's files, or out of ``folder``.
    """
    lease = records.get(layout.job_pk(job_key), layout.LEASE) or {}
    told = lease.get("outcome")
    outcome = documents.convert(Outcome, told, f"the outcome of job {job_key}") if told else None
    if outcome is None or not outcome.output:
        raise MissingFile(
            f"no attempt of job {job_key} has left anything yet: see `isthmus job show {job_key}`"
        )
    _check_own(job_key, lease, outcome.output)
    listed = documents.decode(
        Output,
        blobs.get(f"{outcome.output}{OUTPUT_FILE}", max_bytes=documents.MAX_DOCUMENT_BYTES),
        f"what job {job_key} left",
    )
    wanted = tuple(prefixes)
    files = [file for file in listed.files if file.path.startswith(wanted)]
    targets = {file: folder / _inside(file.path) for file in files}
    run_folder.note(folder, [file.path for file in files])
    for file, target in targets.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        if blobs.download(f"{outcome.output}{file.path}", target) != file.sha256:
            target.unlink()
            raise DigestMismatch(f"{file.path} of job {job_key} has not the bytes that its attempt left")
    return Fetched(
        folder=str(folder),
        files=tuple(file.path for file in files),
        rig=str(lease.get("rig", "")),
        withheld=outcome.withheld,
    )


def _check_own(job_key: str, lease: Item, output: str) -> None:
    """A rig wrote where it left its files, and whoever fetches them may read more of the bucket than a rig."""
    attempt = int(lease.get("fencing", 0))
    own = layout.attempt_output(job_key, attempt)
    if output != own:
        raise InvalidDocument(
            f"attempt {attempt} of job {job_key} leaves its files in {own}, and {lease.get('rig') or 'who ran it'} "
            f"told {output}, which is no place of its own: nothing of it is fetched"
        )


def _inside(name: str) -> PurePosixPath:
    """Return a file's name as a path that stays in its folder: the list is a rig's, and a rig may be anybody's."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise InvalidDocument(f"what the job left has a file called {name!r}, which leads out of its folder")
    return path
