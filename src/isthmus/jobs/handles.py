"""What ``submit`` returns: a job to look at, to wait for, and to take the executed notebook from."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING

from isthmus.errors import MissingFile
from isthmus.frameworks.notebook import is_notebook
from isthmus.jobs.bars import Look, bar
from isthmus.model.output import DATA
from isthmus.ports import BlobStore, Clock, Records
from isthmus.workflows.fetch_output import OF_A_NOTEBOOK, Fetched, fetch_output
from isthmus.workflows.follow_job import Pipeline, until_ended
from isthmus.workflows.show_pipeline import Shown, show_pipeline

if TYPE_CHECKING:
    from isthmus.rig.local_run import LocalRun

LOOK_SECONDS = 0.5
RUNNING = ("WAITING", "RUNNING")


class LocalHandle:
    """A job that runs on this machine. ``out`` is where what it leaves goes once it has ended."""

    def __init__(self, run: LocalRun, entry: str, out: Path) -> None:
        self._run, self.entry, self.out = run, entry, out

    def __repr__(self) -> str:
        return f"<{self.entry} on this machine: {self.status}>"

    @property
    def status(self) -> str:
        """RUNNING, SUCCEEDED, FAILED or ABORTED."""
        return self._run.state

    @property
    def error(self) -> str:
        """Why it failed, or an empty text."""
        return self._run.cause

    @property
    def metrics(self) -> dict[str, float]:
        """What it printed as ``name=value``, the newest of each."""
        return self._run.metrics

    def wait(self, *, progress: bool = True) -> str:
        """Wait for the end and return the status; interrupted, stop it and wait for that."""
        with bar(self.entry) if progress else bar("") as shown:
            try:
                while not self._run.wait(LOOK_SECONDS):
                    shown.tell(Look(self.status, self.metrics))
            except KeyboardInterrupt:
                self._run.stop()
                self._run.wait()
                raise
            shown.tell(Look(self.status, self.metrics))
        return self.status

    def stop(self) -> None:
        """End it: SIGTERM now, SIGKILL after the grace."""
        self._run.stop()

    def notebook(self) -> Path:
        """Return the executed notebook, also that of a run that failed.

        Raises:
            MissingFile: it runs still, or is no notebook, or ended before a cell ran.
        """
        return _there(self.out, self.entry, self._run.left, f"its log is in {self.out}")


class StackHandle:
    """A job of a stack, by its key: ``isthmus job show KEY`` shows it, too."""

    def __init__(
        self,
        job_key: str,
        entry: str,
        out: Path,
        pipeline: Pipeline,
        records: Records,
        blobs: BlobStore,
        clock: Clock,
    ) -> None:
        self.job_key, self.entry, self.out = job_key, entry, out
        self._pipeline, self._records, self._blobs, self._clock = pipeline, records, blobs, clock

    def __repr__(self) -> str:
        return f"<{self.entry}, job {self.job_key}: {self.status}>"

    def look(self) -> Shown:
        """Return all that there is to see of it."""
        return show_pipeline(self.job_key, self._pipeline, self._records, self._blobs)

    @property
    def status(self) -> str:
        """WAITING, RUNNING, DEPLOYED, REJECTED, FAILED or ABORTED."""
        return self.look().job.state

    @property
    def error(self) -> str:
        """Why it failed, or was not shipped; else an empty text."""
        job = self.look().job
        return f"{job.error}: {job.cause}" if job.error else ("" if job.state in RUNNING else job.reason)

    @property
    def metrics(self) -> dict[str, float]:
        """What it printed as ``name=value``, the newest of each, within seconds."""
        return self.look().metrics

    def wait(self, *, progress: bool = True, tell: Callable[[Shown], None] = lambda found: None) -> str:
        """Wait for the end and return the status; interrupted, the job goes on. ``tell`` hears each look."""
        with bar(self.entry) if progress else bar("") as shown:

            def look() -> Shown:
                found = self.look()
                shown.tell(Look(found.job.step or found.job.state, found.metrics))
                tell(found)
                return found

            return until_ended(look, lambda found: found.job.state, self._clock).job.state

    def stop(self, reason: str = "stopped by isthmus.submit's handle") -> None:
        """Stop it."""
        self._pipeline.stop(self.job_key, reason)

    def fetch(self) -> Fetched:
        """Bring what the newest attempt left beside its model to ``out``. Raises MissingFile: nothing yet."""
        return fetch_output(self.job_key, self._records, self._blobs, self.out, OF_A_NOTEBOOK)

    def notebook(self) -> Path:
        """Return the executed notebook, also that of a run that failed; it is brought to ``out``.

        Raises:
            MissingFile: no attempt has ended yet, or the notebook may not leave its rig: then it says where it lies.
        """
        return self.executed(self.fetch())

    def executed(self, fetched: Fetched) -> Path:
        """Return the executed notebook among what was fetched. Raises as ``notebook``."""
        if fetched.withheld:
            raise MissingFile(
                f"the executed {self.entry} may not leave its rig by the data policy: it stays on {fetched.rig}, in "
                f"{fetched.withheld}"
            )
        return _there(self.out, self.entry, fetched.files, f"see `isthmus job show {self.job_key}`")


def _there(out: Path, entry: str, left: Collection[str], otherwise: str) -> Path:
    """Return where the executed notebook is, if it is among what this run left: another's may lie there too."""
    if not is_notebook(entry):
        raise MissingFile(f"{entry} is a script, which leaves no notebook")
    path = out / DATA / entry
    if f"{DATA}{entry}" not in left or not path.is_file():
        raise MissingFile(
            f"{entry} left no executed notebook in {out}: it ended before a cell ran; {otherwise}"
        )
    return path
