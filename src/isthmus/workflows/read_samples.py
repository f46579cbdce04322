"""Samples as a network takes them: from a file of numbers, or from a dataset as its job reads it."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from isthmus import documents
from isthmus.errors import InvalidInput, InvalidJob
from isthmus.inference.decoding import read_npy
from isthmus.inference.processing import decode_raw, preprocess
from isthmus.model.job import HeldOut
from isthmus.model.processing import PreStep
from isthmus.model.units import GIB, format_bytes

MAX_BYTES = 2 * GIB
"""Of an array that has to lie in memory; a ``.npy`` file is read page by page, and may be larger."""


def from_file(path: Path) -> Any:
    """Return the one array of numbers, ``[N, ...]``, in a ``.npy`` or ``.npz`` file.

    Raises:
        InvalidInput: it cannot be read, is too large, or holds anything else.
    """
    if path.is_dir():
        raise InvalidInput(f"{path} is a folder; name a file, or with a dataset's folder its --job")
    array = _from_npz(path) if path.suffix == ".npz" else _from_npy(path)
    if array.dtype.kind not in "fiu" or array.ndim < 2:
        raise InvalidInput(
            f"{path} must hold one array of numbers, [samples, ...], as numpy.save writes it; it holds "
            f"{array.dtype} {list(array.shape)}"
        )
    return array


def arrays_from_file(path: Path) -> dict[str, Any]:
    """Return the arrays of numbers in a ``.npz`` file by name, or the one in a ``.npy`` file under an empty name.

    Raises:
        InvalidInput: it cannot be read, is too large, or holds anything else.
    """
    if path.is_dir():
        raise InvalidInput(f"{path} is a folder; name a file, or with a dataset's folder its --job")
    found = _all_from_npz(path) if path.suffix == ".npz" else {"": _from_npy(path)}
    for name, array in found.items():
        if array.dtype.kind not in "fiub" or not array.ndim:
            raise InvalidInput(
                f"{path} must hold arrays of numbers, [samples, ...]; {name or 'it'} is {array.dtype} "
                f"{list(array.shape)}"
            )
    return found


def from_dataset(path: Path, job: Mapping[str, Any]) -> Any:
    """Return a dataset's samples, ``[N, ...]``, decoded and pre-processed as its job says.

    ``path``: the dataset's folder, of which every file is read that is named as the evaluation's inputs are, in
    any channel; or one such file. ``job``: as people write it.

    Raises:
        InvalidJob: it does not say how inputs are decoded.
        InvalidInput: there is no such file, or one does not hold what the job says.
    """
    import numpy as np

    evaluation = job.get("evaluation")
    if not isinstance(evaluation, dict) or "inputs" not in evaluation:
        raise InvalidJob("needs a job with `evaluation.inputs`, which says how a file of samples is decoded")
    inputs = documents.convert(HeldOut, evaluation["inputs"], "evaluation.inputs of the job")
    steps = documents.convert(tuple[PreStep, ...], job.get("preprocessing", ()), "the job's preprocessing")
    name = Path(inputs.path).name
    files = sorted(path.rglob(name)) if path.is_dir() else [path]
    if not files:
        raise InvalidInput(f"{path} has no file {name}, which the job evaluates on")
    arrays = [decode_raw(_read(file), inputs.decode, str(file)) for file in files]
    if len({array.shape[1:] for array in arrays}) > 1:
        raise InvalidInput(f"the files {name} below {path} hold samples of different shapes")
    return preprocess(np.concatenate(arrays), steps)


def _from_npy(path: Path) -> Any:
    import numpy as np

    try:
        # From the file, page by page: samples may be larger than memory; only those drawn are read.
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read as an array (.npy): {error.strerror or error}") from error
    except (ValueError, EOFError) as error:
        # numpy's own sentence advises to unpickle the file.
        raise InvalidInput(f"{path} is no .npy array, as numpy.save writes it") from error
    if not isinstance(array, np.ndarray):
        raise InvalidInput(f"{path} must hold one array of numbers, [samples, ...], as numpy.save writes it")
    return array


def _from_npz(path: Path) -> Any:
    found = _all_from_npz(path)
    if len(found) != 1:
        raise InvalidInput(f"needs one array in {path}; there are: {', '.join(found) or 'none'}")
    return next(iter(found.values()))


def _all_from_npz(path: Path) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            size = sum(entry.file_size for entry in entries)
            if size > MAX_BYTES:
                raise InvalidInput(_too_large(f"{path} unpacked", size))
            return {
                entry.filename.removesuffix(".npy"): read_npy(archive.read(entry), str(path))
                for entry in entries
            }
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}") from error
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise InvalidInput(f"{path} cannot be read as arrays (.npz): {error}") from error


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InvalidInput(_too_large(str(path), path.stat().st_size))
        return path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}") from error


def _too_large(what: str, size: int) -> str:
    return f"{what} is {format_bytes(size)}; at most {format_bytes(MAX_BYTES)} is read"
