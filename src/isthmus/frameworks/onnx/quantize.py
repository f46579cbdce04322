"""A model in 8-bit integers, by onnxruntime's own quantiser: static, from samples that show the range of each tensor.

Source: onnxruntime documentation, "Quantize ONNX Models". Pairs of QuantizeLinear and DequantizeLinear, weights per
channel. Weights use 7 of their 8 bits: with all 8, processors with AVX2 or AVX-512 and without VNNI saturate sums
that others carry, and a model would answer differently from one machine to the next.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from isthmus.errors import EnvironmentProblem, InvalidModel
from isthmus.frameworks.onnx.runtime import load

LAYER = Path("/opt/quantization")
"""What only quantising needs, in a layer of the function that packages: on no path of a function that serves."""


def quantize(model: Path, out: Path, batches: Iterable[dict[str, Any]], scratch: Path) -> None:
    """Write the quantised form of ``model`` to ``out``; each batch is named arrays, as a session takes them.

    Raises:
        InvalidModel: onnxruntime's quantiser cannot take it, or finds nothing to quantise.
        EnvironmentProblem: the quantiser is not installed.
    """
    _find_quantiser()
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._batches: Iterator[dict[str, Any]] = iter(batches)

        def get_next(self) -> dict[str, Any] | None:
            return next(self._batches, None)

    prepared = scratch / "prepared.onnx"
    try:
        quant_pre_process(str(model), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(out),
            Reader(),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=True,
        )
    except Exception as error:  # the quantiser's errors have no common base
        if isinstance(error, MemoryError):
            raise
        raise InvalidModel(
            f"onnxruntime's quantiser cannot take the model: {type(error).__name__}"
        ) from error
    if not _has_quantised(out):
        raise InvalidModel("there is nothing in the model that onnxruntime's quantiser knows")


def _find_quantiser() -> None:
    package = load()
    if LAYER.is_dir() and str(LAYER) not in sys.path:
        sys.path.append(str(LAYER))
        # The engine's layer has no quantiser: that part of the package lies here.
        package.__path__.append(str(LAYER / "onnxruntime"))
    try:
        import onnx  # noqa: F401
        import onnxruntime.quantization  # noqa: F401
    except ImportError as error:
        raise EnvironmentProblem(
            f"quantising needs the package {error.name}; install it with: pip install 'isthmus[engine,quantization]'"
        ) from error


def _has_quantised(path: Path) -> bool:
    import onnx

    return any(node.op_type == "QuantizeLinear" for node in onnx.load(str(path)).graph.node)
