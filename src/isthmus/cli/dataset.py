"""``isthmus dataset push | manifest``."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from isthmus import bootstrap, documents
from isthmus.cli.context import Stack
from isthmus.cli.output import Output
from isthmus.errors import InvalidInput
from isthmus.model.dataset import InPlace
from isthmus.model.units import format_bytes
from isthmus.workflows.in_place import locate
from isthmus.workflows.job_file import read_job
from isthmus.workflows.push_dataset import Prepared, prepare
from isthmus.workflows.start_pipeline import manifest_job_key
from isthmus.workflows.submit_job import Submission, submit


def register(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command."""
    verbs = commands.add_parser("dataset", help="upload a dataset; its arrival trains").add_subparsers(
        title="verbs", metavar="VERB", required=True
    )
    add = verbs.add_parser("push", parents=[common], help="upload a folder and a job, and start the pipeline")
    _inputs(add)
    add.add_argument(
        "--in-place",
        metavar="ROOT[/FOLDER]",
        help="leave the files where they are: the folder is this data root of a rig's rig.toml, or lies in it",
    )
    add.add_argument("--zone", help="where the files lie, if devices of several zones have that data root")
    add.add_argument("--whole", action="store_true", help="send changed files whole, not only what changed")
    add.set_defaults(run=_push)
    write = verbs.add_parser(
        "manifest",
        parents=[common],
        help="write what another tool, such as `aws s3 cp`, would have to upload",
    )
    _inputs(write)
    write.add_argument("--prefix", required=True, help="where the files will lie below datasets/NAME/")
    write.add_argument(
        "--out", type=Path, required=True, help="folder to write; upload it to the bucket's root"
    )
    write.set_defaults(run=_manifest)


def _inputs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="the files; the first folder of a path is its channel")
    parser.add_argument("--name", required=True, help="the dataset's name")
    parser.add_argument("--job", type=Path, required=True, help="the job, as YAML")
    parser.add_argument(
        "--on", choices=("rig", "sagemaker"), help="where it shall run, whatever the job says"
    )
    parser.add_argument("--within", type=int, metavar="SECONDS", help="until when the training shall be over")
    parser.add_argument("--max-cost", type=float, metavar="USD", help="the most that the training may cost")


def _job(options: argparse.Namespace) -> dict[str, Any]:
    """The job as the file has it, with the wishes of the command line in the place of its own."""
    job = read_job(options.job)
    given = {"run_on": options.on, "within_seconds": options.within, "max_cost_usd": options.max_cost}
    wishes = {name: value for name, value in given.items() if value is not None}
    return {**job, "wishes": {**job.get("wishes", {}), **wishes}} if wishes else job


def _push(options: argparse.Namespace, output: Output) -> None:
    stack = Stack(options.stack)
    in_place = _in_place(options, stack)
    given = Submission(
        dataset=options.name,
        folder=options.folder,
        job=_job(options),
        base=options.job.parent,
        in_place=in_place,
        whole=options.whole,
    )
    pushed, policy = submit(
        given,
        stack.records,
        stack.blobs,
        stack.bucket_zone,
        lambda name, number, total: output.progress(f"  {number}/{total}  {name}"),
    )
    sent = f"{pushed.files} files, {pushed.sent_files} sent ({format_bytes(pushed.sent_bytes)})"
    if in_place is not None:
        sent = (
            f"{pushed.files} files stay in {in_place} in {in_place.zone}; {format_bytes(pushed.sent_bytes)} of "
            "code and documents sent"
        )
        if policy.lets_checkpoints_lie_in(stack.bucket_zone):
            sent += f"\nthe policy of {options.name} lets logs and checkpoints go to the bucket"
    output.result(
        pushed,
        f"pushed {options.name}: {sent}\njob {pushed.job_key}\nfollow it with: isthmus job follow {pushed.job_key}",
    )


def _in_place(options: argparse.Namespace, stack: Stack) -> InPlace | None:
    if options.in_place is not None:
        return locate(options.in_place, options.zone, bootstrap.devices(stack.outputs["Table"]).list())
    if options.zone is not None:
        raise InvalidInput(
            "--zone says where files lie that are not uploaded: give --in-place too, or leave it out"
        )
    return None


def _manifest(options: argparse.Namespace, output: Output) -> None:
    with tempfile.TemporaryDirectory() as workdir:
        prepared = _prepare(options, Path(workdir), prefix=options.prefix)
        _write(prepared, options.out)
    key = manifest_job_key(prepared.manifest)
    text = (
        f"wrote {options.out}; upload the data, then this folder, the manifest last: {prepared.manifest_key}"
    )
    output.result({"job_key": key, "manifest_key": prepared.manifest_key}, text)


def _prepare(
    options: argparse.Namespace, workdir: Path, *, prefix: str | None = None, in_place: InPlace | None = None
) -> Prepared:
    job, base = _job(options), options.job.parent
    return prepare(options.name, options.folder, job, base, workdir, prefix=prefix, in_place=in_place)


def _write(prepared: Prepared, out: Path) -> None:
    """Lay out the manifest, the job and the code by their keys; the data stays where it is."""
    data = {file.key for file in prepared.manifest.files}
    home = f"datasets/{prepared.manifest.dataset}/"
    for key, path, _ in prepared.uploads:
        if key.removeprefix(home) in data:
            continue
        target = out / key
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    target = out / prepared.manifest_key
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(documents.encode(prepared.manifest))
