"""What CreateTrainingJob would refuse of a job, asked before it is planned for SageMaker.

Limits: Amazon SageMaker API reference, CreateTrainingJob, ``Channel`` and ``StoppingCondition``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

import msgspec

from isthmus.model.job import Training

OUR_CHANNEL = "isthmus_code"
OUR_HYPERPARAMETERS = 2
MAX_CHANNELS, MAX_HYPERPARAMETERS = 20, 100
MAX_NAME, MAX_KEY, MAX_VALUE = 64, 256, 2500
NAME = re.compile(r"[A-Za-z0-9.\-_]+")
DAY = 86_400
MAX_RUNTIME_SECONDS = 28 * DAY


def unfit(training: Training, channels: Iterable[str]) -> str:
    """Return why SageMaker would not take a training with these channels, or an empty text."""
    if training.slices is not msgspec.UNSET:
        return "slices are trained on a rig; SageMaker does not start them"
    names = set(channels)
    if len(names) + 1 > MAX_CHANNELS:
        return (
            f"SageMaker takes {MAX_CHANNELS - 1} channels (the first folders of a dataset's files) beside ours; "
            f"there are {len(names)}"
        )
    for name in sorted(names):
        if name == OUR_CHANNEL or len(name) > MAX_NAME or not NAME.fullmatch(name):
            return (
                f"SageMaker's channels have names of at most {MAX_NAME} letters, digits, dots, dashes and underscores, "
                f"and not {OUR_CHANNEL}; a first folder of the dataset is {name!r}"
            )
    if training.deadline_seconds > MAX_RUNTIME_SECONDS:
        return (
            f"SageMaker trains for {MAX_RUNTIME_SECONDS // DAY} days at the most; the job's deadline is "
            f"{training.deadline_seconds / DAY:.1f}"
        )
    return _unfit_hyperparameters(training)


def _unfit_hyperparameters(training: Training) -> str:
    given, most = training.hyperparameters, MAX_HYPERPARAMETERS - OUR_HYPERPARAMETERS
    if len(given) > most:
        return f"SageMaker takes {most} hyperparameters beside ours; the job has {len(given)}"
    for name, value in given.items():
        if len(name) > MAX_KEY or len(json.dumps(value)) > MAX_VALUE:
            return (
                f"SageMaker's hyperparameters have names of at most {MAX_KEY} characters and values of {MAX_VALUE}; "
                f"{name[:40]} has more"
            )
    return ""
