"""The edge function's package as ``sam build`` makes it, and a device that has it and a model in service."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np

from benchmarks.handler import SHAPE, event, make_bundle
from benchmarks.layer_size import uv
from isthmus.inference.archive import pack_bundle

ROOT = Path(__file__).resolve().parents[2]
ARCHITECTURES = {"x86_64": "x86_64", "arm64": "aarch64"}
"""Greengrass's names, and the kernel's."""


def build(architecture: str, folder: Path) -> Path:
    """Build the package of the edge function."""
    command = ["make", "--silent", "--makefile", "edge_lambda/Makefile", "build-EdgeInferFunction"]
    environment = {**os.environ, "ARTIFACTS_DIR": str(folder), "EDGE_ARCH": architecture, "UV": uv()}
    subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=sys.stderr)
    return folder


def compressed_bytes(folder: Path, scratch: Path) -> int:
    """Return what a folder weighs as a zip file, which is how both Lambda and Greengrass take it."""
    packed = scratch / f"{folder.name}.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, path.relative_to(folder))
    size = packed.stat().st_size
    packed.unlink()
    return size


def device(scratch: Path) -> tuple[dict[str, str], Path, Path]:
    """Make MobileNet-v2's artifact and a request with a picture; return the function's variables, the request and the
    model's file."""
    bundle, request = scratch / "bundle", scratch / "event.json"
    key = make_bundle(bundle)
    artifact = pack_bundle(bundle, scratch / "bundle.zip").path
    picture = np.random.default_rng(0).integers(0, 256, SHAPE, np.uint8)
    request.write_text(json.dumps(event(picture)))
    variables = {
        "ISTHMUS_MODEL_ARTIFACT": str(artifact),
        "ISTHMUS_EDGE_STORE": str(scratch / "store"),
        "ISTHMUS_PUBLIC_KEY": base64.b64encode(key).decode(),
        "ISTHMUS_EDGE_PORT": "0",
    }
    return variables, request, bundle / "model.onnx"
