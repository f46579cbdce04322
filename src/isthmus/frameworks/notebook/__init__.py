"""A notebook as a training script: what is packed with it, so that it runs wherever a script runs.

Format: nbformat 4 (https://nbformat.readthedocs.io/en/latest/format_description.html). Parameters are the names that
the cell with the tag ``parameters`` assigns (papermill, "Parameterize"). ``entry.py`` runs it; ``requirements-*.txt``
is what that needs in a framework's environment, with versions that fit its lock.
"""

from __future__ import annotations

import ast
import importlib.resources
import json
from collections.abc import Iterable
from typing import Any

from isthmus.errors import InvalidJob

SUFFIX = ".ipynb"
ENTRY = "entry.py"
REQUIREMENTS = "requirements.txt"
NEEDED = ("papermill", "ipykernel")
PROGRESS = "notebook_progress"
"""The metric that the entry point prints: which part of the notebook's cells has run."""


def is_notebook(name: str) -> bool:
    """Whether a file is a notebook, by its name."""
    return name.endswith(SUFFIX)


def program_of(notebook: str) -> str:
    """Return the entry point that runs a notebook; it lies beside it."""
    return f"{notebook}.py"


def notebook_of(entry_point: str) -> str:
    """Return the notebook that an entry point runs, or an empty text."""
    name = entry_point.removesuffix(".py")
    return name if name != entry_point and is_notebook(name) else ""


def program() -> bytes:
    """Return the entry point's code, the same for every notebook."""
    return _file(ENTRY)


def requirements(framework: str, version: str) -> bytes | None:
    """Return what running a notebook needs in a framework's environment, each package with its digests."""
    try:
        return _file(f"requirements-{framework}-{version}.txt")
    except FileNotFoundError:
        return None


def stripped(raw: bytes, name: str) -> bytes:
    """Return a notebook without its outputs and the state of its widgets, which may hold data.

    ``metadata.widgets`` is where Jupyter saves that state (ipywidgets, "Embedding Jupyter Widgets").

    Raises:
        InvalidJob: it is no notebook of nbformat 4, so nobody knows what in it are outputs.
    """
    notebook = _read(raw, name)
    for cell in notebook["cells"]:
        if cell.get("cell_type") == "code":
            cell.update(outputs=[], execution_count=None)
    if isinstance(notebook.get("metadata"), dict):
        notebook["metadata"].pop("widgets", None)
    return (json.dumps(notebook, indent=1, ensure_ascii=False) + "\n").encode()


def check(raw: bytes, name: str, hyperparameters: Iterable[str]) -> None:
    """Ask whether a notebook can run with these hyperparameters.

    Raises:
        InvalidJob: it is no notebook of Python, or its parameters have no such name.
    """
    notebook = _read(raw, name)
    language = notebook.get("metadata", {}).get("kernelspec", {}).get("language", "python")
    if str(language).lower() != "python":
        raise InvalidJob(f"{name} needs a kernel for {language}; jobs run notebooks of Python")
    wanted = {given: given.replace("-", "_") for given in hyperparameters}
    there = _parameters(notebook["cells"])
    if not wanted or there is None:
        return
    unknown = [given for given, parameter in wanted.items() if parameter not in there]
    if unknown and not there:
        raise InvalidJob(
            f"{name} has no parameters, and the job gives {', '.join(unknown)}: set each in one cell, and give that "
            "cell the tag `parameters`"
        )
    if unknown:
        raise InvalidJob(
            f"{name} has the parameters {', '.join(sorted(there))}, and not {', '.join(unknown)}"
        )


def _read(raw: bytes, name: str) -> dict[str, Any]:
    try:
        notebook = json.loads(raw)
        major = notebook["nbformat"]
        if major == 4 and all(isinstance(cell, dict) for cell in notebook["cells"]):
            return dict(notebook)
    except (ValueError, KeyError, TypeError):
        raise InvalidJob(
            f"{name} is not a notebook: it needs JSON with nbformat and cells; mend it, or keep it out of the code"
        ) from None
    raise InvalidJob(f"{name} needs nbformat 4, and has {major}: open it in Jupyter and save it")


def _parameters(cells: list[Any]) -> set[str] | None:
    """Return the names that the cell of parameters assigns; None: it is not plain Python, so nobody knows."""
    names = set()
    for cell in cells:
        if "parameters" not in cell.get("metadata", {}).get("tags", []):
            continue
        try:
            parsed = ast.parse("".join(cell["source"]))
        except SyntaxError:
            return None
        names |= {
            node.id
            for node in ast.walk(parsed)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        }
    return names


def _file(name: str) -> bytes:
    return importlib.resources.files(__name__).joinpath(name).read_bytes()
