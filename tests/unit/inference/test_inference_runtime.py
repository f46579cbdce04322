"""onnxruntime keeps to itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import onnx
from onnx import TensorProto, helper

RUN = """
import sys
from pathlib import Path
import numpy as np
from isthmus.inference.engine import OnnxEngine
print(OnnxEngine(Path(sys.argv[1])).run({"x": np.ones(1, "float32")})["y"][0])
"""


def test_a_session_writes_nothing_into_the_users_home(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["y"])],
        "negate",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9),
        tmp_path / "m.onnx",
    )
    home = tmp_path / "home"
    home.mkdir()
    kept = {
        name: value for name, value in os.environ.items() if name not in ("ORT_DISABLE_TELEMETRY", "HOME")
    }
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(tmp_path / "m.onnx")],
        env={**kept, "HOME": str(home), "XDG_CACHE_HOME": str(home / ".cache")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "-1.0"
    assert list(home.rglob("*")) == []
