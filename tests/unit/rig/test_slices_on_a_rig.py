"""A job in slices, as a rig's runner starts it; the training itself needs a framework (tests/functional/slices)."""

from __future__ import annotations

import json
import os
import threading
from typing import Any

import msgspec
import pytest
from rig_world import World, training, zip_of

from isthmus import documents
from isthmus.errors import InvalidDocument
from isthmus.model.job import Launcher
from isthmus.model.slices import Slices
from isthmus.ports import TrainingRun
from isthmus.rig.runner import TrainingRequest

SLICES = {"cuts": [3, 7], "samples": 64, "microbatches": 2, "steps": 10, "every": 5}


def slices(**changes: Any) -> Slices:
    return documents.convert(Slices, SLICES | changes, "slices")


def run(world: World, script: str, **changes: Any) -> TrainingRun:
    code = zip_of({"train.py": script}, world.folder / "code.zip")
    wanted = training(code, slices=slices(), **changes)
    run_id = f"slices-{world.folder.name}-{os.getpid()}"
    request = TrainingRequest("n", run_id, wanted, code, {}, world.folder / "work")
    return world.runner().run(request, threading.Event())


def test_the_script_is_told_where_to_write_the_network_and_its_failure_is_the_attempts(world: World) -> None:
    says = "import os, sys\nprint(os.path.isdir(os.environ['ISTHMUS_SLICES']), *sys.argv[1:])\nraise SystemExit(7)\n"
    done = run(world, says, hyperparameters={"seed": 3})
    assert done.exit_code == 7
    assert "True --seed 3" in done.tail


def test_a_script_that_writes_no_network_fails_the_attempt_with_what_it_should_write(world: World) -> None:
    done = run(world, "")
    assert done.exit_code == 1
    assert (
        "InvalidInput: the script must write whole, served and an array NAME.npy for each input" in done.tail
    )


def test_arrays_of_other_lengths_fail_before_a_worker_is_started(world: World) -> None:
    writes = """
import os
import numpy as np
target = os.environ["ISTHMUS_SLICES"]
for name in ("whole", "served"):
    os.mkdir(os.path.join(target, name))
np.save(os.path.join(target, "data.npy"), np.zeros((4, 2)))
np.save(os.path.join(target, "label.npy"), np.zeros(3))
"""
    done = run(world, writes)
    assert "InvalidInput: the arrays must have as many rows each" in done.tail
    assert "is process" not in done.tail


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"cuts": []}, "cuts"),
        ({"cuts": [7, 3]}, "cuts need to grow, and are 7, 3"),
        ({"microbatches": 3}, "as many samples in each micro-batch, and has 64 in 3"),
        ({"cuts": [3], "shape": "u"}, "the shape u needs three slices or more"),
        ({"steps": 0}, "steps"),
        ({"batch": 3}, "batch"),
    ],
)
def test_slices_that_cannot_be_are_refused_with_what_is_wrong(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidDocument, match=said):
        slices(**changes)


def test_the_last_of_a_u_is_the_first_workers() -> None:
    assert (slices().workers, slices(shape="u").workers) == (3, 2)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"distribution": {"torch_distributed": Launcher()}}, "leave out distribution"),
        ({"input_mode": "Pipe"}, "leave out input_mode Pipe"),
    ],
)
def test_a_launcher_or_pipes_beside_slices_are_refused(
    world: World, changes: dict[str, Any], said: str
) -> None:
    code = zip_of({"train.py": ""}, world.folder / "code.zip")
    with pytest.raises(ValueError, match=said):
        training(code, slices=slices(), **changes)


def test_a_job_without_slices_has_the_digest_that_it_had(world: World) -> None:
    code = zip_of({"train.py": ""}, world.folder / "code.zip")
    assert "slices" not in json.loads(msgspec.json.encode(training(code)))
