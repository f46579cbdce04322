"""A ``torch.export`` archive without what could run code.

``torch.export.load`` unpickles example inputs, tensors of subclasses and custom objects, evaluates symbolic sizes as
Python (sympy), takes any attribute of ``torch`` for an operator and imports what a tree of inputs names. What a profile
needs of a ``.pt2`` file is JSON and raw bytes (https://docs.pytorch.org/docs/stable/export/pt2_archive.html). So these
alone are copied, after every name in them was held against what operators and sizes are made of.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from isthmus.errors import InvalidModel

KEPT = re.compile(
    r"archive_format|archive_version|byteorder|\.data/\w+|data/weights/weight_\d+|data/constants/tensor_\d+"
    r"|data/(weights|constants)/\w+_(weights|constants)_config\.json|models/\w+\.json|data/sample_inputs/\w+\.pt"
)
OPERATOR = re.compile(
    r"torch\.ops\.(aten|prims|higher_order)\.\w+(\.\w+)?|_operator\.[a-z]+|math\.[a-z]+|torch\.sym_\w+"
)
SYMBOL = re.compile(r"[a-z]{1,4}\d+")
SIZE = re.compile(r"[\w\s'(),=<>!&|~+*/%.-]*")
"""An expression of a size; names in it are symbols or these."""
SIZE_NAMES = re.compile(
    r"Symbol|positive|nonnegative|integer|real|True|False|Integer|Rational|Float|Add|Mul|Pow|PowByNatural|Max|Min|Mod"
    r"|PythonMod|FloorDiv|CeilDiv|CleanDiv|IntTrueDiv|FloatTrueDiv|(Ceil|Floor|Trunc|Round)ToInt|ToFloat|Where|Identity"
    r"|And|Or|Not|Eq|Ne|Ge|Gt|Le|Lt|Equality|Unequality|(Strict)?(GreaterThan|LessThan)"
)
TREES = frozenset({None, "builtins.tuple", "builtins.list", "builtins.dict"})
MOST_JSON_BYTES = 256 * 2**20


def copy(source: Path, target: Path) -> None:
    """Write what a profile needs of an archive to ``target``; it is loaded without unpickling or evaluating.

    Raises:
        InvalidModel: it is no archive of an exported program, or needs what could run code; the message says what.
    """
    try:
        with zipfile.ZipFile(source) as found, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as written:
            for entry in found.infolist():
                name = entry.filename.partition("/")[2]
                if KEPT.fullmatch(name):
                    if entry.compress_type != zipfile.ZIP_STORED:
                        raise InvalidModel(f"{source.name} is no torch.export archive: {name} is compressed")
                    written.writestr(entry.filename, _checked(name, found, entry))
    except (zipfile.BadZipFile, OSError, ValueError, RecursionError) as error:
        raise InvalidModel(f"{source.name} is no torch.export archive: {error}") from error


def _checked(name: str, found: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    if name.startswith("data/sample_inputs/"):
        return b""  # a pickle; loaded as no inputs where it is empty
    raw = found.read(entry)
    if not name.endswith(".json"):
        return raw
    if len(raw) > MOST_JSON_BYTES:
        raise InvalidModel(f"{name} has {len(raw):,} bytes; at most {MOST_JSON_BYTES:,} are read")
    document = json.loads(raw)
    if not isinstance(document, dict):
        raise InvalidModel(f"{name} holds no object")
    if name.startswith("models/"):
        document["guards_code"] = []
        problems = _of_program(document)
    else:
        problems = _of_payload(document)
    if (problem := next(iter(problems), "")) != "":
        raise InvalidModel(
            f"{name} {problem}, which is not loaded: it could run code; export the model to ONNX instead"
        )
    return json.dumps(document).encode()


def _of_payload(document: dict[str, Any]) -> Iterator[str]:
    for key, entry in document.get("config", {}).items():
        path = str(entry.get("path_name", ""))
        if entry.get("use_pickle", True) or not re.fullmatch(r"(weight|tensor)_\d+", path):
            yield f"has {key} as a pickled object"


def _of_program(value: Any, key: str = "") -> Iterator[str]:
    """Yield what names anything but an operator, a size or a plain tree of inputs."""
    if isinstance(value, dict):
        for name, part in value.items():
            if key == "range_constraints" and not _is_size(name):
                yield f"has the size {name!r}"
            yield from _of_program(part, name)
    elif isinstance(value, list):
        for part in value:
            yield from _of_program(part, key)
    elif isinstance(value, str):
        if key in ("target", "as_operator") and not OPERATOR.fullmatch(value):
            yield f"has the operator {value!r}"
        if key == "expr_str" and not _is_size(value):
            yield f"has the size {value!r}"
        if key in ("in_spec", "out_spec") and value:
            yield from _of_tree(json.loads(value))
    if key in ("as_custom_obj", "as_opaque_obj") and value is not None:
        yield "has a custom object"


def _is_size(text: str) -> bool:
    names = re.findall(r"[A-Za-z_]\w*", text)
    return (
        SIZE.fullmatch(text) is not None
        and not re.search(r"\.\s*[A-Za-z_]|__", text)
        and all(SIZE_NAMES.fullmatch(name) or SYMBOL.fullmatch(name) for name in names)
    )


def _of_tree(value: Any) -> Iterator[str]:
    for part in value if isinstance(value, list) else []:
        yield from _of_tree(part)
    if isinstance(value, dict):
        if value.get("type") not in TREES:
            yield f"has inputs or outputs in a {value.get('type')!r}"
        yield from _of_tree(value.get("children_spec", []))
