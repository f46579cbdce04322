"""What is loaded of a ``torch.export`` archive: JSON and raw bytes, no pickle and no code.

``exported.pt2``: a convolution, a normalization and a linear layer with an open batch, by ``torch.export.save`` of
PyTorch 2.13, without stack traces.
"""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from isthmus.errors import InvalidModel
from isthmus.frameworks.torch import archive

EXPORTED = Path(__file__).with_name("exported.pt2")
PROGRAM, WEIGHTS, INPUTS = (
    f"exported/{name}"
    for name in ("models/model.json", "data/weights/model_weights_config.json", "data/sample_inputs/model.pt")
)
Change = Callable[[dict[str, Any]], object]


def records(path: Path) -> dict[str, bytes]:
    """Return what an archive holds."""
    with zipfile.ZipFile(path) as found:
        return {name: found.read(name) for name in found.namelist()}


def altered(folder: Path, changes: dict[str, Change | bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    """Write the archive with records changed, or added as they are."""
    held = records(EXPORTED)
    for name, change in changes.items():
        if isinstance(change, bytes):
            held[name] = change
        else:
            document = json.loads(held[name])
            change(document)
            held[name] = json.dumps(document).encode()
    path = folder / "altered.pt2"
    with zipfile.ZipFile(path, "w", compression) as written:
        for name, raw in held.items():
            written.writestr(name, raw)
    return path


def first_node(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["graph_module"]["graph"]["nodes"][0]
    return found


def first_size(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["graph_module"]["graph"]["tensor_values"]["image"]["sizes"][0]["as_expr"]
    return found


def test_weights_and_program_are_copied_and_pickles_are_not(tmp_path: Path) -> None:
    archive.copy(EXPORTED, tmp_path / "copy.pt2")
    before, after = records(EXPORTED), records(tmp_path / "copy.pt2")
    assert after[INPUTS] == b""
    assert before[INPUTS] != b""
    assert set(after) == set(before)
    assert all(raw == after[name] for name, raw in before.items() if not name.endswith((".json", ".pt")))
    assert json.loads(after[PROGRAM]) == json.loads(before[PROGRAM])


def test_what_a_profile_does_not_need_is_left_out(tmp_path: Path) -> None:
    code = {
        "exported/data/aotinductor/model/model.so": b"code",
        "exported/data/weights/model.pt": pickle.dumps({}),
    }
    archive.copy(altered(tmp_path, {**code}), tmp_path / "copy.pt2")
    assert not set(code) & set(records(tmp_path / "copy.pt2"))


def test_guards_are_code_and_are_left_out(tmp_path: Path) -> None:
    path = altered(tmp_path, {PROGRAM: lambda document: document.update(guards_code=["print(1)"])})
    archive.copy(path, tmp_path / "copy.pt2")
    assert json.loads(records(tmp_path / "copy.pt2")[PROGRAM])["guards_code"] == []


@pytest.mark.parametrize(
    ("record", "change", "sentence"),
    [
        (
            WEIGHTS,
            lambda d: d["config"]["conv.weight"].update(use_pickle=True),
            "conv.weight as a pickled object",
        ),
        (WEIGHTS, lambda d: d["config"]["conv.weight"].update(path_name="custom_obj_0"), "a pickled object"),
        (PROGRAM, lambda d: first_node(d).update(target="torch.hub.load"), "the operator 'torch.hub.load'"),
        (PROGRAM, lambda d: first_node(d).update(target="#mine:evil"), "the operator"),
        (PROGRAM, lambda d: first_size(d).update(expr_str="exec(chr(120))"), "the size"),
        (PROGRAM, lambda d: first_size(d).update(expr_str="Symbol('s1').func.x"), "the size"),
        (PROGRAM, lambda d: first_size(d).update(expr_str="Max(s1, 2) + 3*FloorDiv(s1, 4)"), ""),
        (PROGRAM, lambda d: d["range_constraints"].update({"open(1)": {}}), "the size 'open(1)'"),
        (
            PROGRAM,
            lambda d: d["graph_module"]["module_call_graph"][0]["signature"].update(
                in_spec='[1, {"type": "collections.defaultdict", "context": "os", "children_spec": []}]'
            ),
            "inputs or outputs in a 'collections.defaultdict'",
        ),
        (
            PROGRAM,
            lambda d: first_node(d)["inputs"].append({"arg": {"as_custom_obj": {}}}),
            "a custom object",
        ),
    ],
)
def test_what_could_run_code_is_refused(record: str, change: Change, sentence: str, tmp_path: Path) -> None:
    path = altered(tmp_path, {record: change})
    if not sentence:
        archive.copy(path, tmp_path / "copy.pt2")
        return
    with pytest.raises(InvalidModel, match="could run code") as caught:
        archive.copy(path, tmp_path / "copy.pt2")
    assert sentence in str(caught.value)


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.pt2").write_text("no archive")
    with pytest.raises(InvalidModel, match=r"no torch\.export archive"):
        archive.copy(tmp_path / "text.pt2", tmp_path / "copy.pt2")
    with pytest.raises(InvalidModel, match="is compressed"):
        archive.copy(altered(tmp_path, {}, zipfile.ZIP_DEFLATED), tmp_path / "copy.pt2")
    with pytest.raises(InvalidModel, match="holds no object"):
        archive.copy(altered(tmp_path, {WEIGHTS: b"[]"}), tmp_path / "copy.pt2")
    with pytest.raises(InvalidModel, match=r"no torch\.export archive"):
        archive.copy(altered(tmp_path, {WEIGHTS: b"{"}), tmp_path / "copy.pt2")
