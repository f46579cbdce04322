"""``isthmus dataset push | manifest``."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from isthmus import documents
from isthmus.cli.context import Stack
from isthmus.cli.jobfile import read_job
from isthmus.cli.output import Output
from isthmus.model.units import format_bytes
from isthmus.workflows.push_dataset import Prepared, prepare, push
from isthmus.workflows.start_pipeline import manifest_job_key


def register(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command."""
    verbs = commands.add_parser("dataset", help="upload a dataset; its arrival trains").add_subparsers(
        title="verbs", metavar="VERB", required=True
    )
    add = verbs.add_parser("push", parents=[common], help="upload a folder and a job, and start the pipeline")
    _inputs(add)
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


def _push(options: argparse.Namespace, output: Output) -> None:
    stack = Stack(options.stack)
    with tempfile.TemporaryDirectory() as workdir:
        prepared = _prepare(options, Path(workdir))
        pushed = push(
            prepared,
            stack.blobs,
            lambda name, number, total: output.progress(f"  {number}/{total}  {name}"),
            whole=options.whole,
        )
    output.result(
        pushed,
        f"pushed {options.name}: {pushed.files} files, {pushed.sent_files} sent ({format_bytes(pushed.sent_bytes)})\n"
        f"job {pushed.job_key}\nfollow it with: isthmus job follow {pushed.job_key}",
    )


def _manifest(options: argparse.Namespace, output: Output) -> None:
    with tempfile.TemporaryDirectory() as workdir:
        prepared = _prepare(options, Path(workdir), prefix=options.prefix)
        _write(prepared, options.out)
    key = manifest_job_key(prepared.manifest)
    text = (
        f"wrote {options.out}; upload the data, then this folder, the manifest last: {prepared.manifest_key}"
    )
    output.result({"job_key": key, "manifest_key": prepared.manifest_key}, text)


def _prepare(options: argparse.Namespace, workdir: Path, *, prefix: str | None = None) -> Prepared:
    job = read_job(options.job)
    return prepare(options.name, options.folder, job, options.job.parent, workdir, prefix=prefix)


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
