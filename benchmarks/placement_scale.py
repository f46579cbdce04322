"""placement_scale: how long the planner takes to decide a queue of 100 jobs among 1,000 devices.

`ours` is the seconds of all hundred decisions, one after the other, each with the waits that those before it made: the
middle one of five rounds. `reference` is the seconds that the goal allows. `one_plan_seconds` is of one decision with
the reasons for all thousand devices put into words, as a plan has them. What is read from the table is in neither.
"""

from __future__ import annotations

import random
import statistics
import sys
import time

from benchmarks.report import report
from isthmus.errors import NoPlacement
from isthmus.model.blob import BlobRef
from isthmus.model.cloud import CloudTraining
from isthmus.model.device import Accelerator, DeviceDescriptor
from isthmus.model.job import Framework, Job, Resources, Training, Wishes
from isthmus.model.policy import DataPolicy
from isthmus.model.units import GIB
from isthmus.planning.choice import Outlook, choose
from isthmus.planning.cloud_devices import training_devices

DEVICES, JOBS, ROUNDS, GOAL_SECONDS = 1000, 100, 5, 0.2
IMAGES = {"mxnet-1.9.1": "123456789012.dkr.ecr.eu-west-1.amazonaws.com/training:mxnet-1.9.1"}
TYPES = ("ml.m5.xlarge", "ml.c5.2xlarge", "ml.g4dn.xlarge", "ml.g5.xlarge")


def rigs(numbers: random.Random) -> list[DeviceDescriptor]:
    """Return rigs that differ in all that the rules ask for."""
    return [
        DeviceDescriptor(
            id=f"rig-{number}",
            kind="rig",
            zone=f"onprem-{numbers.choice(('milan', 'turin', 'rome'))}",
            arch="x86_64",
            cores=numbers.choice((8, 16, 64)),
            memory_bytes=numbers.choice((16, 64, 256)) * GIB,
            disk_free_bytes=1 << 40,
            accelerators=(Accelerator(model="RTX 4090", memory_bytes=24 * GIB),)
            * numbers.choice((0, 1, 2, 8)),
            frameworks={"mxnet": ("1.9.1",)} if numbers.random() < 0.7 else {"torch": ("2.13.0",)},
            price_per_hour_usd=round(numbers.uniform(0.1, 2.0), 2),
        )
        for number in range(DEVICES - len(TYPES))
    ]


def jobs(numbers: random.Random) -> list[Job]:
    """Return jobs that differ in what they need and wish for."""
    code = BlobRef(key="code/c.zip", sha256="0" * 64, size_bytes=1)
    return [
        Job(
            model=f"model-{number % 10}",
            source=Training(
                framework=Framework(name="mxnet", version="1.9.1"),
                entry_point="train.py",
                code=code,
                resources=Resources(
                    accelerators=numbers.choice((0, 1, 2)), memory_bytes=numbers.choice((8, 32)) * GIB
                ),
                deadline_seconds=numbers.choice((600, 3600, 7200)),
                queue_deadline_seconds=7200,
            ),
            wishes=Wishes(max_cost_usd=numbers.choice((None, 1.0, 5.0))),
        )
        for number in range(JOBS)
    ]


def decide(queue: list[Job], devices: list[DeviceDescriptor], policy: DataPolicy) -> int:
    """Place one job after the other, each as a call of its own would; return how many found a device."""
    waits: dict[str, float] = {}
    placed = 0
    for job in queue:
        if not isinstance(job.source, Training):
            continue
        try:
            choice = choose(job, job.source, devices, policy, Outlook(waits=waits, left=7200.0))
        except NoPlacement:
            continue
        placed += 1
        if choice.device.kind == "rig":
            waits[choice.device.id] = waits.get(choice.device.id, 0.0) + choice.expected_seconds
    return placed


def main() -> None:
    """Decide the queue several times."""
    numbers = random.Random(7)
    cloud = training_devices(CloudTraining(instance_types=TYPES, images=IMAGES), "aws:eu-west-1")
    devices, queue = [*rigs(numbers), *cloud], jobs(numbers)
    policy = DataPolicy(zones=("onprem-*", "aws:eu-west-1"))
    rounds, placed = [], 0
    for _ in range(ROUNDS):
        started = time.perf_counter()
        placed = decide(queue, devices, policy)
        rounds.append(time.perf_counter() - started)
        print(f"{rounds[-1]:.3f} s, {placed} of {len(queue)} placed", file=sys.stderr)
    plans = []
    for job in queue[:ROUNDS]:
        started = time.perf_counter()
        if isinstance(job.source, Training):
            said = choose(job, job.source, devices, policy, Outlook(left=7200.0)).refusals
            plans.append(time.perf_counter() - started)
            print(f"{plans[-1]:.4f} s with {len(said)} reasons", file=sys.stderr)
    report(
        "placement_scale",
        ours=statistics.median(rounds),
        reference=GOAL_SECONDS,
        unit="s",
        devices=len(devices),
        jobs=len(queue),
        placed=placed,
        one_plan_seconds=round(statistics.median(plans), 6),
        rounds=[round(seconds, 4) for seconds in rounds],
        reference_is="the seconds that the goal allows",
    )


if __name__ == "__main__":
    main()
