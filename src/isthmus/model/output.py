"""What an attempt leaves in the bucket, wherever it ran; ``output.json`` names every file and is written last."""

from __future__ import annotations

from typing import Literal

import msgspec

from isthmus.model.bundle import BundleFile

OUTPUT_FILE = "output.json"
CURVES_FILE = "curves.json"
LOG_FILE = "train.log"
DATA = "data/"
"""Below it lies what the script left in ``SM_OUTPUT_DATA_DIR``: an executed notebook, for example."""


class Output(msgspec.Struct, frozen=True, kw_only=True):
    """The files of an attempt: ``model.onnx`` and ``export.json`` if it has a model, ``metrics.json``, ``curves.json``,
    ``judgement.json`` if its data lie with the rig, ``train.log``, and below ``data/`` what the script left in
    ``SM_OUTPUT_DATA_DIR``."""

    schema: str = "isthmus/output/1"
    files: tuple[BundleFile, ...]


class Curve(msgspec.Struct, frozen=True, kw_only=True):
    """How one metric went: ``values`` at ``seconds`` since the training started, every ``stride``-th of those that were
    printed, and the last."""

    seconds: tuple[float, ...]
    values: tuple[float, ...]
    stride: int = 1


class Curves(msgspec.Struct, frozen=True, kw_only=True):
    """How each metric of a training went, by its name."""

    schema: Literal["isthmus/curves/1"] = "isthmus/curves/1"
    curves: dict[str, Curve] = {}
