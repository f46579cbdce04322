"""What MXNet 1.9.1 (May 2022) needs to be imported on Python 3.11 to 3.13 with numpy 1.24 to 2.5.

It reads names from numpy, and from the standard library, that were removed since. They are put
back before its import: aliases where an equal exists, a function that explains itself where not.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Callable
from functools import total_ordering
from types import ModuleType
from typing import Any, NoReturn

import numpy as np

CONSTANTS: dict[str, object] = {
    # Removed in numpy 2.0; mxnet/numpy/utils.py re-exports them, gluon's estimator has np.Inf as a default.
    "PZERO": 0.0,
    "NZERO": -0.0,
    "NINF": -np.inf,
    "PINF": np.inf,
    "NAN": np.nan,
    "NaN": np.nan,
    "Inf": np.inf,
}

RENAMED = {
    # Removed in numpy 1.24, and back as another name of bool_ in 2.0; mxnet/numpy/utils.py re-exports it.
    "bool": "bool_",
    # Removed in numpy 2.0 or later; mxnet/numpy/fallback.py re-exports the first three, and
    # mxnet/numpy_dispatch_protocol.py looks the others up.
    "alltrue": "all",
    "in1d": "isin",
    "trapz": "trapezoid",
    "sometrue": "any",
    "product": "prod",
    "round_": "round",
}

BUILTINS: dict[str, object] = {
    # Aliases of Python's own types, removed in numpy 1.24. mxnet/test_utils.py uses np.int; scripts
    # that run on SageMaker's MXNet image (numpy 1.23 at most) use them all.
    "int": int,
    "float": float,
    "object": object,
}

GONE = (
    # mxnet/numpy/fallback.py re-exports these too. Financial functions left in numpy 1.20 (NEP 32)
    # and msort in 2.0; MXNet's own code calls none of them.
    "mirr",
    "msort",
    "npv",
    "pmt",
    "ppmt",
    "pv",
    "rate",
)


def apply() -> None:
    """Put back what is missing; safe to call again."""
    for name, value in (CONSTANTS | BUILTINS).items():
        _set(name, value)
    for name, current in RENAMED.items():
        _set(name, np.__dict__.get(current))
    for name in GONE:
        _set(name, _removed(name))
    if "distutils" not in sys.modules and importlib.util.find_spec("distutils") is None:
        _restore_distutils()


def _set(name: str, value: Any) -> None:
    # Not hasattr: numpy 1.24 answers a removed name in its module __getattr__, with a warning.
    if name not in np.__dict__ and value is not None:
        setattr(np, name, value)


def _removed(name: str) -> Callable[..., NoReturn]:
    def function(*_: object, **__: object) -> NoReturn:
        raise AttributeError(f"numpy.{name} was removed from numpy; MXNet 1.9.1 passed it on")

    return function


@total_ordering
class LooseVersion:
    """``distutils.version.LooseVersion`` as far as MXNet uses it: comparing numpy's versions."""

    def __init__(self, text: str) -> None:
        self.version = [int(part) for part in re.findall(r"\d+", text)]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LooseVersion) and self.version == other.version

    def __lt__(self, other: LooseVersion) -> bool:
        return self.version < other.version

    def __hash__(self) -> int:
        return hash(tuple(self.version))


def _restore_distutils() -> None:
    """Python 3.12 removed distutils (PEP 632); MXNet imports both version classes at its import."""
    package, version = ModuleType("distutils"), ModuleType("distutils.version")
    vars(version).update(LooseVersion=LooseVersion, StrictVersion=LooseVersion)
    vars(package).update(version=version, __path__=[])
    sys.modules.update({"distutils": package, "distutils.version": version})
