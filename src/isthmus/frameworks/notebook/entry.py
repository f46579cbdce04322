"""Run the notebook that lies beside this file as a training script: ``train.ipynb`` beside ``train.ipynb.py``.

This file travels in the code archive and needs nothing but papermill and ipykernel, so it runs unchanged on a rig, on
SageMaker and on a laptop. It takes the notebook's parameters from ``SM_HPS`` (typed values, ``learning-rate`` as
``learning_rate``), and leaves the executed notebook in ``SM_OUTPUT_DATA_DIR``, also when a cell fails: then it names
the cell in ``SM_OUTPUT_DIR/failure`` and leaves with exit code 1. SIGTERM interrupts the running cell, as Jupyter's
stop button does (``KeyboardInterrupt``); no further cell is begun, and the exit code is 143.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tempfile
from typing import Any, NoReturn

SELF = os.path.abspath(__file__)
NOTEBOOK = os.path.splitext(SELF)[0]
INJECTED = "injected-parameters"
"""papermill's tag of the cell that it puts behind the one tagged ``parameters``."""
STOPPED = 128 + signal.SIGTERM


class Stopped(Exception):
    """SIGTERM came."""


def parameters() -> dict[str, Any]:
    """Return the job's hyperparameters by the names that they have in Python."""
    given = json.loads(os.environ.get("SM_HPS", "{}"))
    return {name.replace("-", "_"): value for name, value in given.items()}


def prepared_framework() -> list[str]:
    """Return the kernel's arguments that repair the job's framework at its first import, where isthmus knows how."""
    name = os.environ.get("ISTHMUS_FRAMEWORK")
    if not name:
        return []
    line = f"__import__('isthmus.frameworks.launch', fromlist=['launch']).install_named({name!r})"
    return [f"--IPKernelApp.exec_lines={line}"]


class Run:
    """One run of the notebook, cell by cell."""

    def __init__(self, cells: list[dict[str, Any]], given: dict[str, Any], folder: str) -> None:
        from jupyter_client.manager import AsyncKernelManager

        self.cells, self.given, self.stopped = cells, given, False
        # Sockets that are files: nothing listens on a port, and the path is short enough for one (unix(7): 108 bytes).
        self.kernel = AsyncKernelManager(
            kernel_name="python3", transport="ipc", connection_file=os.path.join(folder, "kernel.json")
        )

    def execute(self, output: str) -> None:
        """Raises papermill's PapermillExecutionError: a cell failed; Stopped: SIGTERM came."""
        import papermill

        papermill.execute_notebook(
            NOTEBOOK,
            output,
            parameters=self.given,
            kernel_name="python3",
            language="python",
            cwd=os.path.dirname(NOTEBOOK),
            progress_bar=False,
            stdout_file=sys.stdout,
            stderr_file=sys.stderr,
            km=self.kernel,
            extra_arguments=prepared_framework(),
            on_cell_start=self._begin,
            on_cell_executed=self._end,
        )

    async def close(self) -> None:
        """End the kernel; one that was given to papermill is not its to end."""
        await self.kernel.shutdown_kernel(now=True)

    async def _begin(self, cell: Any, cell_index: int) -> None:
        # nbclient's own handler would kill the kernel with whatever the cell could still save.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._stop)
        if self.stopped:
            raise Stopped

    async def _end(self, cell: Any, cell_index: int, execute_reply: Any) -> None:
        if execute_reply["content"]["status"] != "ok":
            return
        total = len(self.cells) + self._is_injected()
        sys.stdout.write(f"notebook_progress={min(1.0, (cell_index + 1) / total):.4g}\n")
        sys.stdout.flush()

    def _stop(self) -> None:
        self.stopped = True
        self.interrupt = asyncio.ensure_future(self.kernel.interrupt_kernel())

    def _is_injected(self) -> bool:
        """Whether papermill adds a cell to the author's."""
        return bool(self.given) and not any(INJECTED in tags(cell) for cell in self.cells)

    def number(self, index: int) -> int:
        """Return which of the author's cells it is, from 1, by its place in what was executed."""
        own = next((place for place, cell in enumerate(self.cells) if "parameters" in tags(cell)), -1)
        return index + 1 - (self._is_injected() and index > own)


def tags(cell: dict[str, Any]) -> list[str]:
    """Return a cell's tags."""
    return list(cell.get("metadata", {}).get("tags", []))


def fail(text: str) -> NoReturn:
    """Say why on standard error and in the failure file of the SageMaker contract, and leave with exit code 1."""
    folder = os.environ.get("SM_OUTPUT_DIR")
    if folder:
        with open(os.path.join(folder, "failure"), "w", encoding="utf-8") as file:
            file.write(text + "\n")
    sys.exit(text)


def main() -> None:
    try:
        from nbclient.exceptions import DeadKernelError
        from papermill.exceptions import PapermillExecutionError
    except ImportError as error:
        fail(f"a notebook needs papermill and ipykernel where it runs, and {error.name} is missing")
    name = os.path.basename(NOTEBOOK)
    with open(NOTEBOOK, encoding="utf-8") as file:
        cells = json.load(file)["cells"]
    output = os.path.join(os.environ.get("SM_OUTPUT_DATA_DIR", "output"), name)
    os.makedirs(os.path.dirname(output), exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="nb") as folder:
        run = Run(cells, parameters(), folder)
        try:
            run.execute(output)
        except PapermillExecutionError as error:
            if run.stopped:
                sys.exit(STOPPED)
            where = f"cell {run.number(error.cell_index)} of {name}"
            fail(f"{error}\n{where} failed: {error.ename}: {error.evalue}")
        except Stopped:
            sys.exit(STOPPED)
        except DeadKernelError:
            fail(f"the kernel of {name} died, of too little memory perhaps: {output} has what ran before")
        finally:
            asyncio.run(run.close())


if __name__ == "__main__":
    main()
