"""From MXNet to ONNX: opset 13, IR version 8, the batch size left open where the network allows it."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx

from isthmus.errors import InvalidModel
from isthmus.frameworks import parity
from isthmus.frameworks.mxnet.saved import SavedModel

OPSET = 13
"""The newest opset that MXNet 1.9.1 has converters for."""
IR_VERSION = 8
"""The intermediate representation of opset 13's time: every onnxruntime in use reads it."""
BATCH = "batch"


def export(model: SavedModel, target: Path) -> None:
    """Write ``model`` to ``target``.

    Raises:
        InvalidModel: MXNet has no converter for one of its operators, or the result cannot run.
    """
    _restore_mapping()
    open_batch = _takes_any_batch(model)
    onnx.save(_convert(model, open_batch=open_batch), str(target))
    # A converter may bake the batch size in where MXNet does not: only running it shows.
    if open_batch and not _runs_with_any_batch(model, target):
        onnx.save(_convert(model, open_batch=False), str(target))


def _takes_any_batch(model: SavedModel) -> bool:
    """Whether MXNet itself can run the network with other batch sizes than the saved one."""
    import mxnet

    if len({entry.shape[:1] for entry in model.inputs}) > 1:
        return False
    try:
        return all(model.output_shapes(batch) for batch in parity.BATCHES)
    except mxnet.MXNetError:
        return False


def _runs_with_any_batch(model: SavedModel, target: Path) -> bool:
    try:
        engine = parity.session(target)
        for batch in parity.BATCHES:
            outputs = engine.run(None, parity.random_arrays(model.inputs, batch))
            if [output.shape for output in outputs] != model.output_shapes(batch):
                return False
    except Exception:  # onnxruntime's errors and MXNet's have no common base; any means "does not run"
        return False
    return True


def _convert(model: SavedModel, *, open_batch: bool) -> onnx.ModelProto:
    import mxnet
    from mxnet.onnx.mx2onnx import _op_translations  # noqa: F401  registers the converters
    from mxnet.onnx.mx2onnx._export_onnx import MXNetGraph

    order = [name for name in model.symbol.list_inputs() if name not in model.params]
    shapes = [next(entry.shape for entry in model.inputs if entry.name == name) for name in order]
    dynamic = [(BATCH, *shape[1:]) for shape in shapes] if open_batch else None
    try:
        graph = MXNetGraph().create_onnx_graph_proto(
            model.symbol,
            model.params,
            shapes,
            [onnx.TensorProto.FLOAT] * len(shapes),
            opset_version=OPSET,
            dynamic=open_batch,
            dynamic_input_shapes=dynamic,
        )
    except (AttributeError, KeyError, ValueError, AssertionError, mxnet.MXNetError) as error:
        # AttributeError is what MXNet's exporter raises for an operator that it does not know.
        raise InvalidModel(f"MXNet cannot export this network to ONNX: {error!r}") from error
    _drop_weights_from_inputs(graph)
    if open_batch:
        _name_output_dimensions(model, graph)
    return onnx.helper.make_model(
        graph,
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="mxnet",
        producer_version=mxnet.__version__,
    )


def _drop_weights_from_inputs(graph: onnx.GraphProto) -> None:
    """MXNet lists every weight as a graph input as well, as IR version 3 asked for.

    A weight that is an input may be replaced by a caller, so onnxruntime can neither fold nor fuse
    it: MobileNet-v2 then takes three times as long.
    """
    weights = {entry.name for entry in graph.initializer}
    inputs = [entry for entry in graph.input if entry.name not in weights]
    del graph.input[:]
    graph.input.extend(inputs)


def _name_output_dimensions(model: SavedModel, graph: onnx.GraphProto) -> None:
    """With an open batch MXNet leaves every dimension of an output open; say which ones are fixed."""
    two, three = model.output_shapes(2), model.output_shapes(3)
    for output, first, second in zip(graph.output, two, three, strict=True):
        for dimension, a, b in zip(output.type.tensor_type.shape.dim, first, second, strict=True):
            if a == b:
                dimension.dim_value = a
            elif (a, b) == (2, 3):
                dimension.dim_param = BATCH


def _restore_mapping() -> None:
    """Give MXNet's exporter ``onnx.mapping``, which onnx 1.19 removed (deprecated since 1.13)."""
    if hasattr(onnx, "mapping"):
        return
    pairs = [(number, np.dtype(onnx.helper.tensor_dtype_to_np_dtype(number))) for number in _numpy_types()]
    mapping: Any = ModuleType("onnx.mapping")
    mapping.TENSOR_TYPE_TO_NP_TYPE = dict(pairs)
    mapping.NP_TYPE_TO_TENSOR_TYPE = {dtype: number for number, dtype in pairs}
    sys.modules["onnx.mapping"] = mapping
    vars(onnx)["mapping"] = mapping


def _numpy_types() -> range:
    """Return FLOAT (1) to COMPLEX128 (15); what follows (bfloat16, float8) MXNet does not know."""
    return range(onnx.TensorProto.FLOAT, onnx.TensorProto.COMPLEX128 + 1)
