"""Apache MXNet 1.9.1: the last release of a retired project, and what this system's users train with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from isthmus.errors import InvalidJob
from isthmus.frameworks.port import Reference


class MXNet:
    """The port's MXNet side; its parts are imported when they are needed."""

    module = "mxnet"
    launchers: tuple[str, ...] = ()
    """Several GPUs are one process's (``kvstore="device"``); the wheel has no launcher (``tools/launch.py``)."""
    launch_variables: Mapping[str, str] = MappingProxyType({})

    def prepare(self) -> None:
        from isthmus.frameworks.mxnet import shim

        shim.apply()

    def launch(self, launcher: str, python: str, processes: int) -> list[str]:
        raise InvalidJob(f"mxnet has no launcher {launcher}")

    def is_saved(self, model_dir: Path) -> bool:
        return (model_dir / "model-symbol.json").is_file()

    def load(self, model_dir: Path) -> Reference:
        from isthmus.frameworks.mxnet.saved import SavedModel

        return SavedModel.read(model_dir)

    def export(self, model_dir: Path, target: Path) -> None:
        from isthmus.frameworks.mxnet.export import export
        from isthmus.frameworks.mxnet.saved import SavedModel

        export(SavedModel.read(model_dir), target)

    def how_to_save(self) -> str:
        return (
            'call net.export(os.path.join(args.model_dir, "model")) on a hybridized network and write '
            'model-shapes.json, for example [{"name": "data", "shape": [1, 3, 224, 224]}]'
        )


FRAMEWORK = MXNet()
