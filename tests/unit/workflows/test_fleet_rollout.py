"""A fleet of 200 devices under a simulated clock: a model that answers worse than it was judged stays with canaries.

What ships, looks and takes back is the product's, and so is what takes in and counts the devices' results. Simulated
are the clock, Greengrass, and what the devices see and infer. Accuracy itself is not seen without labels: a model whose
wrong answers spread as its right ones do, with the same confidence, would go on to everybody.
"""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
import pytest
from workflow_world import EDGE, World, pattern

from isthmus.adapters.local.blobs import DirectoryBlobStore
from isthmus.adapters.local.fleet import MemoryFleet
from isthmus.adapters.local.functions import MemoryFunctions
from isthmus.errors import EdgeDeploymentFailed
from isthmus.model import layout
from isthmus.model.drift import describe_answers
from isthmus.model.results import Answered, Batch, Numbered, Prediction, Result
from isthmus.ports import EdgeStatus
from isthmus.workflows.deploy_edge import EdgeProgress, check_edge, deploy_edge
from isthmus.workflows.ingest_results import ingest_results

MODEL, CLASSES = "digits", 10
DEVICES, CANARIES = 200, 10
LOOK_SECONDS = 10
ANSWERS_EACH = 60
"""Of a device between two looks."""
CHANGE_SECONDS = 20
"""At most, until a device that hears of a deployment has it."""


class Device:
    """One that infers all the time, by whichever release it has. ``accuracy``: by release."""

    def __init__(self, name: str, seed: int, accuracy: dict[int, float]) -> None:
        self.name, self.release, self.ever = name, 0, set[int]()
        self._outbox = f"{seed:032x}"
        self._random, self._accuracy, self._last = random.Random(seed), accuracy, 0
        self.delay = self._random.uniform(1, CHANGE_SECONDS)

    def take(self, release: int) -> None:
        self.release = release
        self.ever.add(release)

    def answers(self, now: float) -> Batch:
        """A classifier that is wrong says one class more often than others, and is less sure."""
        results = []
        for _ in range(ANSWERS_EACH):
            right = self._random.random() < self._accuracy[self.release]
            index = self._random.randrange(CLASSES) if right else 1
            sure = self._random.uniform(0.9, 1.0) if right else self._random.uniform(0.3, 0.7)
            told = Answered(
                way="local", latency_ms=2, predictions=(Prediction(index=index, confidence=sure),)
            )
            self._last += 1
            result = Result(
                model=MODEL,
                release=self.release,
                at_ms=int(now * 1000),
                outputs=msgspec.Raw(msgspec.json.encode(told)),
            )
            results.append(Numbered(sequence=self._last, result=result))
        return Batch(device=self.name, outbox=self._outbox, results=results)


class Fleet:
    """All devices, Greengrass, and the cloud's records; ``now`` in seconds."""

    def __init__(self, world: World, folder: Path, accuracy: dict[int, float]) -> None:
        self.world, self.now = world, 0.0
        self.greengrass, self.functions = MemoryFleet(), MemoryFunctions()
        self.functions.install("edge", pattern())
        self.blobs = DirectoryBlobStore(folder)
        devices = [Device(f"shop-{number}", number, accuracy) for number in range(DEVICES)]
        self.groups = {EDGE.edge_canaries: devices[:CANARIES], EDGE.edge_target: devices[CANARIES:]}
        self.greengrass.cores = {
            target: {device.name: "HEALTHY" for device in group} for target, group in self.groups.items()
        }
        self._heard: dict[str, float] = {}
        judged = random.Random(7)
        for release in accuracy:
            baseline = describe_answers(
                [judged.randrange(CLASSES) for _ in range(2000)],
                [judged.uniform(0.9, 1.0) for _ in range(2000)],
            )
            item = {"answers": msgspec.to_builtins(baseline), "bundle": "b"}
            world.records.put({"pk": layout.model_pk(MODEL), "sk": layout.release_sk(release), **item})

    @property
    def devices(self) -> list[Device]:
        return [device for group in self.groups.values() for device in group]

    def ship(self, release: int) -> EdgeProgress:
        """As the states do: deploy, look, and once more when told so."""
        while True:
            deployment = self.deploy(release)
            while not (progress := self.look(deployment, release)).done:
                if progress.again:
                    break
            if not progress.again:
                return progress

    def deploy(self, release: int) -> str:
        return deploy_edge(
            MODEL,
            f"{release}" * 64,
            release,
            f"run-{release}",
            settings=EDGE,
            functions=self.functions,
            fleet=self.greengrass,
            records=self.world.records,
            signer=self.world.signer,
            clock=self.now,
        ).deployment

    def look(self, deployment: str, release: int) -> EdgeProgress:
        self.now += LOOK_SECONDS
        self.live()
        return check_edge(
            deployment,
            MODEL,
            release,
            f"run-{release}",
            settings=EDGE,
            fleet=self.greengrass,
            records=self.world.records,
            signer=self.world.signer,
            clock=self.now,
        )

    def live(self) -> None:
        """Devices take what their group was sent, infer, and send what came of it."""
        for target, group in self.groups.items():
            deployment, components = self.greengrass.latest(target)
            if not components:
                continue
            wanted = int(components[f"shop.{MODEL}.model"].partition(".")[0])
            heard = self._heard.setdefault(deployment, self.now - LOOK_SECONDS)
            for device in group:
                if self.now - heard >= device.delay and device.release != wanted:
                    device.take(wanted)
                if device.release:
                    self._ingest(device)
            self.greengrass.statuses[deployment] = [
                EdgeStatus(device.name, "SUCCEEDED" if device.release == wanted else "IN_PROGRESS")
                for device in group
            ]

    def _ingest(self, device: Device) -> None:
        raw = msgspec.json.encode(device.answers(self.now))
        ingest_results(
            raw,
            device.name,
            blobs=self.blobs,
            records=self.world.records,
            now=f"t{self.now:09.1f}",
            report=lambda model, drift: None,
        )


@pytest.mark.slow
def test_a_model_that_answers_worse_than_it_was_judged_stays_with_the_canaries(
    world: World, tmp_path: Path
) -> None:
    fleet = Fleet(world, tmp_path, {1: 1.0, 2: 0.5, 3: 1.0})
    assert fleet.ship(1).done
    assert {device.release for device in fleet.devices} == {1}
    with pytest.raises(
        EdgeDeploymentFailed, match=r"release 2 of digits: canaries: shop-\d's answers are not"
    ):
        fleet.ship(2)
    ran = [device for device in fleet.devices if 2 in device.ever]
    assert 0 < len(ran) <= CANARIES, "of 200 devices"
    for _ in range(CHANGE_SECONDS // LOOK_SECONDS):
        fleet.now += LOOK_SECONDS
        fleet.live()
    assert {device.release for device in fleet.devices} == {1}, "taken back, without anybody's help"
    assert fleet.ship(3).done
    assert {device.release for device in fleet.devices} == {3}, "the next one is not held against it"
