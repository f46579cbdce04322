"""What crosses a cut, measured: how well decoders rebuild the raw input from a network's tensors (docs/adr/0021)."""

from __future__ import annotations

import hashlib
import math
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from isthmus.errors import InvalidInput, InvalidModel
from isthmus.frameworks.onnx import decoders, read, runtime
from isthmus.frameworks.onnx.bodies import reads
from isthmus.frameworks.onnx.decoders import Rows
from isthmus.frameworks.onnx.local_decoder import local
from isthmus.model.leakage import Leakage, LeakageReport

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from isthmus.frameworks.onnx.decoders import Floats

Cast = Literal["", "float16", "int8"]

HELD_OUT = 200
"""The fewest samples to judge on."""
MAX_HELD_OUT = 1_000
FEWEST_TO_FIT = 50
SPOOL_BYTES = 2**31
"""Activations of that many bytes lie in temporary files at a time; one tensor's always."""
LARGEST_FLOAT16 = 65_504.0


def measure(
    model: Path,
    samples: NDArray[np.float32],
    tensors: Sequence[str | tuple[str, ...]] | None = None,
    *,
    fit: int = 1000,
    seed: int = 0,
    cast: Cast = "",
    dimensions: Mapping[str, int] | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> LeakageReport:
    """Fit decoders of the raw input on ``fit`` samples, and judge them on at most 1,000 others.

    ``samples``: float32 ``[N, ...]``, as the network takes them. ``tensors``: each a tensor of the network as
    it runs (the names of its profile; the input's own too), or several that cross together; None: each that
    another operator reads. ``seed``: which samples fit. ``cast``: what tensors are turned into first; int8 with
    one scale for each sample and tensor. ``dimensions``: sizes of open ones. ``report``: told of each tensor.

    Raises:
        InvalidInput: too few samples, or ones that do not fit the model, vary or are finite.
        InvalidModel: unreadable, several inputs or whole numbers, or a tensor not there, not finite or of varying size.
    """
    chosen = _chosen(samples, fit, seed)
    with tempfile.TemporaryDirectory() as folder:
        network = _Network(model, Path(folder), dimensions or {}, chosen[:1])
        cuts = [(cut,) if isinstance(cut, str) else tuple(cut) for cut in tensors or network.read_again]
        network.check(cuts)
        found = _Measured(chosen, Rows(fit * 4 // 5, fit), seed, cuts)
        wanted = {name for cut in cuts for name in cut}
        for names in network.passes(wanted, len(chosen)):
            for name, values in network.run(names, chosen, cast):
                report(f"{len(found.figures) + 1} of {len(wanted)}: {name}, {values.shape[1]} elements")
                found.add(name, values, network.shapes[name])
    return LeakageReport(
        model=model.name,
        model_digest=network.digest,
        samples_digest=_digest(samples),
        fit_samples=fit,
        held_out_samples=len(chosen) - fit,
        seed=seed,
        cuts=tuple(found.leakage(cut, cast) for cut in cuts),
    )


def _chosen(samples: NDArray[np.float32], fit: int, seed: int) -> NDArray[np.float32]:
    import numpy as np

    if fit < FEWEST_TO_FIT:
        raise InvalidInput(f"needs at least {FEWEST_TO_FIT} samples to fit a decoder on; asked were {fit}")
    if len(samples) < fit + HELD_OUT:
        raise InvalidInput(
            f"needs {fit + HELD_OUT} samples, {fit} to fit a decoder on and {HELD_OUT} held out; "
            f"there are {len(samples)}: give more"
        )
    order = np.random.default_rng(seed).permutation(len(samples))[: fit + MAX_HELD_OUT]
    chosen = np.ascontiguousarray(samples[order], dtype=np.float32)
    if not np.isfinite(chosen).all():
        raise InvalidInput("needs finite samples; some have a NaN or an infinity")
    for part in (chosen[:fit], chosen[fit:]):
        if not (part != part[0]).any():
            raise InvalidInput("needs samples that differ; these are all the same, so nothing can be rebuilt")
    return chosen


def _digest(samples: NDArray[np.float32]) -> str:
    import numpy as np

    found = hashlib.sha256()
    for start in range(0, len(samples), 64):
        found.update(np.ascontiguousarray(samples[start : start + 64], dtype=np.float32))
    return found.hexdigest()


class _Network:
    """The model as it runs, optimised, with every tensor that is asked for as an output."""

    def __init__(self, path: Path, folder: Path, dimensions: Mapping[str, int], sample: Any) -> None:
        self.digest = read.check(path)
        self._folder, self._name = folder, path.name
        read.optimise(path, folder / "optimised.onnx", dimensions)
        self._model = read.load_onnx().load(str(folder / "optimised.onnx"), load_external_data=False)
        graph = self._model.graph
        made = [name for node in graph.node for name in node.output if name]
        session = self._session(made)
        self._input = self._only_input(session)
        self._size = self._fixed_batch(session)
        outputs = self._execute(session, made, sample.repeat(self._size, axis=0))
        arrays = {self._input: sample, **dict(zip(made, outputs, strict=True))}
        self._elements = {n: a.size // (1 if n == self._input else self._size) for n, a in arrays.items()}
        self.shapes = {
            name: array.shape[1:] if self._elements[name] == math.prod(array.shape[1:]) else (array.size,)
            for name, array in arrays.items()
        }
        numbers = {name for name, array in arrays.items() if array.dtype.kind == "f"}
        numbers |= {
            name for name, array in arrays.items() if array.dtype.itemsize == 1 and array.dtype != bool
        }
        readers = self._moving().intersection(name for node in graph.node for name in reads(node))
        self.read_again = [name for name in made if name in readers & numbers]
        """Tensors that another operator reads, depend on the input and are no shapes or indices."""

    def check(self, cuts: Iterable[tuple[str, ...]]) -> None:
        """Raise InvalidModel for a tensor that the network lacks, or that has no elements."""
        for name in (name for cut in cuts for name in cut):
            if not self._elements.get(name):
                raise InvalidModel(
                    f"{self._name} has no tensor {name} when it runs; there are {', '.join(self.read_again)}"
                )

    def passes(self, names: Iterable[str], count: int) -> Iterator[list[str]]:
        """Yield the tensors in groups whose activations for ``count`` samples fit the spool together."""
        group: list[str] = []
        for name in sorted(names):
            if group and 4 * count * sum(self._elements[n] for n in (*group, name)) > SPOOL_BYTES:
                yield group
                group = []
            group.append(name)
        if group:
            yield group

    def run(self, names: Sequence[str], samples: Any, cast: Cast) -> Iterator[tuple[str, Any]]:
        """Yield each tensor's values, float32 ``[N, elements]``; those of one pass in temporary files."""
        import numpy as np

        made = [name for name in names if name != self._input]
        with tempfile.TemporaryDirectory(dir=self._folder) as spool:
            kept: dict[str, Any] = {
                name: np.memmap(
                    Path(spool) / str(number), np.float32, "w+", shape=(len(samples), self._elements[name])
                )
                for number, name in enumerate(names)
            }
            session = self._session(made) if made else None
            for start in range(0, len(samples), self._size):
                batch = samples[start : start + self._size]
                missing = self._size - len(batch)
                full = np.concatenate([batch, *[batch[-1:]] * missing]) if missing else batch
                arrays = dict(zip(made, self._execute(session, made, full), strict=True)) if made else {}
                for name in names:
                    flat = self._flat(name, full if name == self._input else arrays[name])
                    kept[name][start : start + len(batch)] = _turned(flat, cast)[: len(batch)]
            yield from kept.items()

    def _session(self, names: Sequence[str]) -> Any:
        onnx = read.load_onnx()
        model = onnx.ModelProto()
        model.CopyFrom(self._model)
        del model.graph.output[:]
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
        file = self._folder / "tensors.onnx"
        onnx.save(model, str(file))
        return runtime.session(file, runtime.options(threads=0, level="ORT_DISABLE_ALL"), self._name)

    def _only_input(self, session: Any) -> str:
        inputs = session.get_inputs()
        if len(inputs) != 1:
            names = ", ".join(entry.name for entry in inputs)
            raise InvalidModel(f"leakage is measured of networks with one input; {self._name} has {names}")
        (only,) = inputs
        if only.type not in ("tensor(float)", "tensor(float16)", "tensor(double)", "tensor(uint8)"):
            raise InvalidModel(
                f"input {only.name} is a {only.type}; leakage is measured of inputs that are quantities: what is "
                f"looked up by a number can be found again exactly, so keep the layers that read it where raw "
                f"data may lie"
            )
        return str(only.name)

    @staticmethod
    def _fixed_batch(session: Any) -> int:
        """Samples one at a time, but where the model fixes more: then a tensor may lie in any order."""
        shape = session.get_inputs()[0].shape
        return shape[0] if shape and isinstance(shape[0], int) else 1

    def _execute(self, session: Any, names: Sequence[str], batch: Any) -> list[Any]:
        import numpy as np

        kinds = {"tensor(float16)": np.float16, "tensor(double)": np.float64, "tensor(uint8)": np.uint8}
        (only,) = session.get_inputs()
        try:
            return list(session.run(list(names), {only.name: batch.astype(kinds.get(only.type, np.float32))}))
        except Exception as error:  # onnxruntime's errors have no common base
            raise InvalidInput(
                f"{self._name} takes {only.shape}; it cannot run on samples of {list(batch.shape[1:])}: {error}"
            ) from error

    def _flat(self, name: str, array: Any) -> Any:
        import numpy as np

        rows, elements = self._size, self._elements[name]
        if array.size != rows * elements or (rows > 1 and array.shape[0] != rows):
            raise InvalidModel(
                f"tensor {name} has {array.size} elements for {rows} samples; {elements} for each were expected, "
                f"samples first: its size depends on values, so leave it out"
            )
        flat = np.asarray(array, dtype=np.float32).reshape(rows, -1)
        if not np.isfinite(flat).all():
            raise InvalidModel(
                f"tensor {name} is not finite for some sample; leave it out: it stays unmeasured"
            )
        return flat

    def _moving(self) -> set[str]:
        """Return the tensors that depend on the input."""
        found = {self._input}
        for node in self._model.graph.node:
            if found.intersection(reads(node)):
                found.update(node.output)
        return found


@dataclass
class _Measured:
    """R² by tensor and decoder; for cuts of several tensors, the sums of their Gram matrices."""

    samples: Any
    rows: Rows
    seed: int
    cuts: Sequence[tuple[str, ...]]
    figures: dict[str, dict[str, float]] = field(default_factory=dict)
    elements: dict[str, int] = field(default_factory=dict)
    sums: dict[tuple[str, ...], tuple[Floats, Floats]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.flat = self.samples.reshape(len(self.samples), -1)
        self.targets = decoders.target_gram(self.flat, self.rows.fit)

    def add(self, name: str, values: Any, shape: tuple[int, ...]) -> None:
        """Measure a tensor by itself, and add it to the cuts that it crosses with others."""
        plain, scaled = decoders.grams(values, self.rows.fit)
        tried = decoders.kernel_decoders(plain, scaled, self.targets, self.rows)
        if values.shape == self.flat.shape:
            tried["elementwise"] = decoders.elementwise(values, self.flat, self.rows.fit)
        nearby = local(values, self.samples, shape, self.rows, self.seed)
        if nearby is not None:
            tried["local"] = nearby
        self.figures[name], self.elements[name] = tried, values.shape[1]
        for cut in {cut for cut in self.cuts if len(cut) > 1 and name in cut}:
            before = self.sums.get(cut, (0.0, 0.0))
            self.sums[cut] = (before[0] + plain, before[1] + scaled)

    def leakage(self, cut: tuple[str, ...], cast: Cast) -> Leakage:
        """Return a cut's figure: the best decoder of all its tensors, or of one of them alone."""
        tried = dict(self.figures[cut[0]])
        if len(cut) > 1:
            tried = decoders.kernel_decoders(*self.sums[cut], self.targets, self.rows)
            for name in cut:
                best = max(self.figures[name], key=lambda decoder: self.figures[name][decoder])
                tried[f"{best} of {name}"] = self.figures[name][best]
        best = max(tried, key=lambda decoder: tried[decoder])
        elements = sum(self.elements[name] for name in cut)
        return Leakage(tensors=cut, r2=tried[best], decoder=best, tried=tried, elements=elements, cast=cast)


def _turned(flat: Any, cast: Cast) -> Any:
    """Return what is left of ``[n, elements]`` after a cast and back."""
    import numpy as np

    if cast == "float16":
        return np.clip(flat, -LARGEST_FLOAT16, LARGEST_FLOAT16).astype(np.float16).astype(np.float32)
    if cast == "int8":
        scale = np.abs(flat).max(axis=1, keepdims=True) / 127
        scale[scale == 0] = 1
        return np.rint(flat / scale) * scale
    return flat
