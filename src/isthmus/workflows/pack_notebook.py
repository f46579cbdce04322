"""A job whose entry point is a notebook, as a job that every rig and SageMaker can run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from isthmus.errors import InvalidJob
from isthmus.frameworks import notebook
from isthmus.sync.collect import code_files


def with_notebooks(source: dict[str, Any], code: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return a job's source and what of its code is packed otherwise than it lies in the folder ``code``.

    Every notebook goes without its outputs: what its cells printed on a laptop may be data, and would make the same
    code another job. A notebook as entry point goes with the program that runs it, which becomes the entry point.

    Raises:
        InvalidJob: the notebook cannot run with the job's hyperparameters, its distribution or its requirements; or one
            of the code's notebooks is none of nbformat 4.
    """
    changed = {
        name: notebook.stripped(path.read_bytes(), name)
        for path in code_files(code)
        if notebook.is_notebook(name := path.relative_to(code).as_posix())
    }
    entry = str(source.get("entry_point", ""))
    if not notebook.is_notebook(entry):
        return source, changed
    given = source.get("hyperparameters") or {}
    notebook.check((code / entry).read_bytes(), entry, given if isinstance(given, Mapping) else ())
    if source.get("distribution"):
        raise InvalidJob(f"{entry} runs as one process; a distribution needs a script as its entry point")
    changed[notebook.program_of(entry)] = notebook.program()
    changed |= _requirements(source, code, entry)
    return {**source, "entry_point": notebook.program_of(entry)}, changed


def _requirements(source: dict[str, Any], code: Path, entry: str) -> dict[str, bytes]:
    """Return the ``requirements.txt`` that the archive needs besides what lies in the folder."""
    own = code / notebook.REQUIREMENTS
    if own.is_file():
        names = {name.lower() for name in re.findall(r"(?m)^([\w.-]+)", own.read_text("utf-8", "replace"))}
        missing = [name for name in notebook.NEEDED if name not in names]
        if missing:
            raise InvalidJob(
                f"{own} lacks {' and '.join(missing)}, which {entry} needs where it runs: add it"
            )
        return {}
    framework = source.get("framework")
    named = framework if isinstance(framework, dict) else {}
    ours = notebook.requirements(str(named.get("name")), str(named.get("version")))
    if ours is None and not source.get("image"):
        raise InvalidJob(
            f"{entry} needs {' and '.join(notebook.NEEDED)} where it runs, and nothing is locked here for "
            f"{named.get('name')} {named.get('version')}: put a {notebook.REQUIREMENTS} with them beside it"
        )
    return {} if ours is None else {notebook.REQUIREMENTS: ours}
