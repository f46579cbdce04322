"""PyTorch: its scripts are trained, on several GPUs by its own launcher; exported programs are read for planning."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from isthmus.frameworks.port import Reference

SAVED = "model.pt2"
"""What ``torch.export.save`` writes: a program that needs none of the script's classes, and no pickle to read."""


class Torch:
    """The port's PyTorch side; its parts are imported when they are needed."""

    module = "torch"
    launchers: tuple[str, ...] = ("torch_distributed",)
    # All processes are on this machine: nothing goes over its network, nor needs its name to be resolved.
    launch_variables: Mapping[str, str] = MappingProxyType(
        {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}
    )

    def prepare(self) -> None:
        """PyTorch needs no repairs."""

    def launch(self, launcher: str, python: str, processes: int) -> list[str]:
        """``torchrun`` on this machine alone; each process then is one of ours (docs.pytorch.org, "torchrun")."""
        run = [python, "-P", "-m", "torch.distributed.run"]
        return [*run, "--standalone", f"--nproc-per-node={processes}", "--no-python"]

    def is_saved(self, model_dir: Path) -> bool:
        return (model_dir / SAVED).is_file()

    def load(self, model_dir: Path) -> Reference:
        from isthmus.frameworks.torch.saved import SavedProgram

        return SavedProgram.read(model_dir / SAVED)

    def export(self, model_dir: Path, target: Path) -> None:
        from isthmus.frameworks.torch.saved import SavedProgram

        SavedProgram.read(model_dir / SAVED).export(target)

    def how_to_save(self) -> str:
        return (
            "call torch.export.save(torch.export.export(net.eval(), (example,), dynamic_shapes=…), "
            f'os.path.join(args.model_dir, "{SAVED}")), in the process of rank 0 alone'
        )


FRAMEWORK = Torch()
