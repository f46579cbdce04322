"""``isthmus sagemaker set | show``: what SageMaker may train, which only an administrator may write."""

from __future__ import annotations

import argparse
from typing import Any

import msgspec

from isthmus import documents
from isthmus.cli.context import Stack
from isthmus.cli.output import Output
from isthmus.errors import InvalidInput
from isthmus.model import layout
from isthmus.model.cloud import CloudTraining
from isthmus.workflows.loading import load_cloud_training


def register(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command."""
    verbs = commands.add_parser("sagemaker", help="what SageMaker may train").add_subparsers(
        title="verbs", metavar="VERB", required=True
    )
    put = verbs.add_parser("set", parents=[common], help="set it; what is not given stays as it is")
    put.add_argument("--types", help="comma-separated instance types that may be used, such as ml.m5.xlarge")
    put.add_argument(
        "--image",
        action="append",
        default=[],
        metavar="FRAMEWORK-VERSION=URI",
        help="the training image of a framework, in Amazon ECR; an empty URI takes it away",
    )
    put.add_argument("--spot", choices=("yes", "no"), help="whether spot capacity is tried first")
    put.add_argument("--volume-gb", type=int, help="of each instance's disk")
    put.add_argument("--experiment", help="an experiment of SageMaker's to which each training is added")
    put.set_defaults(run=_set)
    show = verbs.add_parser("show", parents=[common], help="show it")
    show.set_defaults(run=_show)


def _set(options: argparse.Namespace, output: Output) -> None:
    records = Stack(options.stack).records
    known = load_cloud_training(records) or CloudTraining()
    wanted: dict[str, Any] = {**msgspec.to_builtins(known), "images": _images(known.images, options.image)}
    if options.types is not None:
        wanted["instance_types"] = [kind.strip() for kind in options.types.split(",") if kind.strip()]
    if options.spot is not None:
        wanted["spot"] = options.spot == "yes"
    if options.volume_gb is not None:
        wanted["volume_gb"] = options.volume_gb
    if options.experiment is not None:
        wanted["experiment"] = options.experiment
    settings = documents.convert(CloudTraining, wanted, "the settings of SageMaker")
    _check_listed(settings)
    item = {"pk": layout.SETTINGS, "sk": layout.SAGEMAKER, "settings": msgspec.to_builtins(settings)}
    records.put(item)
    output.result(settings, _text(settings))


def _check_listed(settings: CloudTraining) -> None:
    """Raises InvalidInput for an instance type that no price is known of."""
    from isthmus.planning.cloud_devices import training_devices

    training_devices(settings, "aws")


def _images(known: dict[str, str], given: list[str]) -> dict[str, str]:
    images = dict(known)
    for text in given:
        name, equals, uri = text.partition("=")
        framework, dash, version = name.partition("-")
        if not (equals and framework and dash and version):
            raise InvalidInput(f"--image needs FRAMEWORK-VERSION=URI, such as mxnet-1.9.1=…; it is {text!r}")
        if uri:
            images[name] = uri
        else:
            images.pop(name, None)
    return images


def _show(options: argparse.Namespace, output: Output) -> None:
    settings = load_cloud_training(Stack(options.stack).records)
    if settings is None:
        output.result(
            None, "SageMaker trains nothing: an administrator has not set it up (isthmus sagemaker set)"
        )
        return
    output.result(settings, _text(settings))


def _text(settings: CloudTraining) -> str:
    types = ", ".join(settings.instance_types) or "no instance type"
    images = [f"  {name}: {uri}" for name, uri in sorted(settings.images.items())]
    first = "spot first" if settings.spot else "on demand alone"
    lines = [f"SageMaker may train on {types}, {first}, with {settings.volume_gb} GB of disk"]
    if settings.experiment:
        lines.append(f"in the experiment {settings.experiment}")
    return "\n".join(
        [*lines, *(images or ["  no training image yet: jobs with an image of their own alone"])]
    )
