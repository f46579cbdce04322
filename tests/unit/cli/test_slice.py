"""``isthmus slice`` from files to files: slices, explanations, frontiers, and one sentence for what is wrong."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parents[1] / "frameworks"))

from profile_networks import residual

from isthmus import bootstrap, documents
from isthmus.adapters.local.blobs import DirectoryBlobStore
from isthmus.adapters.local.events import MemoryExecutions
from isthmus.adapters.local.records import MemoryRecords
from isthmus.adapters.local.signer import MemorySigner
from isthmus.cli.main import main
from isthmus.inference.engine import OnnxEngine
from isthmus.inference.files import sha256_file
from isthmus.model.leakage import Leakage, LeakageReport
from isthmus.model.sliced import SlicedModel
from isthmus.workflows.sliced_folder import verify_sliced

RATES = {"*": {"flops_per_second": 1e9, "bytes_per_second": 1e9, "overhead_seconds": 1e-6}}


def device(name: str, other: str, zone: str, times: float) -> dict[str, Any]:
    rates = {"*": {**RATES["*"], "flops_per_second": 1e9 * times, "bytes_per_second": 1e9 * times}}
    return {
        "schema": "isthmus/device/1", "id": name, "kind": "edge", "zone": zone, "arch": "x86_64", "cores": 1,
        "memory_bytes": 1 << 30, "disk_free_bytes": 1 << 30, "usage": ["inference"], "rates": rates,
        "links": [{"to": other, "bytes_per_second": 1e8, "latency_seconds": 1e-5}],
    }  # fmt: skip


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, two devices, and a plan for them."""
    folder = tmp_path_factory.mktemp("slice")
    residual(folder / "net.onnx")
    both = [device("edge", "cloud", "onprem-milan", 1), device("cloud", "edge", "aws:eu-west-1", 50)]
    (folder / "devices.yaml").write_text(yaml.safe_dump(both))
    (folder / "policy.json").write_text('{"zones": ["onprem-*"], "may_leave": "activations"}')
    with contextlib.chdir(folder):
        command = [
            "plan",
            "net.onnx",
            "--devices",
            "devices.yaml",
            "--policy",
            "policy.json",
            "-o",
            "plan.json",
        ]
        assert main(command) == 0
    return folder


@pytest.fixture
def files(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder."""
    monkeypatch.chdir(prepared)
    return prepared


def test_a_model_is_cut_as_planned_and_explained(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(files / "images.npy", np.random.default_rng(0).standard_normal((6, 3, 16, 16)))
    capsys.readouterr()
    command = [
        "slice",
        "net.onnx",
        "--plan",
        "plan.json",
        "--samples",
        "images.npy",
        "--devices",
        "devices.yaml",
    ]
    assert main([*command, "-o", "cut"]) == 0
    printed = capsys.readouterr()
    assert "comparing with the whole on 6 samples (images.npy) …" in printed.err
    assert "wrote cut/sliced.json" in printed.err
    document = documents.decode(SlicedModel, (files / "cut/sliced.json").read_bytes(), "it")
    assert [(entry.device, entry.zone) for entry in document.slices] == [
        ("edge", "onprem-milan"),
        ("cloud", "aws:eu-west-1"),
    ]
    assert document.model_sha256 == sha256_file(files / "net.onnx")
    for said in (
        "net in 2 slices, for any batch",
        "net-slice-1",
        "who asks",
        "against the whole on 6 samples, images.npy",
        "at most 2e-06 of its range is allowed",
        "why here: planned for latency",
        "splitting pays",
    ):
        assert said in printed.out, said
    for what in ("cut", "cut/sliced.json"):
        assert main(["slice", "explain", what]) == 0
        assert capsys.readouterr().out == printed.out
    assert main(["slice", "explain", "plan.json"]) == 0
    assert "nothing is cut yet" in capsys.readouterr().out


def test_json_is_the_document(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert (
        main(["slice", "net.onnx", "--plan", "plan.json", "--name", "Shop cam", "--cast", "int8", "--json"])
        == 0
    )
    printed = capsys.readouterr()
    assert printed.err == ""
    document = msgspec.convert(json.loads(printed.out), SlicedModel)
    assert [entry.name for entry in document.slices] == ["shop-cam-slice-0", "shop-cam-slice-1"]
    assert document.proof.cast == "int8"
    assert (files / "shop-cam-slices" / "sliced.json").is_file()
    engine = OnnxEngine(files / "shop-cam-slices" / document.slices[0].folder / "model.onnx")
    assert engine.run({"image": np.zeros((2, 3, 16, 16), "float32")})
    assert main(["slice", "explain", "shop-cam-slices", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(printed.out)
    assert main(["slice", "schema"]) == 0
    assert json.loads(capsys.readouterr().out)["$ref"].endswith("SlicedModel")


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A stack in memory; what of it a command reaches, by name."""
    held: dict[str, Any] = {
        "outputs": {"Bucket": "b", "Table": "t", "SigningKey": "k", "DeployCloudMachine": "m"},
        "blobs": DirectoryBlobStore(tmp_path / "bucket"),
        "records": MemoryRecords(),
        "signer": MemorySigner(),
        "executions": MemoryExecutions(),
    }
    monkeypatch.setattr(bootstrap, "stack_outputs", lambda name: held["outputs"])
    for name in ("blobs", "records", "signer"):
        monkeypatch.setattr(bootstrap, name, lambda _, name=name: held[name])
    monkeypatch.setattr(bootstrap, "executions", lambda: held["executions"])
    return held


def test_slices_are_published_and_rolled_out(
    files: Path, stack: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    command = [
        "slice",
        "net.onnx",
        "--plan",
        "plan.json",
        "--devices",
        "devices.yaml",
        "-o",
        "published",
        "--deploy",
    ]
    assert main(command) == 0
    printed = capsys.readouterr()
    assert "published net as bundles/net/sliced/" in printed.err
    assert "rolling out net-slice-1; `isthmus model list` shows what is in service" in printed.err
    ((_, asked),) = stack["executions"].started.items()
    assert (asked["model"], asked["release"], asked["against"]) == ("net-slice-1", 1, 0)
    document = documents.decode(SlicedModel, (files / "published/sliced.json").read_bytes(), "it")
    verify_sliced(document, stack["signer"].public_key())
    assert [entry.release for entry in document.slices] == [1, 1]


def test_a_stack_that_does_not_name_its_key_is_deployed_anew(
    files: Path, stack: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    del stack["outputs"]["SigningKey"]
    assert main(["slice", "net.onnx", "--plan", "plan.json", "-o", "never", "--publish"]) == 1
    assert "does not say which key signs its bundles: deploy it anew, then publish" in capsys.readouterr().err
    assert not (files / "never").exists()


def test_all_cuts_are_drawn_and_written(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = LeakageReport(
        model="net", model_digest=sha256_file(files / "net.onnx"), samples_digest="b" * 64, fit_samples=1000,
        held_out_samples=200, seed=0,
        cuts=(Leakage(tensors=("r2",), r2=0.25, decoder="ridge", tried={"ridge": 0.25}, elements=1),),
    )  # fmt: skip
    (files / "leakage.json").write_bytes(documents.encode(found))
    capsys.readouterr()
    command = ["slice", "frontier", "net.onnx", "--devices", "devices.yaml", "--leakage", "leakage.json"]
    assert main([*command, "--svg", "f.svg", "--png", "f.png", "-o", "f.json"]) == 0
    printed = capsys.readouterr()
    assert "net: of 6 cuts, " in printed.out
    assert "before the cut on edge, after it on cloud" in printed.out
    assert (files / "f.svg").read_bytes().startswith(b"<?xml")
    assert (files / "f.png").read_bytes().startswith(b"\x89PNG")
    cuts = json.loads((files / "f.json").read_bytes())["cuts"]
    assert [cut["leakage_r2"] for cut in cuts] == [1.0, None, 0.25, None, None, 0.0]
    assert main([*command, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["cuts"]) == 6


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("net.onnx", "needs --plan PLAN.json"),
        ("none.onnx --plan plan.json", "there is no none.onnx"),
        ("net.onnx --plan none.json", "the plan none.json cannot be read"),
        ("net.onnx --plan net.onnx", "cannot be used"),
        ("net.onnx --plan plan.json --svg a.svg", "does not take --svg"),
        ("net.onnx plan.json", "needs 0 files more; there are: plan.json"),
        ("net.onnx --plan plan.json --job job.yaml", "there are none: name the dataset's folder"),
        ("net.onnx --plan plan.json --samples none.npy", "none.npy cannot be read as an array"),
        ("net.onnx --plan plan.json --tolerance 2", "needs a fraction of 0 to 1, such as 1e-5; it is 2"),
        ("net.onnx --plan plan.json -o no/where", "there is no folder"),
        ("plan.json --plan plan.json", "is not a valid ONNX model"),
        ("explain none.json", "none.json cannot be read"),
        ("explain net.onnx", "cannot be used"),
        ("explain", "needs 1 files more; there are: none"),
        ("explain . ", "sliced.json cannot be read"),
        ("frontier net.onnx", "needs --devices FIRST SECOND"),
        ("frontier net.onnx --devices lambda:1769", "needs two devices"),
        ("frontier net.onnx --devices devices.yaml --plan plan.json", "does not take --plan"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(
    files: Path, capsys: pytest.CaptureFixture[str], command: str, sentence: str
) -> None:
    capsys.readouterr()
    assert main(["slice", *command.split()]) in (1, 2)
    printed = capsys.readouterr()
    assert printed.out == ""
    lines = [line for line in printed.err.splitlines() if line.startswith("isthmus: ")]
    assert len(lines) == 1
    assert sentence in lines[0]
