"""A part of a PyTorch module: a slice of an exported program, differentiated by PyTorch."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from isthmus.errors import InvalidInput, InvalidModel
from isthmus.frameworks.parts import Opening
from isthmus.frameworks.torch.cut import Cuttable, Piece, piece
from isthmus.frameworks.torch.saved import load
from isthmus.frameworks.trainable import Arrays, writable


def read(opening: Opening) -> TorchPart:
    """Raises InvalidModel: the program cannot be read or cut."""
    try:
        cuts, number = tuple(map(int, opening.described["cuts"])), int(opening.described["number"])
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidModel(f"a part's description cannot be read: {error!r}") from error
    whole = program_of(opening.network)
    form = whole.divide(cuts)[number]
    return TorchPart(piece(whole, form), form.parameters, whole)


def program_of(network: bytes) -> Cuttable:
    """Return a program of the bytes that ``torch.export.save`` made, as ``saved.load`` reads it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.pt2"
        path.write_bytes(network)
        return Cuttable.of(load(path))


class TorchPart:
    """One part, on the CPU."""

    def __init__(self, found: Piece, parameters: Sequence[str], whole: Cuttable) -> None:
        self._torch = importlib.import_module("torch")
        self._piece = found
        self._own = frozenset(parameters)
        self._statistics = tuple(name for name in parameters if name not in whole.learned)
        self._held: dict[str, Any] = {name: whole.values[name].detach() for name in found.constants}

    def forward(
        self, arrays: Arrays, *, kept: bool, training: bool, wanted: Sequence[str]
    ) -> tuple[dict[str, Any], Any]:
        """As ``parts.Part``; whether it trains is a matter of its program."""
        given: dict[str, Any] = {}
        for name, array in arrays.items():
            tensor = self._torch.from_numpy(writable(array))
            (self._held if name in self._own else given)[name] = tensor
        placed = {**given, **self._held}
        needed = self._piece.arguments
        if missing := [name for name in (*needed, *wanted) if name not in placed]:
            raise InvalidInput(f"a part needs {', '.join(missing)}; it got {', '.join(sorted(arrays))}")
        placed.update({name: placed[name].detach().requires_grad_(True) for name in wanted})
        try:
            with self._torch.set_grad_enabled(kept):
                outputs = self._piece.module(*[placed[name] for name in needed])
        except RuntimeError as error:
            raise InvalidInput(f"a part cannot compute this: {error}"[:400]) from error
        heads = {
            name: output.detach().numpy() for name, output in zip(self._piece.heads, outputs, strict=True)
        }
        heads.update({name: self._held[name].numpy().copy() for name in self._statistics})
        return heads, (outputs, {name: placed[name] for name in wanted})

    def backward(self, kept: Any, gradients: Arrays) -> dict[str, Any]:
        """As ``parts.Part``."""
        outputs, wanted = kept
        roots, sums = [], []
        for name, output in zip(self._piece.heads, outputs, strict=True):
            if name in gradients and output.requires_grad:
                roots.append(output)
                sums.append(self._torch.from_numpy(writable(gradients[name])))
        found: Sequence[Any] = [None] * len(wanted)
        try:
            if roots:
                found = self._torch.autograd.grad(roots, list(wanted.values()), sums, allow_unused=True)
        except RuntimeError as error:
            raise InvalidInput(f"a part has no gradients: {error}"[:400]) from error
        return {
            name: (self._torch.zeros_like(tensor) if gradient is None else gradient).detach().numpy()
            for (name, tensor), gradient in zip(wanted.items(), found, strict=True)
        }
