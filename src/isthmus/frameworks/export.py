"""Turn what a script left into ONNX and check it: ``python -m isthmus.frameworks.export``.

A script that wrote ``model.onnx`` itself keeps it. ``export.json`` then says what the model is: opset,
inputs and outputs (-1: a dimension that a request chooses), and how closely it matches its original.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx

from isthmus.errors import InvalidModel, IsthmusError
from isthmus.frameworks import parity
from isthmus.frameworks.launch import failure_file, install
from isthmus.frameworks.port import TrainingFramework, framework

MODEL_FILE = "model.onnx"
REPORT_FILE = "export.json"
SCHEMA = "isthmus/export/1"

DATATYPES = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(int8)": "INT8",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}
"""onnxruntime's names of tensor types to those of the Open Inference Protocol v2."""


def export(chosen: TrainingFramework, model_dir: Path, tolerance: float) -> dict[str, Any]:
    """Make ``model.onnx`` in ``model_dir`` if the script did not, check it, and write ``export.json``.

    Raises:
        InvalidModel: the script left no model, or one that cannot be exported or opened.
        ParityFailed: the exported model computes something else.
    """
    target = model_dir / MODEL_FILE
    (model_dir / REPORT_FILE).unlink(missing_ok=True)
    saved = chosen.is_saved(model_dir)
    if not saved and not target.is_file():
        raise InvalidModel(f"the script left no model in SM_MODEL_DIR: {chosen.how_to_save()}")
    if not target.is_file():
        chosen.export(model_dir, target)
    measured = parity.check(chosen.load(model_dir), target, tolerance) if saved else None
    report = {**describe(target), "parity": vars(measured) if measured else None}
    (model_dir / REPORT_FILE).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return report


def describe(model: Path) -> dict[str, Any]:
    """Return opset, IR version, inputs and outputs of a model, as ``export.json`` has them.

    Raises:
        InvalidModel: onnx or onnxruntime refuses it.
    """
    try:
        # By path: a model of more than 2 GiB does not fit in one protocol buffer.
        onnx.checker.check_model(str(model))
        header = onnx.load(str(model), load_external_data=False)
        engine = parity.session(model)
    except Exception as error:  # both libraries raise types of their own, without a common base
        raise InvalidModel(f"{model.name} cannot be opened: {error}") from error
    opsets = {entry.domain: entry.version for entry in header.opset_import}
    return {
        "schema": SCHEMA,
        "opset": opsets.get("", opsets.get("ai.onnx", 0)),
        "ir_version": header.ir_version,
        "inputs": [_tensor(entry) for entry in engine.get_inputs()],
        "outputs": [_tensor(entry) for entry in engine.get_outputs()],
    }


def _tensor(entry: Any) -> dict[str, Any]:
    if entry.type not in DATATYPES:
        raise InvalidModel(f"{entry.name} is a {entry.type}; served are {', '.join(DATATYPES)}")
    shape = [size if isinstance(size, int) else -1 for size in entry.shape]
    return {"name": entry.name, "datatype": DATATYPES[entry.type], "shape": shape}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="isthmus.frameworks.export", description=__doc__)
    parser.add_argument("--framework", required=True)
    parser.add_argument("--model-dir", type=Path, required=True)
    parser.add_argument("--tolerance", type=float, required=True)
    options = parser.parse_args(arguments)
    chosen = framework(options.framework)
    install(chosen)
    try:
        report = export(chosen, options.model_dir, options.tolerance)
    except IsthmusError as error:
        message = f"{type(error).__name__}: {error}\n"
        sys.stderr.write(message)
        if (failure := failure_file()) is not None:
            Path(failure).write_text(message, encoding="utf-8")
        return 1
    if report["parity"]:
        sys.stdout.write(f"parity={report['parity']['difference']:.3e}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
