from __future__ import annotations

import base64
import gc
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from bundle_factory import KeySigner, make_bundle, save
from onnx import TensorProto, helper, numpy_helper

from isthmus.errors import InvalidModel
from isthmus.inference.bundle import Bundle
from isthmus.inference.http import HttpRequest
from isthmus.inference.lambda_handler import raise_if_broken
from isthmus.model.processing import Reshape
from isthmus.workflows.prove_model import proxy_event

APP = Path(__file__).parents[3] / "functions/serve_model/app.py"
CONTEXT = SimpleNamespace(
    function_name="serve", memory_limit_in_mb=1769, invoked_function_arn="arn:aws:lambda", aws_request_id="1"
)


def load_app() -> Any:
    spec = importlib.util.spec_from_file_location("serve_model_app", APP)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_opens_the_layers_bundle_at_the_first_request(
    bundle: Bundle, signer: KeySigner, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = load_app()
    assert app.service.cache_info().currsize == 0
    monkeypatch.setenv("ISTHMUS_MODEL_DIR", str(bundle.folder))
    monkeypatch.setenv("ISTHMUS_PUBLIC_KEY", base64.b64encode(signer.public_key()).decode())
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "1769")
    response = app.handler({"httpMethod": "GET", "path": "/v2/models/fashion", "headers": {}}, CONTEXT)
    assert response["statusCode"] == 200
    assert json.loads(response["body"])["versions"] == ["1"]
    assert app.handler({"ping": True}, CONTEXT)["models"]["fashion"]["bundle"] == bundle.sha256


def test_a_broken_bundle_is_a_failed_call_that_quotes_nothing_of_the_request(
    tmp_path: Path, signer: KeySigner, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Lambda counts by version what is raised, and takes an answer of 500 for a good one."""
    bundle = make_bundle(tmp_path / "b", signer, preprocessing=(Reshape((4,)),))
    monkeypatch.setenv("ISTHMUS_MODEL_DIR", str(bundle.folder))
    monkeypatch.setenv("ISTHMUS_PUBLIC_KEY", base64.b64encode(signer.public_key()).decode())
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "1769")
    pixels = {"name": "pixels", "datatype": "UINT8", "shape": [1, 2, 2], "data": [47, 11, 47, 11]}
    body = json.dumps({"inputs": [pixels], "parameters": {"preprocess": True}})
    event = {"httpMethod": "POST", "path": "/v2/models/fashion/infer", "headers": {}, "body": body}
    app = load_app()
    with pytest.raises(InvalidModel) as caught:
        app.handler(event, CONTEXT)
    told = f"{caught.value} {capsys.readouterr()}"
    assert "bring an earlier release back" in told
    assert "47" not in str(caught.value)
    assert "pixels" not in told
    assert app.handler({**event, "body": "{}"}, CONTEXT)["statusCode"] == 400, (
        "the caller's fault is an answer"
    )


def failing_bundle(folder: Path, signer: KeySigner) -> Bundle:
    """A bundle whose model fails on whatever it is asked."""

    def write(path: Path) -> None:
        graph = helper.make_graph(
            [helper.make_node("Reshape", ["x", "five"], ["logits"], name="the_reshape")],
            "failing",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 3])],
            [numpy_helper.from_array(np.array([-1, 5], np.int64), "five")],
        )
        save(graph, path)

    return make_bundle(folder, signer, write=write)


def test_a_failed_call_names_the_operator_and_a_golden_question_gets_the_whole_reason(
    tmp_path: Path, signer: KeySigner, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = failing_bundle(tmp_path / "b", signer)
    monkeypatch.setenv("ISTHMUS_MODEL_DIR", str(bundle.folder))
    monkeypatch.setenv("ISTHMUS_PUBLIC_KEY", base64.b64encode(signer.public_key()).decode())
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "1769")
    x = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [47.11] * 4}
    request = HttpRequest("POST", "/v2/models/fashion/infer", {}, json.dumps({"inputs": [x]}).encode())
    event = proxy_event(request)
    app = load_app()
    asked = {name: value for name, value in event.items() if name != "proof"}
    for unproven in (asked, {**asked, "headers": {"proof": "true"}, "proof": "true"}):
        with pytest.raises(
            InvalidModel, match=r"\w+ in inference\.engine\.run, operator Reshape 'the_reshape'"
        ):
            app.handler(unproven, CONTEXT)
    assert "47.11" not in str(capsys.readouterr().out)
    answered = app.handler(event, CONTEXT)
    assert answered["statusCode"] == 500
    assert "cannot be reshaped to the requested shape" in answered["body"]


@pytest.mark.parametrize("status", [200, 404, 429, 503])
def test_any_other_answer_is_no_fault_of_the_version(status: int) -> None:
    """503: a store of large bodies did not answer."""
    assert raise_if_broken({"statusCode": status}, {}) == {"statusCode": status}


def test_a_snapshot_is_taken_with_the_model_open(
    bundle: Bundle, signer: KeySigner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISTHMUS_MODEL_DIR", str(bundle.folder))
    monkeypatch.setenv("ISTHMUS_PUBLIC_KEY", base64.b64encode(signer.public_key()).decode())
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "1769")
    monkeypatch.setenv("AWS_LAMBDA_INITIALIZATION_TYPE", "snap-start")
    assert load_app().service.cache_info().currsize == 1


def test_the_collector_works_again_once_the_model_is_open(
    bundle: Bundle, signer: KeySigner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISTHMUS_MODEL_DIR", str(bundle.folder / "elsewhere"))
    monkeypatch.setenv("ISTHMUS_PUBLIC_KEY", base64.b64encode(signer.public_key()).decode())
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "1769")
    app = load_app()
    with pytest.raises(InvalidModel):
        app.handler({"httpMethod": "GET", "path": "/v2/models/fashion", "headers": {}}, CONTEXT)
    assert gc.isenabled()


def test_an_answered_request_loads_no_more_than_it_needs(bundle: Bundle) -> None:
    code = f"""
import os, sys
os.environ |= {{"ISTHMUS_MODEL_DIR": {str(bundle.folder)!r}, "ISTHMUS_PUBLIC_KEY": "aGk=",
    "ISTHMUS_BUNDLE_SHA256": {bundle.sha256!r}, "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769"}}
sys.path.insert(0, {str(APP.parent)!r})
import app
event = {{"httpMethod": "GET", "path": "/v2/models/fashion/ready", "headers": {{}}}}
print(app.handler(event, None)["statusCode"])
heavy = ("aws_lambda_powertools", "cryptography", "boto3", "zipfile", "urllib.parse", "dataclasses", "logging")
print([name for name in heavy if name in sys.modules])
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split("\n")[:2] == ["200", "[]"]


def test_importing_the_protocol_loads_nothing_heavy() -> None:
    code = "import sys, isthmus.inference.lambda_handler, isthmus.inference.proof\n"
    code += (
        "print([m for m in ('numpy', 'onnxruntime', 'cryptography', 'boto3', 'onnx') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
