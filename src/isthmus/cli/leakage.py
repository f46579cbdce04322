"""``isthmus leakage MODEL --samples FILE``: how well raw inputs can be rebuilt from what may cross."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isthmus import documents
from isthmus.cli import planfiles
from isthmus.cli.output import Output
from isthmus.errors import InvalidInput
from isthmus.model.leakage import LeakageReport
from isthmus.model.policy import DataPolicy
from isthmus.planning.slicing import wording
from isthmus.planning.slicing.leakage import judge, limited
from isthmus.planning.slicing.request import CAST_BYTES
from isthmus.workflows.job_file import read_job
from isthmus.workflows.measure_leakage import measure_leakage
from isthmus.workflows.read_samples import from_dataset

if TYPE_CHECKING:
    from isthmus.frameworks.onnx.leakage import Cast


def register(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command."""
    text = "measure how well raw inputs can be rebuilt from a network's tensors, for `isthmus plan --leakage`"
    parser = commands.add_parser("leakage", parents=[common], help=text, description=text)
    parser.add_argument("model", type=Path, metavar="MODEL", help="an ONNX file")
    parser.add_argument(
        "--samples",
        type=Path,
        required=True,
        metavar="FILE",
        help="at least 1,200 inputs as the model takes them (.npy, .npz); with --job, a dataset's folder or file",
    )
    parser.add_argument(
        "--job", type=Path, metavar="FILE", help="the job that says how a dataset is decoded and prepared"
    )
    parser.add_argument(
        "--cut",
        action="append",
        default=[],
        metavar="TENSOR[,TENSOR…]",
        help="tensors that cross together; default: each that operators hand on, and each cut of their order",
    )
    parser.add_argument(
        "--policy", type=Path, metavar="FILE", help="say what may leave under this data policy"
    )
    parser.add_argument("--cast", choices=tuple(CAST_BYTES), default="", help="what crosses is sent as this")
    parser.add_argument(
        "--dimension",
        action="append",
        default=[],
        metavar="NAME=N",
        help="size of an open dimension of the model",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="which samples fit; default: 0")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write the figures as JSON")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace, output: Output) -> None:
    planfiles.check_writable((options.output,))
    if options.seed < 0:
        raise InvalidInput(f"needs a --seed of at least 0; it is {options.seed}")
    policy = planfiles.read_policy(options.policy)
    dimensions = planfiles.read_dimensions(options.dimension)
    cuts = [_cut(text) for text in options.cut]
    samples = options.samples
    if options.job is not None:
        samples = from_dataset(options.samples, read_job(options.job))
    cast: Cast = options.cast
    found = measure_leakage(
        options.model,
        samples,
        cuts,
        seed=options.seed,
        cast=cast,
        dimensions=dimensions,
        report=lambda line: output.progress(f"  {line}"),
    )
    if options.output:
        planfiles.write(options.output, documents.encode(found))
        output.progress(f"wrote {options.output}")
    output.result(found, text(found, policy))


def _cut(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    if not all(names):
        raise InvalidInput(f"--cut needs the names of tensors, such as relu_1,relu_2; it is {text!r}")
    return names


def text(found: LeakageReport, policy: DataPolicy) -> str:
    """Return the figures for a person; where a policy limits them, with what may leave."""
    head = ["TENSORS", "ELEMENTS", "R2", "DECODER"]
    rows = [
        [
            wording.listed(cut.tensors, most=3, width=40),
            f"{cut.elements:,}",
            f"{cut.r2:.3f}",
            cut.decoder,
            *(["yes" if judge(cut, policy) else "no"] if limited(policy) else []),
        ]
        for cut in found.cuts
    ]
    head += ["MAY LEAVE"] if limited(policy) else []
    return "\n".join(
        [
            f"{found.model}: {len(found.cuts)} cuts, decoders fitted on {found.fit_samples:,} samples and judged on "
            f"{found.held_out_samples:,} others",
            "R2 is the share of the inputs' variance that the best decoder rebuilds: 1 all of it, 0 nothing",
            "",
            *wording.columns([head, *rows], right=frozenset({1, 2})),
        ]
    )
