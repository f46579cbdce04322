"""``isthmus model import | list | shadow | limit``."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from isthmus.cli import model_serving
from isthmus.cli.context import Stack
from isthmus.cli.output import Output, table
from isthmus.model import layout
from isthmus.workflows.job_file import read_job
from isthmus.workflows.push_dataset import prepare, push


def register(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command."""
    verbs = commands.add_parser(
        "model", help="ship a model trained elsewhere; list what is in service"
    ).add_subparsers(title="verbs", metavar="VERB", required=True)
    add = verbs.add_parser("import", parents=[common], help="ship an ONNX model through the same steps")
    add.add_argument("onnx", type=Path)
    add.add_argument("--name", required=True, help="the model's name")
    add.add_argument("--job", type=Path, help="YAML with its processing and evaluation, if it has any")
    add.add_argument("--data", type=Path, help="folder of the dataset that the evaluation reads")
    add.set_defaults(run=_import)
    show = verbs.add_parser("list", parents=[common], help="models in service")
    show.set_defaults(run=_list)
    model_serving.register(verbs, common)


def _import(options: argparse.Namespace, output: Output) -> None:
    stack = Stack(options.stack)
    job = read_job(options.job) if options.job else {}
    job = {
        **job,
        "model": options.name,
        "source": {"kind": "import", "artifact": str(options.onnx.resolve())},
    }
    with tempfile.TemporaryDirectory() as workdir:
        prepared = prepare(options.name, options.data, job, Path.cwd(), Path(workdir))
        pushed = push(
            prepared, stack.blobs, lambda name, number, total: output.progress(f"  {number}/{total}  {name}")
        )
    output.result(pushed, f"imported {options.name}\njob {pushed.job_key}")


def _verdict(calls: dict[str, Any] | None) -> str:
    """Return what real calls said of a release while it was brought into service."""
    if calls is None:
        return "not looked at"
    said = f"{calls['errors']} of {calls['requests']} failed"
    return said if calls["verdict"] == "healthy" else f"{said}: too few to say"


def _list(options: argparse.Namespace, output: Output) -> None:
    records = Stack(options.stack).records
    shown = []
    for row in records.query(layout.CHAMPIONS):
        release = records.get(layout.model_pk(row["model"]), layout.release_sk(row["release"])) or {}
        served_by = (release.get("serving") or {}).get("by", "layer")
        names = ("model", "release", "version", "bundle", "since")
        shown.append(
            {**{name: row[name] for name in names}, "served_by": served_by, "calls": row.get("calls")}
        )
    brief = [{**row, "bundle": str(row["bundle"])[:12], "calls": _verdict(row["calls"])} for row in shown]
    text = (
        table(brief, ("model", "release", "version", "bundle", "served_by", "since", "calls"))
        if shown
        else "no model is in service yet"
    )
    output.result(shown, text)
