"""Results that came too late: another attempt had the lease when they could be delivered.

They are never applied. Each waits in its rig's folder, and in the table under ``RIG#<rig>`` where everybody
sees it, until a person claims or discards it. What had reached the bucket before the attempt was given up
has an item there alone (``workflows.plan_training``), which names its prefix.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec

from isthmus import documents
from isthmus.errors import EnvironmentProblem, InvalidDocument, IsthmusError, Refused, Unavailable
from isthmus.model import dataset, layout
from isthmus.model.output import OUTPUT_FILE, Output
from isthmus.ports import BlobStore, Records
from isthmus.rig import output
from isthmus.rig.services import Report
from isthmus.rig.spool import Orphan, Spool


def tell(orphan: Orphan, spool: Spool, records: Records) -> None:
    """Write an orphan into the table; may be repeated.

    Raises:
        Unavailable, PermissionMissing: of the table.
    """
    told = msgspec.structs.replace(orphan, told=True)
    key = {"pk": layout.rig_pk(orphan.rig), "sk": layout.orphan_sk(orphan.job_key, orphan.fencing)}
    records.put({**msgspec.to_builtins(told), **key})
    spool.keep(told)


def tell_all(spool: Spool, records: Records, report: Report) -> None:
    """Write into the table what a network that was away kept from it.

    Raises:
        Unavailable: the table did not answer.
    """
    for orphan in spool.orphans():
        if orphan.told:
            continue
        try:
            tell(orphan, spool, records)
        except Unavailable:
            raise
        except IsthmusError as error:
            # An older stack's rigs have no place in the table, and a policy may have changed; the files are here all
            # the same, and an agent must start.
            about = {"job_key": orphan.job_key, "fencing": orphan.fencing}
            report("orphan not told", error=str(error), **about)


def of_rig(rig: str, records: Records) -> list[Orphan]:
    """Return what waits for a person, as the table knows it; the jobs in order of their keys.

    Every rig may write such items, so none is believed about another rig, nor about a path of this machine.
    """
    found = []
    for item in records.query(layout.rig_pk(rig), prefix=layout.ORPHAN):
        try:
            orphan = documents.convert(Orphan, item, item["sk"])
        except InvalidDocument:
            # An agent of a newer version wrote it.
            continue
        if orphan.rig == rig and item["sk"] == layout.orphan_sk(orphan.job_key, orphan.fencing):
            found.append(msgspec.structs.replace(orphan, path=""))
    return found


def known(rig: str, folder: Path, records: Records) -> list[Orphan]:
    """Return a rig's orphans, with those that only this machine knows yet if it is that rig."""
    found = {(orphan.job_key, orphan.fencing): orphan for orphan in of_rig(rig, records)}
    here = Spool(folder).orphans() if Spool.is_in(folder) else []
    found |= {(orphan.job_key, orphan.fencing): orphan for orphan in here}
    return list(found.values())


def find(job_key: str, rig: str, spool: Spool, records: Records) -> Orphan:
    """Return the newest orphan of a job that is here, or in the bucket; its key's beginning is enough.

    Raises:
        Refused: there is none, or of several jobs; the message says which there are.
    """
    here = spool.orphans()
    there = [orphan for orphan in of_rig(rig, records) if orphan.output]
    fitting = [orphan for orphan in here + there if orphan.job_key.startswith(job_key)]
    jobs = {orphan.job_key for orphan in fitting or here + there}
    if not fitting:
        raise Refused(
            f"there is no orphan of job {job_key} here; there are: {', '.join(sorted(jobs)) or 'none'}"
        )
    if len(jobs) > 1:
        raise Refused(f"{job_key} fits several jobs; say which: {', '.join(sorted(jobs))}")
    return max(fitting, key=lambda orphan: orphan.fencing)


def claim(orphan: Orphan, folder: Path, spool: Spool, records: Records, blobs: BlobStore) -> list[str]:
    """Copy an orphan's files into ``folder`` and forget the orphan; return their names.

    Raises:
        Refused: the folder has something in it, or what is listed in the bucket is not the attempt's own.
        MissingFile, DigestMismatch: the bucket does not have what the attempt left there.
    """
    if folder.exists() and any(folder.iterdir()):
        raise Refused(f"{folder} is not empty; name another folder for the files of job {orphan.job_key}")
    folder.mkdir(parents=True, exist_ok=True)
    names = _from_bucket(orphan, folder, blobs) if orphan.output else _from_disk(orphan, folder, spool)
    discard(orphan, spool, records)
    return names


def discard(orphan: Orphan, spool: Spool, records: Records) -> None:
    """Forget an orphan and remove its files from this rig; what is in the bucket stays with its job."""
    records.delete(layout.rig_pk(orphan.rig), layout.orphan_sk(orphan.job_key, orphan.fencing))
    if orphan.path:
        shutil.rmtree(spool.files_of(orphan), ignore_errors=True)
    spool.forget(orphan)


def _from_disk(orphan: Orphan, folder: Path, spool: Spool) -> list[str]:
    there = spool.files_of(orphan)
    found = dict(output.files(there))
    if not found:
        raise EnvironmentProblem(f"{there} is gone, or another rig's; claim it on {orphan.rig}")
    for name, path in found.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / name)
    return list(found)


def _from_bucket(orphan: Orphan, folder: Path, blobs: BlobStore) -> list[str]:
    key = f"{orphan.output}{OUTPUT_FILE}"
    if orphan.output != layout.attempt_output(orphan.job_key, orphan.fencing):
        raise Refused(
            f"{orphan.output} is not where attempt {orphan.fencing} of job {orphan.job_key} left files"
        )
    listed = documents.decode(Output, blobs.get(key, max_bytes=documents.MAX_DOCUMENT_BYTES), key)
    for file in listed.files:
        _check_path(file.path, key)
    for file in listed.files:
        found = blobs.download(f"{orphan.output}{file.path}", folder / file.path)
        if found != file.sha256:
            raise Refused(f"{file.path} of job {orphan.job_key} has the SHA-256 {found}, not {file.sha256}")
    return [file.path for file in listed.files]


def _check_path(path: str, where: str) -> None:
    """A rig wrote the list: a path that leads out of the folder would write over a person's own files."""
    try:
        msgspec.convert(path, type=dataset.Path)
    except msgspec.ValidationError as error:
        raise Refused(
            f"{where} lists {path!r}, which is no path below a folder; nothing is copied"
        ) from error
