"""A notebook as it is packed, and the requirements that go with it."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from isthmus.errors import InvalidJob
from isthmus.frameworks import notebook
from isthmus.rig.definitions import Definition, definitions

ROOT = Path(__file__).parents[3]


def cell(source: str, *tags: str, **more: Any) -> dict[str, Any]:
    metadata = {"tags": list(tags)} if tags else {}
    return {
        "cell_type": "code",
        "execution_count": None,
        "metadata": metadata,
        "outputs": [],
        "source": source,
    } | more


def raw(*cells: dict[str, Any], **metadata: Any) -> bytes:
    return json.dumps(
        {"cells": list(cells), "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    ).encode()


def test_a_notebook_goes_without_what_its_cells_printed() -> None:
    secret = {"output_type": "stream", "name": "stdout", "text": "patient 4711"}
    widgets = {"application/vnd.jupyter.widget-state+json": {"state": {"a": {"value": "patient 4711"}}}}
    given = raw(cell("print(x)", outputs=[secret], execution_count=7), cell("y = 1"), widgets=widgets)
    stripped = notebook.stripped(given, "n.ipynb")
    assert b"patient 4711" not in stripped
    assert [entry["source"] for entry in json.loads(stripped)["cells"]] == ["print(x)", "y = 1"]
    assert stripped == notebook.stripped(raw(cell("print(x)", execution_count=9), cell("y = 1")), "n.ipynb")


@pytest.mark.parametrize(
    "other",
    [
        b"\x00",
        b"{}",
        b"[]",
        b'{"nbformat": 4, "cells": 3}',
        b'{"nbformat": 4, "cells": ["patient 4711"]}',
        b'{"nbformat": 3, "worksheets": [{"cells": [{"outputs": ["patient 4711"]}]}]}',
    ],
)
def test_what_is_no_notebook_of_format_4_is_not_packed(other: bytes) -> None:
    with pytest.raises(InvalidJob, match=r"old\.ipynb (is not a notebook|needs nbformat 4)"):
        notebook.stripped(other, "old.ipynb")


PARAMETERS = cell("epochs: int = 3\nlearning_rate = 0.1\nif epochs:\n    seed = 7", "parameters")


def test_hyperparameters_are_names_that_the_cell_of_parameters_sets() -> None:
    notebook.check(raw(PARAMETERS), "n.ipynb", ["epochs", "learning-rate", "seed"])
    notebook.check(raw(), "n.ipynb", [])
    with pytest.raises(InvalidJob, match="has the parameters epochs, learning_rate, seed, and not epoch, lr"):
        notebook.check(raw(PARAMETERS), "n.ipynb", ["epoch", "lr", "seed"])
    with pytest.raises(InvalidJob, match="give that cell the tag `parameters`"):
        notebook.check(raw(cell("epochs = 3")), "n.ipynb", ["epochs"])


def test_parameters_that_are_not_plain_python_are_left_to_papermill() -> None:
    notebook.check(raw(cell("%load_ext x\nepochs = 3", "parameters")), "n.ipynb", ["anything"])


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (b"print('hello')", "is not a notebook"),
        (b'{"nbformat": 4}', "is not a notebook"),
        (b'{"nbformat": 3, "worksheets": [], "cells": []}', "needs nbformat 4, and has 3"),
        (raw(kernelspec={"language": "julia"}), "needs a kernel for julia"),
    ],
)
def test_what_cannot_run_is_refused(given: bytes, reason: str) -> None:
    with pytest.raises(InvalidJob, match=reason):
        notebook.check(given, "n.ipynb", [])


def test_the_entry_point_leads_back_to_its_notebook() -> None:
    assert notebook.notebook_of(notebook.program_of("a/train.ipynb")) == "a/train.ipynb"
    assert (notebook.notebook_of("train.py"), notebook.notebook_of("train.ipynb")) == ("", "")


@pytest.mark.parametrize("definition", definitions(), ids=lambda entry: entry.folder.name)
def test_what_notebooks_need_fits_each_environments_lock(definition: Definition) -> None:
    found = notebook.requirements(definition.framework, definition.version)
    assert found is not None
    pinned = dict(re.findall(r"(?m)^([a-z0-9-]+)==([^\s;]+)", found.decode()))
    assert set(notebook.NEEDED) <= set(pinned)
    assert {name: pinned[name] for name in ("papermill", "ipykernel")} == {
        package["name"]: package["version"]
        for package in tomllib.loads((ROOT / "uv.lock").read_text())["package"]
        if package["name"] in ("papermill", "ipykernel")
    }
    locked = tomllib.loads((definition.folder / "uv.lock").read_text())["package"]
    there = {package["name"]: package["version"] for package in locked if "version" in package}
    shared = set(pinned) & set(there)
    assert "numpy" in shared
    assert {name: pinned[name] for name in shared} == {name: there[name] for name in shared}
