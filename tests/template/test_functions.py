"""Every function folder is a function of the template and the reverse; handlers import little."""

from __future__ import annotations

import ast
import json
import subprocess
import sys

import pytest
from cloudformation import ROOT, Template, folder, functions

HANDLERS = sorted(path.parent for path in (ROOT / "functions").glob("*/app.py"))
HEAVY = (
    "onnxruntime",
    "numpy",
    "cryptography",
    "boto3",
    "aws_xray_sdk",
    "botocore.session",
    "yaml",
    "onnx",
    "mxnet",
    "torch",
)
MAX_LINES = 46

IMPORT = """
import json, sys
sys.path.insert(0, sys.argv[1])
import app
print(json.dumps(sorted(sys.modules)))
"""


def imported(where: str) -> set[str]:
    """Return the modules that importing a handler loads, in an interpreter of its own."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORT, str(ROOT / where)],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "POWERTOOLS_SERVICE_NAME": "test"},
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


def test_every_folder_is_a_function_and_every_function_has_a_folder(template: Template) -> None:
    used = {folder(name, properties) for name, properties in functions(template).items()}
    there = {f"functions/{path.name}" for path in HANDLERS} | {"edge_lambda"}
    assert used == there
    for where in sorted(used):
        assert (ROOT / where / "app.py").is_file(), where


@pytest.mark.parametrize("path", HANDLERS, ids=lambda path: path.name)
def test_a_handler_imports_without_its_environment_and_nothing_heavy(path: object) -> None:
    loaded = imported(f"functions/{path.name}")
    assert not loaded & set(HEAVY), f"loaded at import: {sorted(loaded & set(HEAVY))}"


def test_the_edge_function_imports_nothing_heavy_and_serves_nothing() -> None:
    loaded = imported("edge_lambda")
    assert not loaded & (set(HEAVY) | {"aws_lambda_powertools"})


@pytest.mark.parametrize("path", HANDLERS, ids=lambda path: path.name)
def test_a_handler_is_thin_and_runs_the_workflow_of_its_name(path: object) -> None:
    name = str(path.name)
    source = (ROOT / "functions" / name / "app.py").read_text()
    assert len(source.splitlines()) <= MAX_LINES
    tree = ast.parse(source)
    assert any(isinstance(node, ast.FunctionDef) and node.name == "handler" for node in tree.body)
    if name == "serve_model":
        return
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    # An attempt's end is the other half of train_on_rig.
    workflow = "train_on_rig" if name == "finish_attempt" else name
    assert f"isthmus.workflows.{workflow}" in modules
