"""Held-out samples, and what onnxruntime itself says of them: the truth that the demo compares with.

The pre-processing is written out here by hand, so that a fault in the bundle's own steps shows.
"""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

from demo.summary import Prediction

DIGITS = tuple("0123456789")
FASHION = (
    "t-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)


def held_out(dataset: str, folder: Path, count: int) -> list[dict[str, Any]]:
    """Return samples of the held-out split: ``pixels`` (raw), ``shape`` and the true ``label``."""
    import numpy as np

    if dataset == "digits":
        table = np.loadtxt(folder / "test/digits.csv", delimiter=",")[:count]
        same = {"shape": [1, 64], "image": (8, 8), "datatype": "FP32"}
        return [{**same, "pixels": row[:64].tolist(), "label": DIGITS[int(row[64])]} for row in table]
    images = np.frombuffer(gzip.decompress((folder / "test/images.idx.gz").read_bytes()), "uint8")
    labels = np.frombuffer(gzip.decompress((folder / "test/labels.idx.gz").read_bytes()), "uint8")
    pixels = images[16:].reshape(-1, 28, 28)[:count]
    same = {"shape": [1, 28, 28], "image": (28, 28), "datatype": "UINT8"}
    return [
        {**same, "pixels": p.ravel().tolist(), "label": FASHION[labels[8 + i]]} for i, p in enumerate(pixels)
    ]


def direct(dataset: str, model: Path, samples: list[dict[str, Any]]) -> list[Prediction]:
    """Run the trained model by onnxruntime alone."""
    import numpy as np

    from isthmus.inference.runtime import load_onnxruntime

    session = load_onnxruntime().InferenceSession(str(model), providers=["CPUExecutionProvider"])
    scale = 16 if dataset == "digits" else 255
    labels = DIGITS if dataset == "digits" else FASHION
    found = []
    for sample in samples:
        image = np.asarray(sample["pixels"], "float32").reshape(1, 1, *sample["image"]) / np.float32(scale)
        logits = session.run(None, {session.get_inputs()[0].name: image})[0][0]
        powers = np.exp(logits - logits.max())
        best = int(logits.argmax())
        found.append(Prediction(labels[best], float(powers[best] / powers.sum()), logits.tolist()))
    return found
