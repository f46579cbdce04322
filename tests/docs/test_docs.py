"""The documents are true: what they name exists."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAMED = re.compile(r"`([\w/.-]+\.(?:py|json))` · `(\w+)`")
LINK = re.compile(r"\]\((?!https?://|#)([^)#]+)(?:#[^)]*)?\)")
PATH = ROOT / "docs/path-of-a-dataset.md"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def names_in(path: Path) -> set[str]:
    """Return the top-level functions and classes of a module, or the states of a machine."""
    if path.suffix == ".json":
        return set(json.loads(path.read_text())["States"])
    kinds = (ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.parse(path.read_text()).body if isinstance(node, kinds)}


@pytest.mark.parametrize(("file", "name"), NAMED.findall(PATH.read_text()))
def test_the_path_names_what_exists(file: str, name: str) -> None:
    assert (ROOT / file).is_file()
    assert name in names_in(ROOT / file)


def test_the_path_has_a_place_for_every_function_folder() -> None:
    text = PATH.read_text()
    for folder in (ROOT / "functions").iterdir():
        verb = folder.name.removesuffix("_attempt")
        assert folder.name in text or verb in text, f"{folder.name} is not on the path"


def test_every_table_row_of_the_path_names_a_file_and_a_function() -> None:
    rows = [line for line in PATH.read_text().splitlines() if line.startswith("| ") and "---" not in line]
    body = [row for row in rows if not row.startswith("| what ")]
    assert len(body) > 30
    assert [row for row in body if not NAMED.search(row)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_decisions_are_numbered_without_gaps_and_name_an_exit_or_a_limit() -> None:
    pages = sorted((ROOT / "docs/adr").glob("*.md"))
    assert [int(page.name[:4]) for page in pages] == list(range(1, len(pages) + 1))
    for page in pages:
        assert re.match(rf"# {page.name[:4]} · ", page.read_text()), page.name
