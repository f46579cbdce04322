"""slice_chaos: a training in two slices as processes, which are killed while the line between them fails.

Faults come at random moments: SIGKILL of either worker, which is started again with the same file; and bytes of the
stream that are cut off, corrupted, sent twice or in another order, every other training under TLS. `unequal` counts
those that did not end well, or whose weights, statistics, optimizer's state or losses are not those of the undisturbed
training to the bit; its first losses are compared with plain Gluon's.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from benchmarks.report import report
from benchmarks.slicing.attacks import KINDS, Course, Round, attacked, undisturbed
from isthmus.rig.environments import Environments, source_folder
from tests.functional.slices import sliced_workers

ROOT = Path(__file__).resolve().parents[1]
CACHE = Path(os.environ.get("ISTHMUS_TEST_CACHE", ROOT / ".isthmus" / "environments"))
PROGRAM = ROOT / "tests" / "functional" / "slices" / "learning_mxnet.py"
NETWORK = "mixed"
FAULTS, EACH, STEPS, EVERY = 100, 12, 300, 10


def prepared(folder: Path, steps: int, every: int) -> Course:
    """Write the network, its samples, and what plain Gluon comes to in its first steps."""
    python = Environments(CACHE).ensure("mxnet", "1.9.1")
    path = os.pathsep.join([str(source_folder(CACHE)), str(sliced_workers.lend(folder / "lent"))])
    model = folder / "model"
    launch = f"{path.partition(os.pathsep)[0]}/isthmus/frameworks/launch.py"
    command = [str(python), "-P", launch, "--framework", "mxnet", "--", str(PROGRAM), "write"]
    environment = {
        "PATH": os.defpath,
        "PYTHONPATH": path,
        "OMP_NUM_THREADS": "1",
        "MXNET_MKLDNN_ENABLED": "0",
        "MXNET_STORAGE_FALLBACK_LOG_VERBOSE": "0",
    }
    subprocess.run([*command, str(model), NETWORK], env=environment, check=True)
    return Course(python, path, model, steps, every)


def kinds_of(count: int, chance: random.Random) -> list[str]:
    """Return so many faults, each kind as often as the others, in a random order."""
    found = [KINDS[k % len(KINDS)] for k in range(count)]
    chance.shuffle(found)
    return found


def main() -> int:
    """Train undisturbed, then under faults until there were enough."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", type=int, default=FAULTS)
    parser.add_argument("--each", type=int, default=EACH, help="faults that are meant for one training")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    chance, faults, rounds = random.Random(chosen.seed), Counter[str](), list[Round]()
    with tempfile.TemporaryDirectory(prefix="isthmus-slices-") as name:
        folder = Path(name)
        course = prepared(folder, chosen.steps, EVERY)
        expected, seconds = undisturbed(course, folder / "undisturbed")
        while sum(faults.values()) < chosen.faults:
            number = len(rounds)
            kinds = kinds_of(chosen.each, chance)
            found = attacked(
                course,
                folder / f"round-{number}",
                expected,
                kinds,
                seconds / chosen.each / 4,
                chance.randrange(2**32),
                tls=number % 2 == 1,
            )
            faults.update(found.faults)
            rounds.append(found)
            wrong = found.problem or ", ".join(found.unequal) or "all equal"
            print(
                f"{number}: {dict(found.faults)}, {found.seconds:.1f} s, {wrong}", file=sys.stderr, flush=True
            )
            if not found.faults:
                raise SystemExit("no fault came before the training's end; give it more steps")
    unequal = sum(bool(each.unequal or each.problem) for each in rounds)
    report(
        "slice_chaos",
        ours=unequal,
        reference=len(rounds),
        unit="trainings",
        faults={kind: faults[kind] for kind in KINDS},
        faults_in_all=sum(faults.values()),
        faults_while_all_trained=sum(each.training for each in rounds),
        unequal=unequal,
        starts=sum(each.starts for each in rounds),
        steps=chosen.steps,
        undisturbed_seconds=round(seconds, 1),
        median_seconds=round(sorted(each.seconds for each in rounds)[len(rounds) // 2], 1),
        seed=chosen.seed,
        reference_is="the number of trainings under faults",
    )
    return int(unequal > 0)


if __name__ == "__main__":
    sys.exit(main())
