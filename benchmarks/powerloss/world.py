"""A device's model store on a disk that loses power, and what must hold at the next start."""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks.powerloss.disk import KEEPING, Disk, PowerLost, Recorder, Step
from isthmus import documents
from isthmus.adapters.local.signer import MemorySigner
from isthmus.edge.model_store import MAX_ATTEMPTS, InService, ModelStore
from isthmus.edge.trust import Papers
from isthmus.errors import IsthmusError
from isthmus.inference.archive import pack_bundle
from isthmus.inference.bundle import Bundle, describe_files, seal_bundle
from isthmus.inference.onnx_model import describe_onnx
from isthmus.inference.signed import seal
from isthmus.model.bundle import MANIFEST_FILE, BundleManifest, Golden, Lineage
from isthmus.model.signing import KeyDocument, ReleaseDocument

INPUT = np.float32([[1, 2, 3, 4]])
AGAIN = 3
"""Of the points, one in so many loses power a second time, while it recovers from the first."""


@dataclass(frozen=True)
class Release:
    """An artifact, the digests of what is in it, and what its model answers to ``INPUT``."""

    artifact: Path
    files: dict[str, str]
    answer: list[float]


def make_release(folder: Path, signer: MemorySigner, release: int, seed: int) -> Release:
    """Write the artifact of a small linear model with one golden."""
    bundle = folder / f"bundle{release}-{seed}"
    (bundle / "golden").mkdir(parents=True)
    weights = np.random.default_rng(seed).random((4, 3), np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(weights, "w")],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8),
        bundle / "model.onnx",
    )
    np.save(bundle / "golden/in.npy", INPUT)
    np.save(bundle / "golden/out.npy", INPUT @ weights)
    inputs, outputs, opset = describe_onnx(bundle / "model.onnx")
    manifest = BundleManifest(
        model="gate",
        release=release,
        files=describe_files(bundle),
        opset=opset,
        inputs=inputs,
        outputs=outputs,
        goldens=(Golden(inputs="golden/in.npy", expected="golden/out.npy"),),
        lineage=Lineage(job_key="0" * 64),
        created_at="2026-01-01T00:00:00Z",
    )
    seal_bundle(bundle, manifest, signer)
    packed = pack_bundle(bundle, folder / f"{release}-{seed}.zip")
    return Release(packed.path, digests(bundle), [float(value) for value in (INPUT @ weights)[0]])


def digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file, whoever says that they are verified."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@dataclass
class Case:
    """An update from what a folder holds: which artifact arrives with which papers, and what must serve after it."""

    name: str
    device: Path
    before: Release | None
    after: Release
    papers: Papers = field(default_factory=Papers)
    proof: Callable[[Bundle], object] = lambda bundle: None


def cases(folder: Path) -> tuple[MemorySigner, list[Case]]:
    """Return the key's owner, and: a first model, an update, a rollback, and an update by a new key."""
    signer, second = MemorySigner(), MemorySigner()
    old, new = make_release(folder, signer, 1, 1), make_release(folder, signer, 2, 2)
    rotated = make_release(folder, second, 3, 3)
    for name in ("first", "update", "rollback", "rotation"):
        (folder / name).mkdir()
    key = signer.public_key()
    for name, releases in (("update", [old]), ("rollback", [old, new]), ("rotation", [old])):
        for release in releases:
            ModelStore(folder / name / "store", key).update(release.artifact, lambda bundle: None)
    keys = seal(KeyDocument(version=1, keys=(key, second.public_key())), [signer, second])
    bundle = old.files[MANIFEST_FILE]
    back = seal(ReleaseDocument(model="gate", release=3, bundle=bundle), [signer])
    return signer, [
        Case("a first model", folder / "first", None, new),
        Case("an update", folder / "update", old, new),
        Case("a rollback", folder / "rollback", new, old, Papers(release=back)),
        Case("an update by a new key", folder / "rotation", old, rotated, Papers(keys=[keys])),
    ]


@dataclass
class Found:
    """What was seen: how often each rule was broken, and on how many points."""

    points: int = 0
    broken: Counter[str] = field(default_factory=Counter)
    most_attempts: int = 0
    steps: int = 0
    said: list[str] = field(default_factory=list)


class World:
    """Loses power at points that a seed chooses; ``deaf_to``: see ``Recorder``, for a disk that lies."""

    def __init__(self, folder: Path, seed: int, deaf_to: str = "") -> None:
        self._folder, self._random, self._deaf_to = folder, Random(seed), deaf_to
        (folder / "made").mkdir(parents=True)
        signer, self.cases = cases(folder / "made")
        self.public_key = signer.public_key()
        self._traces = {case.name: self._record(case.device, case) for case in self.cases}
        self.found = Found(steps=sum(len(steps) for steps in self._traces.values()))

    def lose(self, points: int) -> Found:
        """Lose power at that many points of the cases' updates, and see what the next start makes of each."""
        for number in range(points):
            case = self.cases[number % len(self.cases)]
            self._at_one_point(case, again=number % AGAIN == 0)
        return self.found

    def lose_in_every_proof(self, rounds: int) -> Found:
        """Lose power whenever a proof begins: how often is a candidate tried?"""
        for _ in range(rounds):
            begun = self._proofs_begun(self.cases[1])
            self.found.most_attempts = max(self.found.most_attempts, begun)
            self.found.broken["tried too often"] += begun > MAX_ATTEMPTS
        return self.found

    def _proofs_begun(self, case: Case) -> int:
        device, begun = case.device, []

        def dies(bundle: Bundle) -> None:
            begun.append(bundle.sha256)
            raise PowerLost

        for _ in range(MAX_ATTEMPTS + 3):
            steps = self._record(device, case, dies)
            device = self._left(device, steps, len(steps))
            self._start(device, case, None)
        return len(begun)

    def _record(
        self, device: Path, case: Case, proof: Callable[[Bundle], object] | None = None
    ) -> list[Step]:
        """Return the steps of an update, which is made on a copy."""
        copy = self._fresh()
        shutil.copytree(device, copy, symlinks=True)

        def update() -> None:
            self._store(copy, case).update(case.after.artifact, proof or case.proof)

        steps = Recorder(copy, self._deaf_to).record(update)
        shutil.rmtree(copy)
        return steps

    def _at_one_point(self, case: Case, *, again: bool) -> None:
        steps, device = self._traces[case.name], case.device
        stop = self._random.randint(0, len(steps))
        device, times = self._left(device, steps, stop), 1
        if again:
            recovery = self._record(device, case)
            device, times = self._left(device, recovery, self._random.randint(0, len(recovery))), 2
        self.found.points += 1
        committed = stop == len(steps) and not again
        serving = self._start(device, case, None)
        self.found.broken["forgotten"] += committed and serving != 1
        if serving == 1 and case.before is not None and not case.papers.release:
            self.found.broken["replayed"] += self._start(device, case, case.before.artifact) != 1
        serving = self._start(device, case, case.after.artifact)
        # It may be given up where it was being proven each time that the power went.
        self.found.broken["stuck"] += serving != 1 and times < MAX_ATTEMPTS
        shutil.rmtree(device)

    def _left(self, device: Path, steps: list[Step], stop: int) -> Path:
        """Return a folder of what may be left of a device's disk after so many steps."""
        disk, into = Disk(device), self._fresh()
        for step in steps[:stop]:
            disk.do(step)
        disk.lose_power(into, self._random.choice(KEEPING), self._random)
        return into

    def _start(self, device: Path, case: Case, artifact: Path | None) -> int | None:
        """Start anew; return what serves, 0 the old model and 1 the new one, and count what must not be."""
        releases = [case.before, case.after]
        try:
            in_service = self._store(device, case).update(artifact, case.proof)
        except (IsthmusError, OSError) as error:
            if not (artifact is None and case.before is None):
                self.found.broken["unserved"] += 1
                self.found.said.append(f"{case.name}: {type(error).__name__}: {error}")
            return None
        serving = next(
            (number for number, release in enumerate(releases) if self._is(in_service, release)), None
        )
        if serving is None:
            self.found.broken["unverified"] += 1
        return serving

    def _is(self, in_service: InService, release: Release | None) -> bool:
        return release is not None and digests(in_service.bundle.folder) == release.files

    def _store(self, device: Path, case: Case) -> ModelStore:
        return ModelStore(device / "store", self.public_key, case.papers)

    def _fresh(self) -> Path:
        return self._folder / documents.sha256(self._random.randbytes(16))[:16]
