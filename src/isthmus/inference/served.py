"""One model in service: its bundle's description and the engine that runs it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from isthmus.errors import InvalidInput, InvalidModel, InvalidRequest
from isthmus.inference.datatypes import NUMPY
from isthmus.inference.output_size import check_size_of_outputs
from isthmus.inference.processing import postprocess, preprocess
from isthmus.model.bundle import BundleManifest, TensorSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from isthmus.ports import Engine

    class LoadableEngine(Engine, Protocol):
        """An engine that can be made ready before its first request."""

        def load(self) -> object:
            """Raises InvalidModel when it cannot serve."""


class Placed(msgspec.Struct, frozen=True):
    """What an engine gave, and what it has to tell of how: parameters of the response."""

    outputs: dict[str, Any]
    parameters: dict[str, Any] = {}


class PlacingEngine(Protocol):
    """An engine that runs a request in one of several places."""

    def run_placed(self, inputs: Mapping[str, Any], parameters: Mapping[str, Any]) -> Placed:
        """Run the model; ``parameters`` are the request's. Raises as ``ports.Engine`` does."""


class ServedModel(msgspec.Struct, frozen=True):
    """A bundle's manifest with its engine; ``bundle_sha256`` names the bundle."""

    manifest: BundleManifest
    engine: LoadableEngine
    bundle_sha256: str = ""

    @property
    def name(self) -> str:
        """The model's name in paths."""
        return self.manifest.model

    @property
    def version(self) -> str:
        """The version in paths: the bundle's release number."""
        return str(self.manifest.release)

    def expected_inputs(self, *, raw: bool) -> tuple[TensorSpec, ...]:
        """Return what a request must bring: the model's inputs, or the one raw input.

        Raises:
            InvalidRequest: ``raw``, and the bundle describes no raw form.
        """
        if not raw:
            return self.manifest.inputs
        if self.manifest.raw is None or len(self.manifest.inputs) != 1:
            raise InvalidRequest(f"model {self.name!r} has no raw form: send its inputs without 'preprocess'")
        return (self.manifest.raw,)

    def run(self, arrays: Mapping[str, NDArray[Any]], *, raw: bool) -> dict[str, NDArray[Any]]:
        """Run the model; ``raw`` arrays go through the bundle's pre-processing first.

        Raises:
            InvalidRequest: the engine refuses the values.
            PayloadTooLarge: the outputs would be too large.
            InvalidModel: the model fails, or the bundle's steps do not lead to its input.
        """
        return self.answer(arrays, {}, raw=raw).outputs

    def answer(
        self, arrays: Mapping[str, NDArray[Any]], parameters: Mapping[str, Any], *, raw: bool
    ) -> Placed:
        """As ``run``, for a request with parameters of its own."""
        check_size_of_outputs(arrays, self.manifest.outputs)
        ready = self._prepared(arrays) if raw else arrays
        # To ask whether it is a PlacingEngine takes longer than to read a request.
        if run_placed := getattr(self.engine, "run_placed", None):
            placed: Placed = run_placed(ready, parameters)
            return placed
        return Placed(self.engine.run(ready))

    def _prepared(self, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        spec = self.manifest.inputs[0]
        (array,) = arrays.values()
        try:
            ready = preprocess(array, self.manifest.preprocessing)
        except InvalidInput as error:
            raise InvalidRequest(f"the raw input does not fit the pre-processing: {error}") from error
        if str(ready.dtype) != NUMPY[spec.datatype] or not _fits(ready.shape, spec.shape):
            raise InvalidModel(
                f"the pre-processing gives {ready.dtype} {list(ready.shape)}, "
                f"but input {spec.name!r} is {spec.datatype} {list(spec.shape)}"
            )
        return {spec.name: ready}

    def finish(self, outputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return what the bundle's post-processing makes of the model's first output.

        Raises:
            InvalidModel: its steps do not fit the output, or use one of the model's output names.
        """
        try:
            extra = postprocess(outputs[self.manifest.outputs[0].name], self.manifest.postprocessing)
        except InvalidInput as error:
            raise InvalidModel(f"the post-processing does not fit the model's output: {error}") from error
        if taken := sorted(set(extra) & set(outputs)):
            raise InvalidModel(f"the post-processing would replace the model's output {taken[0]!r}")
        return extra


def _fits(shape: tuple[int, ...], needed: tuple[int, ...]) -> bool:
    return len(shape) == len(needed) and all(
        want in (-1, size) for want, size in zip(needed, shape, strict=True)
    )
