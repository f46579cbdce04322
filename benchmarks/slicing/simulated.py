"""A training in slices by its seed: the shipped workers, meeting and checkpoints over simulated lines and threads."""

from __future__ import annotations

import functools
import hashlib
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from benchmarks.simulation.scheduler import START_SECONDS, HostClock, Process, Scheduler, watch_disk
from benchmarks.slicing.lines import Door, Network, Way, Weather
from benchmarks.slicing.parts import Parts, Result
from benchmarks.slicing.tiny import NETWORK, TinySlice, batches
from isthmus.errors import AttemptLost, IsthmusError
from isthmus.frameworks.sliced import cut
from isthmus.frameworks.trainable import Recipe
from isthmus.planning.slicing.passes import passes
from isthmus.workflows.slice_checkpoints import SliceCheckpoints
from isthmus.workflows.slice_meeting import Meeting
from isthmus.workflows.train_slices import Course, SliceTrainer

FINGERPRINT = "a" * 64
ROWS, STEPS, EVERY, PATIENCE_SECONDS = 12, 4, 2, 8.0
RECIPE = Recipe(samples=4, microbatches=2, seed=3)
ALONE = ((0,), ())
Division = tuple[tuple[int, ...], tuple[int, ...]]
DIVISIONS: tuple[Division, ...] = (
    ((0, 1), (2,)),
    ((0, 1, 2), (1, 3)),
    ((0, 1, 0), (1, 4)),
    ((0, 1, 2, 3), (1, 2, 3)),
)
"""Each slice's worker, and the cuts; the third is a U."""
BARE = 1
"""The worker whose disk is gone with each of its lives, in some worlds; worker 0 keeps its files."""
TROUBLE_SECONDS = 10.0
LIMIT_SECONDS = 400.0
IN_MEMORY = Path("/dev/shm")


def simulate(seed: int, *, trace: bool = False, parts: Parts | None = None) -> Result:
    """Run one world."""
    watch_disk()
    lines: list[str] = []
    with _folder() as folder:
        world = World(seed, folder, parts or Parts(), lines.append if trace else None)
        world.choose()
        result = world.run(expected())
    result.trace = lines
    return result


@functools.cache
def expected() -> dict[str, bytes]:
    """Return what one worker comes to that has every operator."""
    with _folder() as folder:
        world = World(0, folder, Parts(), None)
        world.run(None)
        return world.result()


@contextmanager
def _folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="isthmus-simulation-", dir=IN_MEMORY if IN_MEMORY.is_dir() else None))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


class World:
    """Workers, their lines and folders, and the seed's decisions."""

    def __init__(self, seed: int, folder: Path, parts: Parts, log: Callable[[str], None] | None) -> None:
        self.seed = seed
        self.folder = folder
        self.scheduler = Scheduler(seed, log)
        self.lot = self.scheduler.random
        self.network = Network(self.scheduler, Weather(), parts.incoming)
        self.violations: list[str] = []
        self.kills = 0
        self._parts = parts
        self._deaths = 0.0
        self._committed = -1
        self._alive: dict[int, Process] = {}
        self._done: set[int] = set()
        self._is_bare = False
        self._divide(ALONE)

    def _divide(self, division: Division) -> None:
        self.places, cuts = division
        self.forms = cut(NETWORK, ("loss",), cuts)
        self.course = Course(self.places, passes(self.places, RECIPE.microbatches), STEPS, EVERY)
        self.workers = tuple(sorted(set(self.places)))

    # ------------------------------------------------------------------ the seed's decisions

    def choose(self) -> None:
        """Decide on the division, and on the troubles: each is absent from half of the worlds."""
        self._divide(self.lot.choice(DIVISIONS))
        # Of a lot of its own: the troubles of a seed are those that it always had.
        self._is_bare = random.Random(self.seed).random() < 0.3
        weather = self.network.weather
        weather.breaks, weather.duplicates = self._maybe(0.03), self._maybe(0.2)
        weather.reorders, weather.slow = self._maybe(0.05), self._maybe(0.05)
        self._deaths = self._maybe(0.01)
        for worker in self.workers:
            for _ in range(self.lot.choice((0, 0, 1, 2))):
                self._later(partial(self._kill, worker))
            if self.lot.random() < 0.2:
                self._later(partial(self._stall, worker))
        for _ in range(self.lot.choice((0, 0, 2))):
            self._later(self._cut)

    def _maybe(self, most: float) -> float:
        return self.lot.random() * most if self.lot.random() < 0.5 else 0.0

    def _later(self, call: Callable[[], None]) -> None:
        self.scheduler.at(self.lot.expovariate(2.0), call)

    def _kill(self, worker: int) -> None:
        process = self._alive.get(worker)
        if process is not None and not process.dead:
            self.scheduler.trace(process.name, "KILLED")
            self._over(worker, process, None)

    def _stall(self, worker: int) -> None:
        if worker in self._alive:
            self._alive[worker].stalled_until = self.scheduler.now + self.lot.expovariate(0.3)

    def _cut(self) -> None:
        for session in self.network.sessions:
            session.drop()

    # ------------------------------------------------------------------ workers

    def _start(self, worker: int) -> None:
        if self._is_bare and worker == BARE:
            shutil.rmtree(self.folder / f"worker-{worker}", ignore_errors=True)
        process = Process(f"worker-{worker}", self.scheduler)
        self._alive[worker] = process
        process.may_die = lambda where: self._dies(worker, process, where)
        process.failed = lambda strand, error: self._say(f"{process.name}, {strand}: {error!r}")
        process.start("main", lambda: self._work(worker, process))

    def _dies(self, worker: int, process: Process, where: str) -> bool:
        # Few steps are durable, and those that die between them are worth more.
        if self.lot.random() >= self._deaths * (5 if where.startswith("os.") else 1):
            return False
        self.scheduler.at(0.0, partial(self._over, worker, process, None))
        return True

    def _work(self, worker: int, process: Process) -> None:
        trainer, meeting = self._worker(worker, process)
        code = 0
        try:
            trainer.run()
        except AttemptLost:
            code = 75
        except IsthmusError as error:
            code = error.exit_code
            self._say(f"worker {worker} cannot go on: {type(error).__name__}: {error}")
        meeting.close()
        self.scheduler.at(0.0, partial(self._over, worker, process, code))

    def _over(self, worker: int, process: Process, code: int | None) -> None:
        """A process has ended, or is killed now; whoever watches over it starts it again if that may help."""
        if self._alive.get(worker) is not process:
            return
        del self._alive[worker]
        process.kill()
        # What a process sent before it ended well still arrives.
        self.scheduler.at(0.0 if code is None else 0.1, partial(self.network.died, process))
        self.scheduler.trace(process.name, "ended", code=code)
        self.kills += code is None
        # Whose disk is gone does not know of the end any more; who kept its files has left.
        is_needless = code == 75 and self._is_bare and worker == BARE and 0 in self._done
        if code in (None, 75) and not is_needless:
            self.scheduler.at(self.lot.random() * 2.0, partial(self._start, worker))
        else:
            self._done.add(worker)

    def _worker(self, worker: int, process: Process) -> tuple[SliceTrainer, Meeting]:
        near = {
            other
            for form in self.forms
            for target in form.targets()
            for pair in [{self.places[form.number], self.places[target]}]
            if worker in pair
            for other in pair - {worker}
        }
        say = partial(self.scheduler.trace, process.name)
        meeting = self._parts.meeting(
            worker,
            FINGERPRINT,
            {other: Way(self.network, process, other) for other in sorted(near) if other < worker},
            frozenset(other for other in near if other > worker),
            Door(self.network, worker, process),
            process,
            HostClock(self.scheduler),
            say,
        )
        checkpoints = self._parts.checkpoints(self.folder / f"worker-{worker}", FINGERPRINT)
        checkpoints.world = self
        mine = {k: self._slice(k, process) for k, place in enumerate(self.places) if place == worker}
        trainer = self._parts.trainer(
            worker, mine, self.course, meeting, checkpoints, batches(ROWS, RECIPE), PATIENCE_SECONDS, say
        )
        trainer.is_kept_by_first = self._is_bare and worker == BARE
        return trainer, meeting

    def _slice(self, number: int, process: Process) -> TinySlice:
        def pass_() -> None:
            self.scheduler.pause(self.lot.random() * 0.02)
            process.die("in a pass")

        return TinySlice(self.forms[number], pass_)

    # ------------------------------------------------------------------ what must hold

    def _held(self, number: int) -> SliceCheckpoints:
        place = self.places[number]
        keeper = 0 if self._is_bare and place == BARE else place
        return SliceCheckpoints(self.folder / f"worker-{keeper}", FINGERPRINT)

    def commits(self, step: int, files: Mapping[str, str]) -> None:
        """A commit names what every slice has on its disk, and none goes back."""
        if sorted(files) != [str(k) for k in range(len(self.places))]:
            self._say(f"step {step} is committed with the slices {sorted(files)} alone")
        for number, sha256 in files.items():
            path = self._held(int(number)).path(int(number), step)
            if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
                self._say(f"step {step} is committed, which slice {number} has not on its disk")
        if step < self._committed:
            self._say(f"step {step} is committed after step {self._committed}")
        self._committed = max(self._committed, step)

    def reads(self, number: int, step: int) -> None:
        """Who goes on, goes on from the committed step."""
        held = SliceCheckpoints(self.folder / "worker-0", FINGERPRINT).committed()
        if held is None or held.step != step:
            self._say(f"slice {number} goes on from step {step}; {held and held.step} is committed")

    def result(self) -> dict[str, bytes]:
        """Return every array of the committed step."""
        commit = SliceCheckpoints(self.folder / "worker-0", FINGERPRINT).committed()
        if commit is None:
            return {}
        found = {"step": bytes([commit.step])}
        for number, sha256 in commit.files.items():
            state = self._held(int(number)).read(int(number), commit.step, sha256)
            found.update({name: array.tobytes() for name, array in state.items()})
        return found

    def run(self, wanted: Mapping[str, bytes] | None) -> Result:
        """Drive it to the end, and compare with what is wanted."""
        for worker in self.workers:
            self.scheduler.at(self.lot.random() * 0.5, partial(self._start, worker))
        calm_at = START_SECONDS + TROUBLE_SECONDS
        self.scheduler.run(calm_at, self._is_over)
        self.network.weather.clear()
        self._deaths = 0.0
        self.scheduler.trace("world", "calm")
        ended = self.scheduler.run(calm_at + LIMIT_SECONDS, self._is_over)
        if not ended:
            self._say(
                f"of {len(self.workers)} workers {sorted(self._done)} have ended {LIMIT_SECONDS:.0f} s later"
            )
        elif wanted is not None and not self.violations:
            self._compare(wanted)
        for process in self._alive.values():
            process.kill()
        seconds = self.scheduler.now - START_SECONDS
        return Result(
            self.seed, self.violations, self.kills, self.network.breaks, self.scheduler.turns, seconds
        )

    def _compare(self, wanted: Mapping[str, bytes]) -> None:
        for folder in sorted(self.folder.glob("worker-*/slice-*")):
            # A life that ends between a commit and what it removes for it leaves one more.
            if len(left := sorted(path.name for path in folder.iterdir())) > 2:
                self._say(f"{folder.name} is left with {', '.join(left)}")
        found = self.result()
        if different := [name for name in wanted if found.get(name) != wanted[name]]:
            self._say(f"not the undisturbed training's: {', '.join(different)}")

    def _is_over(self) -> bool:
        return len(self._done) == len(self.workers) or len(self.violations) > 0

    def _say(self, violation: str) -> None:
        self.scheduler.trace("VIOLATED", violation)
        self.violations.append(violation)
